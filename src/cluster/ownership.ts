/**
 * Stamps that make a machine ours in MAAS: `agent_name` (set by allocate itself, filterable, invisible in
 * the JSON, wiped when a release starts) and workload annotations (visible, kept through failures, wiped
 * when the release ends). Both name gateway, cluster, node and operation. No stamp, no touch.
 */
import type { MaasClient, Machine } from '../maas/client.ts';

export interface Stamp {
  readonly gateway: string;
  readonly cluster: string;
  readonly node: string;
  readonly operation: string;
}

export const ANNOTATION = {
  gateway: 'pcg-gateway',
  cluster: 'pcg-cluster',
  clusterName: 'pcg-cluster-name',
  node: 'pcg-node',
  pool: 'pcg-pool',
  role: 'pcg-role',
  operation: 'pcg-operation',
  endpoint: 'pcg-endpoint',
} as const;

/** `<gateway>.<cluster>.<node>.<operation>`: none of the parts may hold a dot (ids and labels do not). */
export function agentName(stamp: Stamp): string {
  return `${stamp.gateway}.${stamp.cluster}.${stamp.node}.${stamp.operation}`;
}

export function parseAgentName(text: string): Stamp | undefined {
  const parts = text.split('.');
  const [gateway, cluster, node, operation] = parts;
  if (parts.length !== 4 || !gateway || !cluster || !node || !operation) return undefined;
  return { gateway, cluster, node, operation };
}

/** The stamp itself, readable again by `stampOf`. */
export function stampMarks(stamp: Stamp): Record<string, string> {
  return {
    [ANNOTATION.gateway]: stamp.gateway,
    [ANNOTATION.cluster]: stamp.cluster,
    [ANNOTATION.node]: stamp.node,
    [ANNOTATION.operation]: stamp.operation,
  };
}

export function annotations(
  stamp: Stamp,
  extra: { clusterName: string; pool: string; role: string; endpoint?: string | undefined },
): Record<string, string> {
  return {
    ...stampMarks(stamp),
    [ANNOTATION.clusterName]: extra.clusterName,
    [ANNOTATION.pool]: extra.pool,
    [ANNOTATION.role]: extra.role,
    ...(extra.endpoint === undefined ? {} : { [ANNOTATION.endpoint]: extra.endpoint }),
  };
}

/** The stamp in a machine's annotations; undefined when it is not complete. */
export function stampOf(machine: Machine): Stamp | undefined {
  const gateway = machine.annotations[ANNOTATION.gateway];
  const cluster = machine.annotations[ANNOTATION.cluster];
  const node = machine.annotations[ANNOTATION.node];
  const operation = machine.annotations[ANNOTATION.operation];
  if (!gateway || !cluster || !node || !operation) return undefined;
  return { gateway, cluster, node, operation };
}

export function sameStamp(a: Stamp | undefined, b: Stamp): boolean {
  return (
    a !== undefined &&
    a.gateway === b.gateway &&
    a.cluster === b.cluster &&
    a.node === b.node &&
    a.operation === b.operation
  );
}

export type Ownership =
  | { readonly kind: 'ours'; readonly machine: Machine }
  /** Free, or somebody else's: never to be touched. */
  | { readonly kind: 'not-ours'; readonly machine: Machine | undefined };

/** Somebody had stamped the machine before MAAS gave it away under this stamp as well: it is theirs. */
export function isStampedByAnother(machine: Machine, stamp: Stamp): boolean {
  const theirs = stampOf(machine);
  return theirs !== undefined && !sameStamp(theirs, stamp);
}

/**
 * Asks MAAS now. Every release, abort and power command goes through this, because a machine may have been
 * released by hand and given to somebody else since we last looked. The agent name decides where it still
 * stands, unless the machine carries another stamp; the annotations decide while a release is under way.
 */
export async function verifyOwnership(
  maas: MaasClient,
  systemId: string,
  stamp: Stamp,
  signal: AbortSignal,
): Promise<Ownership> {
  const stamped = await maas.machines.list({ ids: [systemId], agentName: agentName(stamp) }, signal);
  const exact = stamped.find((machine) => machine.systemId === systemId);
  if (exact) return { kind: isStampedByAnother(exact, stamp) ? 'not-ours' : 'ours', machine: exact };
  const machine = await maas.machines.get(systemId, signal);
  if (machine && machine.owner !== undefined && sameStamp(stampOf(machine), stamp))
    return { kind: 'ours', machine };
  return { kind: 'not-ours', machine };
}
