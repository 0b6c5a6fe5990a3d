/**
 * What one node is, from its record and the picture: a single union that plan, conditions and progress share,
 * so that they can never disagree about a node.
 */
import type { Machine } from '../maas/client.ts';
import type { ClusterRecord, NodeRecord } from './model.ts';
import type { KubeNode, Observed } from './observed.ts';
import { stampOf, sameStamp } from './ownership.ts';

export type Situation =
  | { readonly kind: 'unclaimed' }
  | { readonly kind: 'claiming' }
  /** Held, but the picture is too old to say more. */
  | { readonly kind: 'unknown' }
  /** Held according to us, not ours according to MAAS. */
  | { readonly kind: 'lost'; readonly why: string }
  | { readonly kind: 'allocated'; readonly machine: Machine }
  | { readonly kind: 'deploying'; readonly machine: Machine }
  | { readonly kind: 'deploy-failed'; readonly machine: Machine }
  /** A state that nobody deploys in: broken, rescue mode, testing. */
  | { readonly kind: 'out-of-order'; readonly machine: Machine }
  /** The OS runs; no Node object has ever been seen. */
  | { readonly kind: 'booted'; readonly machine: Machine }
  | { readonly kind: 'joined'; readonly machine: Machine | undefined; readonly node: KubeNode }
  | { readonly kind: 'ready'; readonly machine: Machine | undefined; readonly node: KubeNode }
  /** Had joined; the API server does not answer now. */
  | { readonly kind: 'unobserved'; readonly machine: Machine | undefined }
  /** Had joined; the API server answers and has no such Node. */
  | { readonly kind: 'vanished'; readonly machine: Machine | undefined }
  | { readonly kind: 'releasing'; readonly machine: Machine | undefined }
  | { readonly kind: 'released' };

/** The Node of a machine: by provider id, else by name. */
export function kubeNodeOf(node: NodeRecord, observed: Observed): KubeNode | undefined {
  if (observed.kube.kind !== 'reachable') return undefined;
  const claim = node.claim;
  if (claim.kind !== 'held' && claim.kind !== 'releasing') return undefined;
  const nodes = observed.kube.nodes;
  return (
    nodes.find((candidate) => candidate.systemId === claim.systemId) ??
    nodes.find(
      (candidate) =>
        candidate.systemId === undefined &&
        (candidate.name === claim.hostname || candidate.name === node.name),
    )
  );
}

export function situationOf(node: NodeRecord, observed: Observed): Situation {
  const claim = node.claim;
  switch (claim.kind) {
    case 'none':
      return { kind: 'unclaimed' };
    case 'claiming':
      return { kind: 'claiming' };
    case 'released':
      return { kind: 'released' };
    case 'releasing':
      return { kind: 'releasing', machine: observed.machines.get(claim.systemId)?.machine };
    case 'held':
      return held(node, claim, observed);
  }
}

function held(
  node: NodeRecord,
  claim: Extract<NodeRecord['claim'], { kind: 'held' }>,
  observed: Observed,
): Situation {
  const reading = observed.machines.get(claim.systemId);
  const kubeNode = kubeNodeOf(node, observed);
  const machine = reading?.machine;
  // A reading from before the claim says nothing about the claim.
  const telling = reading !== undefined && reading.at >= claim.since;
  if (machine === undefined) {
    if (kubeNode) return { kind: kubeNode.ready ? 'ready' : 'joined', machine, node: kubeNode };
    return telling
      ? { kind: 'lost', why: 'MAAS no longer shows the machine to this account' }
      : { kind: 'unknown' };
  }
  if (!telling) return { kind: 'unknown' };
  // What runs is not lost, whatever MAAS says of its owner: a Ready node is never taken apart on such news.
  if (kubeNode?.ready) return { kind: 'ready', machine, node: kubeNode };
  if (machine.owner === undefined)
    return { kind: 'lost', why: `the machine was released in MAAS and is ${machine.statusName}` };
  if (!sameStamp(stampOf(machine), claim.stamp))
    return { kind: 'lost', why: 'the machine was given to somebody else in MAAS' };
  switch (machine.status) {
    case 'allocated':
    case 'reserved':
      return { kind: 'allocated', machine };
    case 'deploying':
      return { kind: 'deploying', machine };
    case 'failed_deployment':
      return { kind: 'deploy-failed', machine };
    case 'deployed':
      if (kubeNode) return { kind: kubeNode.ready ? 'ready' : 'joined', machine, node: kubeNode };
      if (node.joinedAt === undefined) return { kind: 'booted', machine };
      return { kind: observed.kube.kind === 'reachable' ? 'vanished' : 'unobserved', machine };
    case 'releasing':
    case 'failed_releasing':
    case 'disk_erasing':
    case 'failed_disk_erasing':
    case 'ready':
    case 'new':
      // Still stamped and owned, yet on its way out: somebody else released it.
      return {
        kind: 'lost',
        why: `the machine is ${machine.statusName}: it was released outside the gateway`,
      };
    case 'broken':
    case 'commissioning':
    case 'failed_commissioning':
    case 'missing':
    case 'retired':
    case 'rescue_mode':
    case 'entering_rescue_mode':
    case 'failed_entering_rescue_mode':
    case 'exiting_rescue_mode':
    case 'failed_exiting_rescue_mode':
    case 'testing':
    case 'failed_testing':
    case 'unknown':
      return { kind: 'out-of-order', machine };
  }
}

export interface NodeSituation {
  readonly node: NodeRecord;
  readonly situation: Situation;
}

export function situations(record: ClusterRecord, observed: Observed): NodeSituation[] {
  return record.nodes.map((node) => ({ node, situation: situationOf(node, observed) }));
}
