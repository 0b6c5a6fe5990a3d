/**
 * Does the site have the machines? Asked through the gateway before anything is stored, so that a cluster
 * which cannot be placed is refused with the rule that rejects most machines and the nearest fix (X4).
 */
import { PcgError } from '../base/errors.ts';
import { type PlacementReport, PlacementReportSchema } from '../contract/api.ts';
import type { ClusterSpec } from '../contract/cluster.ts';
import type { Principal } from '../tunnel/ports.ts';
import { askAgentFor } from './agent-questions.ts';
import type { Portal } from './portal.ts';

export interface PlacementQuestion {
  readonly gateway: string;
  readonly account: string;
  readonly pools: ClusterSpec['pools'];
  readonly network: ClusterSpec['network'];
  readonly image: string | undefined;
  readonly domain: string | undefined;
  /** Do not wait for a complete list of a large site. */
  readonly hurried?: boolean;
}

export async function explainPlacement(
  portal: Portal,
  question: PlacementQuestion,
  principal: Principal,
): Promise<PlacementReport> {
  const { pools, network, image, domain, hurried = false } = question;
  return await askAgentFor(
    portal,
    question.gateway,
    {
      method: 'POST',
      path: `/v1/accounts/${question.account}/explain`,
      body: { pools, network, hurried, image, domain },
      principal,
    },
    PlacementReportSchema,
  ).catch((error: unknown) => {
    throw error instanceof PcgError ? blameAccount(error) : error;
  });
}

/** What MAAS itself says (down, key refused) comes with the account that was chosen. */
function blameAccount(error: PcgError): PcgError {
  if (error.field !== undefined || !error.code.startsWith('MAAS_')) return error;
  const { code, message, fix, retryable, details } = error;
  return new PcgError(code, message, {
    fix,
    retryable,
    details,
    field: 'spec.cloudAccount',
    cause: error,
  });
}

/** Throws the first problem of an infeasible report, with the whole report as evidence. */
export function refuseInfeasible(report: PlacementReport): void {
  if (report.feasible) return;
  const problem = report.problems[0];
  if (problem)
    throw new PcgError(problem.code, problem.message, {
      fix: problem.fix,
      retryable: problem.retryable,
      field: problem.field === undefined ? undefined : inSpec(problem.field),
      details: { ...problem.details, report },
    });
  const short = report.pools.find((pool) => pool.matching - pool.contested < pool.wanted);
  throw new PcgError(
    'NOT_ENOUGH_MACHINES',
    short
      ? `pool ${short.pool} wants ${short.wanted} machine(s), ${short.matching - short.contested} fit`
      : 'the site cannot place this cluster',
    { fix: short?.nearestFix, details: { report } },
  );
}

function inSpec(field: string): string {
  return field.startsWith('spec.') ? field : `spec.${field}`;
}
