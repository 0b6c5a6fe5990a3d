/**
 * The picture that planning, conditions and progress look at: plain data, made by observe.ts. Absence is only
 * believed when the picture is fresh; what could not be asked says so.
 */
import type { Outage } from '../maas/outages.ts';
import type { EtcdAlarm } from '../kube/etcd-alarms.ts';
import type { Machine } from '../maas/client.ts';
import type { ComponentFault } from './components.ts';

/** A Node as far as decisions need it. */
export interface KubeNode {
  readonly name: string;
  /** Last segment of the provider id. */
  readonly systemId: string | undefined;
  readonly ready: boolean;
  /** kubelet's Ready condition is Unknown: the node controller lost it. */
  readonly silent: boolean;
  readonly controlPlane: boolean;
  readonly unschedulable: boolean;
  readonly version: string;
  readonly internalIp: string | undefined;
  readonly bootId: string | undefined;
  /** Of /etc/machine-id. */
  readonly machineId?: string | undefined;
  /** Product UUID of the firmware. */
  readonly systemUuid?: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  /** Labels (keys) and taints (`key:effect`) that its pool has given to it. */
  readonly managed: { readonly labels: readonly string[]; readonly taints: readonly string[] };
}

export type KubeView =
  /** No API server can exist yet. */
  | { readonly kind: 'none' }
  | { readonly kind: 'unreachable'; readonly reason: string }
  | {
      readonly kind: 'reachable';
      /** The endpoint itself answers; false: only a node's own address does. */
      readonly endpoint: boolean;
      /** kubeadm-config and cluster-info exist: init has passed its late phases. */
      readonly configured: boolean;
      readonly nodes: readonly KubeNode[];
      /** Static pods of control-plane nodes that do not work. */
      readonly componentFaults: readonly ComponentFault[];
      /** Why nobody can say whether there are more of them. */
      readonly componentsUnread?: string;
    };

export interface EtcdView {
  readonly members: readonly {
    /** uint64 as decimal text. */
    readonly id: string;
    readonly name: string;
    readonly peerUrls: readonly string[];
    readonly learner: boolean;
    readonly healthy: boolean;
    /** Since when every look found a learner or no answer; wall clock, milliseconds. */
    readonly restlessSince?: number | undefined;
  }[];
}

/** `machine` undefined: MAAS does not show it to this account. */
export interface Reading {
  readonly machine: Machine | undefined;
  /** Wall clock of the reading, milliseconds. */
  readonly at: number;
}

export interface Observed {
  /** Wall clock, milliseconds. */
  readonly now: number;
  /** When this process began to look after the cluster; wall clock, milliseconds. */
  readonly since: number;
  /** MAAS answers; false: machine states are what they were, and may be shown as Unknown. */
  readonly maasUp: boolean;
  /** When it did not: an installation is not late for that time. */
  readonly maasOutages: readonly Outage[];
  /** By system id; only machines that this cluster's record names and that have been read. */
  readonly machines: ReadonlyMap<string, Reading>;
  /** System id -> text of MAAS's NODE_POST_INSTALL_EVENT_FAILED: the bootstrap script ended with an error. */
  readonly bootstrapFailures: ReadonlyMap<string, string>;
  readonly kube: KubeView;
  /** Since when every look at the API server was in vain; wall clock, milliseconds. */
  readonly kubeSilentSince?: number | undefined;
  /** Asked for often while the control plane moves, seldom at rest; undefined: etcd did not answer, or nobody asked. */
  readonly etcd: EtcdView | undefined;
  /** As etcd said last; asked for seldom while nothing moves. */
  readonly etcdAlarms: readonly EtcdAlarm[];
  /** When it was last seen that the control plane lets nobody become Ready, whatever its machine; wall clock, milliseconds. */
  readonly crippledAt?: number | undefined;
  /** Ready machines that would fit, per pool; only asked for before an Expand-first rollout (X15). */
  readonly spares: ReadonlyMap<string, number> | undefined;
}
