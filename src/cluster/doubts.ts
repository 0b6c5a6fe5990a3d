/** Doubts of a cluster: agent names to look up again, because an answer of allocate was lost or wrong. */
import { type Claim, type ClusterRecord, type Doubt, withNode } from './model.ts';
import { sameStamp, type Stamp } from './ownership.ts';
import type { Step } from './steps.ts';

export type Claiming = Extract<Claim, { kind: 'claiming' }>;

export const doubtsOf = (record: ClusterRecord): readonly Doubt[] => record.doubts ?? [];

export function planDoubts(record: ClusterRecord): Step[] {
  return doubtsOf(record).map(({ stamp }) => ({ kind: 'settle-doubt', operation: stamp.operation }));
}

/**
 * The node's claim becomes `next`; what is not certain about the call stays as a doubt, in the same write. A claim
 * that is not on disk any more was left before: nothing changes.
 */
export function leaveClaim(
  record: ClusterRecord,
  name: string,
  claim: Claiming,
  next: Claim,
  left: Pick<Doubt, 'machines'> & { readonly until: number | undefined },
): ClusterRecord {
  const node = record.nodes.find((candidate) => candidate.name === name);
  if (node?.claim.kind !== 'claiming' || !sameStamp(node.claim.stamp, claim.stamp)) return record;
  const after = withNode(record, name, (current) => ({ ...current, claim: next }));
  if (left.until === undefined && left.machines.length === 0) return after;
  const { stamp, systemId } = claim;
  const doubt: Doubt = { stamp, systemId, until: left.until ?? 0, machines: left.machines };
  return { ...after, doubts: [...doubtsOf(record), doubt] };
}

/** The doubt with other machines, or none of it. */
export function changeDoubt(
  record: ClusterRecord,
  stamp: Stamp,
  change: (doubt: Doubt) => Doubt | undefined,
): ClusterRecord {
  const doubts = doubtsOf(record).flatMap((doubt) =>
    sameStamp(doubt.stamp, stamp) ? (change(doubt) ?? []) : doubt,
  );
  if (doubts.length === doubtsOf(record).length && doubts.every((one) => doubtsOf(record).includes(one)))
    return record;
  const { doubts: _before, ...rest } = record;
  return doubts.length === 0 ? rest : { ...rest, doubts };
}

/** The machine that a node holds under this stamp. */
export function holderOf(record: ClusterRecord, stamp: Stamp): string | undefined {
  for (const { claim } of record.nodes)
    if ((claim.kind === 'held' || claim.kind === 'releasing') && sameStamp(claim.stamp, stamp))
      return claim.systemId;
  return undefined;
}
