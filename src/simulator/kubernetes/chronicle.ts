/**
 * What happened to one cluster, moment by moment: every change of etcd's membership and of a Node that matters to
 * its users, with the state right after it. Written by the double itself as it happens, so nothing is missed between
 * two looks and clients cannot influence it.
 */
import type { Change, ObjectStore } from './api/store.ts';
import type { Json } from './api/json.ts';
import { R } from './api/resources.ts';
import type { EtcdCluster } from './etcd/members.ts';

export interface Moment {
  readonly cluster: string;
  /** Wall clock, milliseconds. */
  readonly at: number;
  readonly what:
    | {
        readonly kind: 'member-added' | 'member-removed' | 'member-promoted' | 'member-up' | 'member-down';
        readonly member: string;
      }
    | { readonly kind: 'node-added' | 'node-removed' | 'node-changed'; readonly node: string };
  readonly voters: number;
  readonly votersUp: number;
  readonly learners: number;
  readonly quorum: boolean;
  readonly readyControlPlanes: number;
  /** Ready workers that take new pods. */
  readonly workers: number;
  /** kubelet versions by Node; those of control-plane nodes are their API servers' too. */
  readonly versions: readonly {
    readonly node: string;
    readonly controlPlane: boolean;
    readonly version: string;
  }[];
}

/** Moments kept per cluster. */
const KEPT = 5_000;

interface Member {
  readonly name: string;
  readonly up: boolean;
  readonly learner: boolean;
}

export class Chronicle {
  readonly #cluster: string;
  readonly #store: ObjectStore;
  readonly #etcd: EtcdCluster;
  readonly #now: () => number;
  readonly #serves: (node: string) => boolean;
  readonly #moments: Moment[] = [];
  #members: ReadonlyMap<bigint, Member> = new Map();

  /** `serves`: whether an API server runs on the node of this name; its role label comes a moment after its Node. */
  constructor(
    cluster: string,
    store: ObjectStore,
    etcd: EtcdCluster,
    now: () => number,
    serves: (node: string) => boolean,
  ) {
    this.#serves = serves;
    this.#cluster = cluster;
    this.#store = store;
    this.#etcd = etcd;
    this.#now = now;
    store.subscribe(R.nodes, (change) => this.#node(change));
  }

  moments(): readonly Moment[] {
    return this.#moments;
  }

  /** To be called after every change of etcd's membership. */
  membership(): void {
    const before = this.#members;
    this.#members = new Map(
      this.#etcd.members().map(({ id, name, up, isLearner }) => [id, { name, up, learner: isLearner }]),
    );
    for (const [id, member] of this.#members) {
      const old = before.get(id);
      if (!old) this.#write({ kind: 'member-added', member: member.name });
      if (old?.learner === true && !member.learner)
        this.#write({ kind: 'member-promoted', member: member.name });
      if (old && old.up !== member.up)
        this.#write({ kind: member.up ? 'member-up' : 'member-down', member: member.name });
    }
    for (const [id, { name }] of before)
      if (!this.#members.has(id)) this.#write({ kind: 'member-removed', member: name });
  }

  #node({ type, object, previous }: Change): void {
    const node = object.metadata.name;
    if (type === 'ADDED') this.#write({ kind: 'node-added', node });
    else if (type === 'DELETED') this.#write({ kind: 'node-removed', node });
    else if (previous === undefined || summary(previous) !== summary(object))
      this.#write({ kind: 'node-changed', node });
  }

  #write(what: Moment['what']): void {
    const nodes = [...this.#store.values(R.nodes)].map((node) => ({
      node: node.metadata.name,
      controlPlane: isControlPlane(node) || this.#serves(node.metadata.name),
      version: String(node.status?.nodeInfo?.kubeletVersion ?? ''),
      ready: isReady(node),
      schedulable: node.spec?.unschedulable !== true,
    }));
    const voters = this.#etcd.voters();
    this.#moments.push({
      cluster: this.#cluster,
      at: this.#now(),
      what,
      voters: voters.length,
      votersUp: voters.filter(({ up }) => up).length,
      learners: this.#etcd.members().length - voters.length,
      quorum: this.#etcd.hasQuorum(),
      readyControlPlanes: nodes.filter(({ controlPlane, ready }) => controlPlane && ready).length,
      workers: nodes.filter(({ controlPlane, ready, schedulable }) => !controlPlane && ready && schedulable)
        .length,
      versions: nodes.map(({ node, controlPlane, version }) => ({ node, controlPlane, version })),
    });
    if (this.#moments.length > KEPT) this.#moments.splice(0, KEPT / 2);
  }
}

const isControlPlane = (node: Json): boolean =>
  'node-role.kubernetes.io/control-plane' in (node.metadata?.labels ?? {});

const isReady = (node: Json): boolean =>
  (node.status?.conditions ?? []).some((one: Json) => one.type === 'Ready' && one.status === 'True');

/** What heartbeats leave as it is. */
const summary = (node: Json): string =>
  [
    isControlPlane(node),
    isReady(node),
    node.spec?.unschedulable === true,
    node.status?.nodeInfo?.kubeletVersion,
  ].join();
