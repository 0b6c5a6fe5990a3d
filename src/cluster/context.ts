/**
 * What an executor is given: the document and the picture that its step was planned from, the doors to MAAS
 * and Kubernetes, and `commit`, the only way to change the record (serialised, on disk when it returns).
 */
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { ClusterDocument } from '../contract/cluster.ts';
import type { EventDraft } from '../contract/events.ts';
import type { KubeClient, KubeTarget } from '../kube/client.ts';
import type { EtcdClient } from '../kube/etcd.ts';
import type { KeyAlgorithm } from '../kube/pki.ts';
import type { MaasClient, Machine } from '../maas/client.ts';
import type { MaasObserver } from '../maas/observer.ts';
import type { CandidateList } from './candidates.ts';
import type { ClusterRecord } from './model.ts';
import type { Random } from './names.ts';
import type { Observed } from './observed.ts';
import type { AskOwned } from './owned.ts';
import type { Quarantine } from './quarantine.ts';
import type { Timings } from './timings.ts';
import type { SiteSettings } from './user-data.ts';

export interface EngineSite extends SiteSettings {
  /** HTTP CONNECT proxy to the machine network, when the gateway has no route of its own. */
  readonly machineProxyUrl?: string;
}

export interface SnapshotDoor {
  readonly directory: string;
  /** Stays free on its disk, which the gateway's own records share. Default: 1 GiB. */
  readonly reserveBytes?: number;
  /** Opens what was sealed to the gateway under this context. Throws when it was not. */
  open(sealed: string, context: string): string;
}

/** One MAAS account as all its clusters share it. */
export interface AccountServices {
  readonly id: string;
  readonly maas: MaasClient;
  readonly observer: MaasObserver;
  readonly candidates: CandidateList;
  readonly owned: AskOwned;
  /** Id of MAAS's newest event, at most a minute old: what happened before it belongs to earlier lives. */
  eventMark(signal: AbortSignal): Promise<number>;
}

export interface StepContext {
  readonly document: ClusterDocument;
  readonly generation: number;
  /** The picture that the step was planned from. */
  readonly observed: Observed;
  /** The newest record. */
  record(): ClusterRecord;
  commit(change: (record: ClusterRecord) => ClusterRecord): Promise<ClusterRecord>;
  /** A line of the timeline; the cluster's id is added. */
  event(draft: Omit<EventDraft, 'cluster'>): Promise<void>;
  readonly account: AccountServices;
  readonly maas: MaasClient;
  /** The API server by the way that answered last. Throws KUBE_UNREACHABLE when none did. */
  kube(): KubeClient;
  /** etcd through the client ports of the control-plane nodes; the caller disposes it. */
  etcd(): Promise<EtcdClient>;
  /** A reading that MAAS just gave: saves the next poll. */
  saw(machine: Machine): void;
  /** Aborted when delete or abort arrived: steps that must not be cut short stop at their next safe point. */
  readonly superseded: AbortSignal;
  /** Aborted when something else is wanted than what the step was planned from. */
  readonly outdated: AbortSignal;
  /** Endpoint addresses that other clusters of this gateway hold. */
  addressesInUse(): Promise<ReadonlySet<string>>;
  /** A host answers at this address of the machine network. */
  isTaken(ip: string, port: number, signal: AbortSignal): Promise<boolean>;
  /** End of the validity of a running server's certificate, wall clock milliseconds. */
  certificateExpiry(target: KubeTarget, signal: AbortSignal): Promise<number>;
  /** Of the keys that a new cluster gets. Undefined: the one of kubeadm. */
  readonly keyAlgorithm: KeyAlgorithm | undefined;
  /** Where snapshots of etcd stay, and how sealed credentials are opened. Undefined: this gateway keeps none. */
  readonly snapshots: SnapshotDoor | undefined;
  readonly quarantine: Quarantine;
  readonly gateway: string;
  readonly site: EngineSite;
  readonly timings: Timings;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: Random;
}

/** `later` is no failure: the step waits for something and is planned again after `afterMs`. */
export type StepOutcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'later'; readonly waitingFor: string; readonly afterMs?: number };

export const DONE: StepOutcome = { kind: 'done' };
