/**
 * Everything the engine can do, as data. A step is named by its key (kind + subject): the same key never runs
 * twice at once, and a restart that plans the same step continues the same work. Every step is idempotent:
 * "already so" is success. Executors live in steps/*, one total record over this union.
 */
import type { ProblemDetails } from '../contract/errors.ts';
import type { RemovalReason } from './model.ts';

export type Step =
  // ---- the cluster as a whole ----
  /** Keys and certificates. */
  | { readonly kind: 'prepare' }
  /** No machine of an earlier life of this cluster may exist that the record does not know. */
  | { readonly kind: 'check-origin' }
  /** Validate against the site: zones, pools, image, ranges, and enough machines. */
  | { readonly kind: 'check-placement' }
  | { readonly kind: 'reserve-endpoint' }
  /** maas-dns: the A records are these addresses. Never an empty set. */
  | { readonly kind: 'publish-endpoint'; readonly addresses: readonly string[] }
  | {
      readonly kind: 'add-nodes';
      readonly pool: string;
      readonly role: 'control-plane' | 'worker';
      readonly count: number;
    }
  | {
      readonly kind: 'remove-nodes';
      readonly nodes: readonly { readonly name: string; readonly reason: RemovalReason }[];
    }
  /** Which joining control-plane node becomes the one that runs init. */
  | { readonly kind: 'elect-init'; readonly node: string }
  | { readonly kind: 'grant-rights' }
  | { readonly kind: 'apply-pack'; readonly pack: string; readonly hash: string }
  /** A pack that left the profile. */
  | { readonly kind: 'remove-pack'; readonly pack: string }
  /** Labels and taints of the pool on its Nodes. */
  | { readonly kind: 'adjust-node'; readonly node: string }
  /** A snapshot before a new minor, kubeadm's stored configuration, and the RBAC objects that only `kubeadm upgrade` would make. */
  | { readonly kind: 'prepare-upgrade'; readonly version: string }
  /** kube-proxy and CoreDNS, which replacing nodes does not change. */
  | { readonly kind: 'upgrade-addons'; readonly version: string }
  /** An etcd member that belongs to no machine and keeps others from joining. */
  | { readonly kind: 'remove-stray-member'; readonly member: string }
  /** When the first certificate of the control plane ends. */
  | { readonly kind: 'check-certificates' }
  /** The endpoint does not answer although the control plane does. */
  | { readonly kind: 'report-endpoint' }
  /** No machine is left that ran the control plane, or none of them has answered for a long time. */
  | { readonly kind: 'report-loss'; readonly of: 'machines' | 'answers' }
  | { readonly kind: 'run-policy'; readonly policy: string }
  /** Velero learns target, credentials and schedule, or loses them: empty hash. */
  | { readonly kind: 'set-up-backups'; readonly hash: string }
  | { readonly kind: 'acknowledge-action'; readonly id: string }
  | { readonly kind: 'settle' }
  // ---- one node ----
  | { readonly kind: 'allocate'; readonly node: string }
  | { readonly kind: 'deploy'; readonly node: string }
  | { readonly kind: 'grant-token'; readonly node: string }
  | { readonly kind: 'revoke-token'; readonly node: string }
  | { readonly kind: 'abort-deploy'; readonly node: string }
  /** Evidence, quarantine, then replacement while the limit allows. */
  | { readonly kind: 'fail-node'; readonly node: string; readonly problem: ProblemDetails }
  | { readonly kind: 'power-cycle'; readonly node: string }
  /** Certificates of kubeadm, in place. */
  | { readonly kind: 'renew-certificates'; readonly node: string }
  | { readonly kind: 'cordon-node'; readonly node: string; readonly on: boolean }
  | { readonly kind: 'drain-node'; readonly node: string }
  | { readonly kind: 'remove-etcd-member'; readonly node: string }
  | { readonly kind: 'settle-claim'; readonly node: string }
  | { readonly kind: 'release'; readonly node: string }
  /** Look an agent name up whose allocation was answered late, wrongly or not at all. */
  | { readonly kind: 'settle-doubt'; readonly operation: string }
  | { readonly kind: 'delete-node-object'; readonly node: string }
  | { readonly kind: 'forget-node'; readonly node: string }
  // ---- the end ----
  | { readonly kind: 'begin-delete'; readonly reason: 'delete' | 'abort' | 'force' }
  /** Machines that carry this cluster's stamp and that no node knows. */
  | { readonly kind: 'release-strays' }
  | { readonly kind: 'release-endpoint' }
  | { readonly kind: 'finish-delete' }
  | { readonly kind: 'force-delete' };

export type StepKind = Step['kind'];

/** What the step works on; one subject is worked on by one step at a time. */
export function subjectOf(step: Step): string {
  if ('node' in step) return `node/${step.node}`;
  if (step.kind === 'apply-pack' || step.kind === 'remove-pack') return `pack/${step.pack}`;
  if (step.kind === 'run-policy') return `policy/${step.policy}`;
  if (step.kind === 'settle-doubt') return `doubt/${step.operation}`;
  if (step.kind === 'set-up-backups') return 'policy/backup';
  if (step.kind === 'remove-stray-member') return `etcd/${step.member}`;
  if (step.kind === 'check-origin') return 'origin';
  if (step.kind === 'check-certificates') return 'certificates';
  if (step.kind === 'report-endpoint') return 'endpoint';
  if (step.kind === 'report-loss') return 'control-plane';
  return 'cluster';
}

export function keyOf(step: Step): string {
  return `${step.kind}:${subjectOf(step)}`;
}

/** Takes a member out of etcd: one of them at a time in one cluster. */
export function shrinksEtcd(step: Step): boolean {
  return step.kind === 'remove-etcd-member' || step.kind === 'remove-stray-member';
}

/**
 * Steps that a delete or abort need not wait for. An allocate is short and must be known to its end: its
 * outcome decides what has to be released.
 */
const UNINTERRUPTED: ReadonlySet<StepKind> = new Set<StepKind>([
  'allocate',
  'settle-claim',
  'settle-doubt',
  'reserve-endpoint',
  'prepare',
  'add-nodes',
  'begin-delete',
  'release',
  'release-strays',
  'release-endpoint',
  'finish-delete',
  'force-delete',
]);

export function isInterruptible(step: Step): boolean {
  return !UNINTERRUPTED.has(step.kind);
}
