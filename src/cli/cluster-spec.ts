/** Specifications of clusters on their way to the portal: read from YAML, names made ids, tried at the site. */
import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { PcgError } from '../base/errors.ts';
import { type PlacementReport, PlacementReportSchema } from '../contract/api.ts';
import { type Cluster, ClusterSchema, type ClusterSpec } from '../contract/cluster.ts';
import { DEFAULT_PROFILE } from '../contract/default-profile.ts';
import { type Profile, ProfileSchema } from '../contract/profile.ts';
import type { CliContext } from './context.ts';
import { placementLines } from './placement-text.ts';
import type { PortalClient } from './portal-client.ts';

const NamedSchema = z.object({ items: z.array(z.object({ id: z.string(), name: z.string() })) });

/** A YAML map; whether it is a specification is the portal's to judge, field by field. */
export function readSpec(path: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = parseYaml(readFileSync(path, 'utf8'));
  } catch (cause) {
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw new PcgError('INVALID_INPUT', `cannot read ${path} as YAML: ${reason}`, {
      field: 'spec-file',
      cause,
    });
  }
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed))
    return parsed as Record<string, unknown>;
  throw new PcgError('INVALID_INPUT', `${path} holds no specification`, {
    field: 'spec-file',
    fix: 'Give a map with name, cloudAccount, profile and pools.',
  });
}

export const cloudAccountId = (context: CliContext, client: PortalClient, wanted: unknown) =>
  idOf(context, client, '/api/v1/cloud-accounts', 'cloudAccount', wanted);
export const profileId = (context: CliContext, client: PortalClient, wanted: unknown) =>
  idOf(context, client, '/api/v1/profiles', 'profile', wanted, DEFAULT_PROFILE.id);

/** The one that is taken when a specification names none comes first. */
export async function listProfiles(context: CliContext, client: PortalClient): Promise<Profile[]> {
  return z
    .object({ items: z.array(ProfileSchema) })
    .parse(await client.call('GET', '/api/v1/profiles', undefined, context.signal)).items;
}

/** By name or id; without any, the only one there is, or `usual`. */
async function idOf(
  context: CliContext,
  client: PortalClient,
  path: string,
  field: string,
  wanted: unknown,
  usual?: string,
): Promise<string> {
  const { items } = NamedSchema.parse(await client.call('GET', path, undefined, context.signal));
  const found =
    wanted === undefined && items.length === 1
      ? items[0]
      : items.find(({ id, name }) =>
          wanted === undefined ? id === usual : id === wanted || name === wanted,
        );
  if (found) return found.id;
  throw new PcgError('INVALID_INPUT', `there is no ${field} "${String(wanted)}"`, {
    field: `spec.${field}`,
    fix: `Known: ${items.map(({ name }) => name).join(', ') || 'none'}.`,
  });
}

export async function changeSpec(
  context: CliContext,
  client: PortalClient,
  { id, generation }: Cluster,
  spec: ClusterSpec,
): Promise<Cluster> {
  return ClusterSchema.parse(
    await client.call('PUT', `/api/v1/clusters/${id}/spec`, { generation, spec }, context.signal),
  );
}

/** Prints whether the site could place it now. Throws the first problem when not. */
export async function explain(
  context: CliContext,
  client: PortalClient,
  spec: Record<string, unknown>,
): Promise<void> {
  const { cloudAccount, pools, network, domain } = spec;
  const report = PlacementReportSchema.parse(
    await client.call(
      'POST',
      `/api/v1/cloud-accounts/${String(cloudAccount)}/explain`,
      { pools, network, domain },
      context.signal,
    ),
  );
  printPlacement(context, report);
  const [problem] = report.problems;
  if (report.feasible) return;
  throw new PcgError(problem?.code ?? 'NOT_ENOUGH_MACHINES', problem?.message ?? 'it cannot be placed now', {
    fix: problem?.fix,
    field: problem?.field,
  });
}

export function printPlacement(context: CliContext, report: PlacementReport): void {
  if (context.json) return context.event(report);
  for (const line of placementLines(report)) context.out(line);
  for (const problem of report.problems) context.out(`${problem.code}: ${problem.message}; ${problem.fix}`);
}
