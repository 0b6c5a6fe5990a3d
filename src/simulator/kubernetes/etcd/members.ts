/**
 * The members of one cluster's etcd and the rules of changing them, as etcd 3.6 with strict-reconfig-check:
 * quorum of voters, one learner at a time, promotion only when in sync, no change that could lose quorum.
 */
import { randomBytes } from 'node:crypto';

export interface EtcdMember {
  readonly id: bigint;
  /** '' until the member's process has started once. */
  name: string;
  readonly peerUrls: readonly string[];
  clientUrls: readonly string[];
  isLearner: boolean;
  /** Its process runs and reaches the others. */
  up: boolean;
  /** A learner that has caught up with the leader. */
  inSync: boolean;
}

/** An error as the JSON gateway shows it: gRPC code and etcd's text. */
export class EtcdError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.name = 'EtcdError';
    this.code = code;
  }
}

export const GRPC = {
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  failedPrecondition: 9,
  unavailable: 14,
} as const;
/** etcd allows one learner unless told otherwise. */
const MAX_LEARNERS = 1;

export class EtcdCluster {
  readonly id = newId();
  readonly #members = new Map<bigint, EtcdMember>();
  #leader: bigint | undefined;
  term = 2;
  readonly #changed: () => void;

  constructor(changed: () => void = () => {}) {
    this.#changed = changed;
  }

  members(): EtcdMember[] {
    return [...this.#members.values()];
  }

  get(id: bigint): EtcdMember | undefined {
    return this.#members.get(id);
  }

  voters(): EtcdMember[] {
    return this.members().filter((member) => !member.isLearner);
  }

  hasQuorum(): boolean {
    const voters = this.voters();
    return (
      voters.length > 0 && voters.filter((member) => member.up).length >= Math.floor(voters.length / 2) + 1
    );
  }

  /** The present leader, after an election when the old one is gone; undefined without quorum. */
  leader(): EtcdMember | undefined {
    if (!this.hasQuorum()) return undefined;
    const current = this.#leader === undefined ? undefined : this.#members.get(this.#leader);
    if (current?.up && !current.isLearner) return current;
    const next = this.voters().find((member) => member.up);
    this.#leader = next?.id;
    this.term += 1;
    return next;
  }

  /** The first member, by `kubeadm init`. */
  bootstrap(name: string, ip: string): EtcdMember {
    const member = this.#insert(name, [`https://${ip}:2380`], false);
    this.started(member.id, name, ip);
    return member;
  }

  #insert(name: string, peerUrls: readonly string[], isLearner: boolean): EtcdMember {
    const member: EtcdMember = {
      id: newId(),
      name,
      peerUrls,
      clientUrls: [],
      isLearner,
      up: false,
      inSync: false,
    };
    this.#members.set(member.id, member);
    this.#changed();
    return member;
  }

  /** The process of a member runs (again). */
  started(id: bigint, name: string, ip: string): void {
    const member = this.#members.get(id);
    if (!member) return;
    member.name = name;
    member.clientUrls = [`https://${ip}:2379`];
    member.up = true;
    this.#changed();
  }

  stopped(id: bigint): void {
    const member = this.#members.get(id);
    if (member) member.up = false;
    this.#changed();
  }

  #needQuorum(): void {
    if (!this.hasQuorum())
      throw new EtcdError(GRPC.unavailable, 'etcdserver: request timed out, possibly due to connection lost');
  }

  add(peerUrls: readonly string[], isLearner: boolean): EtcdMember {
    this.#needQuorum();
    if (peerUrls.length === 0)
      throw new EtcdError(GRPC.invalidArgument, 'etcdserver: given member URLs are invalid');
    const taken = new Set(this.members().flatMap((member) => member.peerUrls));
    if (peerUrls.some((url) => taken.has(url)))
      throw new EtcdError(GRPC.failedPrecondition, 'etcdserver: Peer URLs already exists');
    const learners = this.members().filter((member) => member.isLearner).length;
    if (isLearner && learners >= MAX_LEARNERS)
      throw new EtcdError(GRPC.failedPrecondition, 'etcdserver: too many learner members in cluster');
    const voters = this.voters();
    if (!isLearner) {
      const started = voters.filter((member) => member.name !== '').length;
      if (voters.length > 1 && started < Math.floor((voters.length + 1) / 2) + 1)
        throw new EtcdError(
          GRPC.failedPrecondition,
          'etcdserver: re-configuration failed due to not enough started members',
        );
    }
    // Any dead voter blocks additions: the new member could tip the quorum.
    if (voters.some((member) => !member.up))
      throw new EtcdError(GRPC.unavailable, 'etcdserver: unhealthy cluster');
    return this.#insert('', peerUrls, isLearner);
  }

  remove(id: bigint): EtcdMember {
    this.#needQuorum();
    const member = this.#members.get(id);
    if (!member) throw new EtcdError(GRPC.notFound, 'etcdserver: member not found');
    if (!member.isLearner) {
      const rest = this.voters().filter((other) => other !== member);
      const started = rest.filter((other) => other.name !== '').length;
      if (started < Math.floor(rest.length / 2) + 1)
        throw new EtcdError(
          GRPC.failedPrecondition,
          'etcdserver: re-configuration failed due to not enough started members',
        );
      const active = rest.filter((other) => other.up).length;
      // A dead member may always go; a live one only while the rest keeps its quorum.
      if (member.up && active < Math.floor(rest.length / 2) + 1)
        throw new EtcdError(GRPC.unavailable, 'etcdserver: unhealthy cluster');
    }
    this.#members.delete(id);
    this.#changed();
    return member;
  }

  promote(id: bigint): EtcdMember {
    this.#needQuorum();
    const member = this.#members.get(id);
    if (!member) throw new EtcdError(GRPC.notFound, 'etcdserver: member not found');
    if (!member.isLearner)
      throw new EtcdError(GRPC.failedPrecondition, 'etcdserver: can only promote a learner member');
    if (!member.up || !member.inSync)
      throw new EtcdError(
        GRPC.failedPrecondition,
        'etcdserver: can only promote a learner member which is in sync with leader',
      );
    member.isLearner = false;
    this.#changed();
    return member;
  }

  /** `asked` is the member that received the request: only the leader hands over. */
  moveLeader(asked: bigint, target: bigint): void {
    const leader = this.leader();
    if (leader?.id !== asked) throw new EtcdError(GRPC.failedPrecondition, 'etcdserver: not leader');
    const next = this.#members.get(target);
    if (!next || next.isLearner || !next.up)
      throw new EtcdError(GRPC.failedPrecondition, 'etcdserver: bad leader transferee');
    this.#leader = target;
    this.term += 1;
    this.#changed();
  }
}

function newId(): bigint {
  return randomBytes(8).readBigUInt64BE() | 1n;
}
