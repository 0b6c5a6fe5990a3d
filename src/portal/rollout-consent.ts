/**
 * A change that replaces nodes waits for approval. Until it has it, the portal keeps what the nodes were made
 * from before, so that "reject" can put exactly that back, even when the profile was edited since.
 */
import { PcgError } from '../base/errors.ts';
import { type ClusterSpec, type ClusterStatus, ClusterStatusSchema } from '../contract/cluster.ts';
import type { ResolvedProfile } from '../contract/profile.ts';
import type { ClustersTable } from './store/schema.ts';

/** The parts of a cluster that decide what its nodes are made from. */
interface Settled {
  readonly spec: Pick<ClusterSpec, 'profile' | 'packValues' | 'nodes'>;
  readonly profile: ResolvedProfile;
}

/** For the column `settled`, when a specification is replaced: what to go back to. */
export function settledBefore(row: ClustersTable): string {
  const waiting = unapproved(row);
  if (waiting) return JSON.stringify(waiting);
  const { profile, packValues, nodes } = JSON.parse(row.spec) as ClusterSpec;
  return JSON.stringify({
    spec: { profile, packValues, nodes },
    profile: JSON.parse(row.profile),
  } satisfies Settled);
}

/** The profile that the nodes run: that before a change which nobody has approved yet. */
export function runningProfile(row: ClustersTable): ResolvedProfile {
  return unapproved(row)?.profile ?? (JSON.parse(row.profile) as ResolvedProfile);
}

/** The plan that the gateway reported must be the one that is answered. */
export function requirePlan(row: ClustersTable, plan: string): void {
  const waiting = statusOf(row)?.rollout;
  if (waiting?.plan === plan) return;
  throw new PcgError('CONFLICT', `no plan ${plan} waits for an answer`, {
    field: 'plan',
    fix: waiting ? `Look at the newest plan, ${waiting.plan}.` : 'There is nothing to approve or reject.',
  });
}

/** Columns that take the waiting change back. What needed no approval (sizes, policies) stays. */
export function takeBack(row: ClustersTable, plan: string): Partial<ClustersTable> {
  requirePlan(row, plan);
  const settled = unapproved(row);
  if (!settled || statusOf(row)?.rollout?.state !== 'preview')
    throw new PcgError('CONFLICT', 'the change is approved: nodes are being replaced', {
      field: 'plan',
      fix: 'Choose the profile that you want with another change; the newest one wins.',
    });
  return {
    spec: JSON.stringify({ ...(JSON.parse(row.spec) as ClusterSpec), ...settled.spec }),
    profile: JSON.stringify(settled.profile),
    profile_id: settled.spec.profile,
    settled: null,
  };
}

function unapproved(row: ClustersTable): Settled | undefined {
  if (row.settled === null) return undefined;
  const status = statusOf(row);
  const carriedOut =
    status !== undefined && status.observedGeneration >= row.generation && status.rollout === undefined;
  return carriedOut ? undefined : (JSON.parse(row.settled) as Settled);
}

function statusOf(row: ClustersTable): ClusterStatus | undefined {
  return row.status === null ? undefined : ClusterStatusSchema.parse(JSON.parse(row.status));
}
