/**
 * etcd of a control plane through its own JSON gateway over mTLS: no gRPC, no exec, no port-forward. Every call
 * goes to a named member; reads of the membership try the members in turn. Whether a change is allowed is decided
 * in quorum.ts; the methods here that change membership ask it first, with a fresh picture.
 */
import type { Dispatcher } from 'undici';
import { type Clock, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { createDispatcher, send, type TlsIdentity } from './dispatcher.ts';
import { asRecord, asText, networkError } from './errors.ts';
import { alarmFix, describeAlarms, type EtcdAlarm } from './etcd-alarms.ts';
import { firstAnswer } from './first-answer.ts';
import { judgeRemoval, type MemberView, nextLeader } from './quorum.ts';
import { readLines } from './watch.ts';

/** etcd answers in milliseconds; a member on a dying disk in seconds. */
const CALL_TIMEOUT_MS = 10_000;
/** A probe of one member: slower than this is not healthy. */
const PROBE_TIMEOUT_MS = 5_000;
/** A member that has said nothing to a read for this long is not waited for alone. */
const PATIENCE_MS = 1_000;
/** No piece of a snapshot for this long means a dead connection. */
const SNAPSHOT_IDLE_MS = 60_000;
/** To each member in parallel: a snapshot keeps one for minutes. */
const CONNECTIONS = 4;
/** gRPC status codes as the gateway passes them on. */
const NOT_FOUND = 5;
const FAILED_PRECONDITION = 9;

export interface EtcdMember {
  /** uint64 as decimal text; numbers would lose digits. */
  readonly id: string;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

export interface EtcdMemberHealth extends EtcdMember, MemberView {
  readonly healthy: boolean;
  readonly leader: boolean;
  /** Why it is not healthy. */
  readonly problem: string | undefined;
  readonly version: string | undefined;
  readonly dbSizeBytes: number | undefined;
}

export interface EtcdClient extends AsyncDisposable {
  members(signal: AbortSignal): Promise<EtcdMember[]>;
  /** Members with a probe of each, in parallel. */
  health(signal: AbortSignal): Promise<EtcdMemberHealth[]>;
  /** Those that are raised. Asked of the members that answer; without a majority there is no answer. */
  alarms(signal: AbortSignal): Promise<EtcdAlarm[]>;
  /**
   * Removes a member when quorum allows it, moving leadership away first. `absent`: it was not there.
   * Throws ETCD_QUORUM_AT_RISK with details.reason otherwise: of quorum.ts, or `alarm` while one is raised.
   */
  remove(id: string, signal: AbortSignal): Promise<'removed' | 'absent'>;
  /** Adds a learner; answers its id. */
  addLearner(peerUrl: string, signal: AbortSignal): Promise<string>;
  /** `behind`: it has not caught up yet. Promoting a voter again is fine. */
  promote(id: string, signal: AbortSignal): Promise<'promoted' | 'behind'>;
  /** Makes `targetId` the leader; nothing to do when it leads. */
  transferLeadership(targetId: string, signal: AbortSignal): Promise<void>;
  /** The whole database as etcdctl would save it, in pieces. */
  snapshot(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Connections to the members of one etcd, for clients that come and go. `identity`: a client certificate of its CA. */
export function connectEtcd(identity: TlsIdentity): Dispatcher {
  return createDispatcher(identity, CONNECTIONS);
}

/**
 * `endpoints`: client URLs of known members (`https://10.20.0.11:2379`). Members found later are dialled at the client
 * URLs that they announce. `through`: connections that outlive the client, or an identity for connections of its own.
 */
export function createEtcdClient(
  endpoints: readonly string[],
  through: TlsIdentity | Dispatcher,
  options: { readonly clock: Clock },
): EtcdClient {
  return new GatewayEtcdClient(endpoints, through, options.clock);
}

class GatewayEtcdClient implements EtcdClient {
  readonly #endpoints: readonly string[];
  readonly #clock: Clock;
  readonly #dispatcher: Dispatcher;
  /** Closed with the client. */
  readonly #own: Dispatcher | undefined;

  constructor(endpoints: readonly string[], through: TlsIdentity | Dispatcher, clock: Clock) {
    this.#endpoints = endpoints;
    this.#clock = clock;
    if ('caPem' in through) this.#dispatcher = this.#own = connectEtcd(through);
    else this.#dispatcher = through;
  }

  async members(signal: AbortSignal): Promise<EtcdMember[]> {
    return readMembers(await this.#read('/v3/cluster/member/list', {}, signal));
  }

  async health(signal: AbortSignal): Promise<EtcdMemberHealth[]> {
    const members = await this.members(signal);
    return await Promise.all(members.map((member) => this.#probe(member, signal)));
  }

  async #probe(member: EtcdMember, signal: AbortSignal): Promise<EtcdMemberHealth> {
    const url = member.clientUrls[0];
    const sick = (problem: string): EtcdMemberHealth => ({
      ...member,
      healthy: false,
      leader: false,
      problem,
      version: undefined,
      dbSizeBytes: undefined,
    });
    if (url === undefined) return sick('has never started');
    try {
      const status = await this.#call(url, '/v3/maintenance/status', {}, signal, PROBE_TIMEOUT_MS);
      // A linearizable read proves that this member is in touch with a majority; learners refuse it.
      if (!member.learner)
        await this.#call(url, '/v3/kv/range', { key: encodeKey('health') }, signal, PROBE_TIMEOUT_MS);
      const errors = Array.isArray(status['errors']) ? status['errors'].map(String) : [];
      const size = Number(status['dbSize']);
      return {
        ...member,
        healthy: errors.length === 0,
        leader: status['leader'] === member.id,
        problem: errors.length === 0 ? undefined : errors.join('; '),
        version: typeof status['version'] === 'string' ? status['version'] : undefined,
        dbSizeBytes: Number.isFinite(size) ? size : undefined,
      };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      return sick(error instanceof Error ? error.message : String(error));
    }
  }

  async alarms(signal: AbortSignal): Promise<EtcdAlarm[]> {
    const answer = await this.#read('/v3/maintenance/alarm', { action: 'GET' }, signal);
    const raised = (Array.isArray(answer['alarms']) ? answer['alarms'] : [])
      .map(asRecord)
      .map((entry) => ({ memberId: asId(entry['memberID']), alarm: asText(entry['alarm'], 'NONE') }))
      .filter(({ alarm }) => alarm !== 'NONE');
    if (raised.length === 0) return [];
    const members = await this.members(signal);
    return raised.map((entry) => ({
      ...entry,
      member: members.find(({ id }) => id === entry.memberId)?.name ?? '',
    }));
  }

  async remove(id: string, signal: AbortSignal): Promise<'removed' | 'absent'> {
    const members = await this.health(signal);
    const verdict = judgeRemoval(members, id);
    if (verdict.kind === 'absent') return 'absent';
    // Without a voter that passed its probe there is no majority, which alone forbids the change.
    const serves = members.some(({ learner, version }) => !learner && version !== undefined);
    const alarms = serves ? await this.alarms(signal) : [];
    const trouble = describeAlarms(alarms);
    if (trouble !== undefined)
      throw new PcgError('ETCD_QUORUM_AT_RISK', `etcd member ${id} must stay: ${trouble}`, {
        details: { reason: 'alarm', alarms },
        fix: alarmFix(alarms),
      });
    if (verdict.kind === 'refused')
      throw new PcgError('ETCD_QUORUM_AT_RISK', `etcd member ${id} must stay: ${verdict.reason}`, {
        details: {
          reason: verdict.reason,
          members: members.map(({ name, healthy, learner }) => ({ name, healthy, learner })),
        },
      });
    const leaving = members.find((member) => member.id === id);
    if (leaving?.leader === true) {
      const successor = nextLeader(members, id);
      if (successor !== undefined) await this.transferLeadership(successor.id, signal);
    }
    // Ask a member that stays: the one that goes ends its process in the middle of the answer.
    const healthy = members.filter((member) => member.id !== id && member.healthy && !member.learner);
    const via = healthy.flatMap((member) => member.clientUrls.slice(0, 1));
    try {
      await this.#firstAnswer(
        via.length > 0 ? via : this.#endpoints,
        '/v3/cluster/member/remove',
        { ID: id },
        signal,
      );
    } catch (error) {
      if (grpcCode(error) === NOT_FOUND) return 'absent';
      throw error;
    }
    return 'removed';
  }

  async addLearner(peerUrl: string, signal: AbortSignal): Promise<string> {
    const body = { peerURLs: [peerUrl], isLearner: true };
    const answer = await this.#anyCall('/v3/cluster/member/add', body, signal);
    return asText(asRecord(answer['member'])['ID']);
  }

  async promote(id: string, signal: AbortSignal): Promise<'promoted' | 'behind'> {
    try {
      await this.#anyCall('/v3/cluster/member/promote', { ID: id }, signal);
      return 'promoted';
    } catch (error) {
      if (grpcCode(error) !== FAILED_PRECONDITION) throw error;
      // The same code says "not in sync yet" and "not a learner": the membership tells which.
      const member = (await this.members(signal)).find((candidate) => candidate.id === id);
      return member !== undefined && !member.learner ? 'promoted' : 'behind';
    }
  }

  async transferLeadership(targetId: string, signal: AbortSignal): Promise<void> {
    const leader = (await this.health(signal)).find((member) => member.leader);
    if (leader?.id === targetId) return;
    const url = leader?.clientUrls[0];
    if (url === undefined)
      throw new PcgError('ETCD_QUORUM_AT_RISK', 'etcd has no leader', { details: { reason: 'quorum-lost' } });
    // Only the leader itself may give leadership away.
    await this.#call(
      url,
      '/v3/maintenance/transfer-leadership',
      { targetID: targetId },
      signal,
      CALL_TIMEOUT_MS,
    );
  }

  async *snapshot(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const healthy = (await this.health(signal)).filter((member) => member.healthy && !member.learner);
    // A follower serves as well and the leader has enough to do.
    const member = healthy.find((candidate) => !candidate.leader) ?? healthy[0];
    const url = member?.clientUrls[0];
    if (url === undefined) throw unreachable('no healthy member can give a snapshot', undefined);
    const stop = new AbortController();
    const limited = AbortSignal.any([signal, stop.signal]);
    const idle = () =>
      this.#clock.timer(SNAPSHOT_IDLE_MS, () =>
        stop.abort(unreachable('the snapshot went silent', undefined)),
      );
    let timer = idle();
    try {
      const response = await send(this.#dispatcher, {
        origin: new URL(url).origin,
        path: '/v3/maintenance/snapshot',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{}',
        signal: limited,
      });
      const touch = () => {
        timer[Symbol.dispose]();
        timer = idle();
      };
      let complete = false;
      for await (const line of readLines(response.body, touch)) {
        const message = asRecord(JSON.parse(line));
        const result = asRecord(message['result']);
        if (message['error'] !== undefined) throw callError(200, message['error'], 'snapshot');
        complete = asText(result['remaining_bytes'], '0') === '0';
        if (typeof result['blob'] === 'string') yield Buffer.from(result['blob'], 'base64');
      }
      if (!complete) throw unreachable('the snapshot ended early', undefined);
    } catch (error) {
      if (stop.signal.aborted && !signal.aborted) throw stop.signal.reason;
      throw networkError(error, 'etcd snapshot', signal);
    } finally {
      timer[Symbol.dispose]();
      stop.abort();
    }
  }

  /** A read, of which more than one can do no harm. */
  async #read(path: string, body: unknown, signal: AbortSignal): Promise<Record<string, unknown>> {
    const ask = (url: string, limited: AbortSignal) => this.#call(url, path, body, limited, CALL_TIMEOUT_MS);
    if (this.#endpoints.length === 0) throw unreachable('no member of etcd is known', undefined);
    return await firstAnswer(this.#endpoints, ask, {
      patienceMs: PATIENCE_MS,
      isFinal: (error) => grpcCode(error) !== undefined,
      clock: this.#clock,
      signal,
    });
  }

  async #anyCall(path: string, body: unknown, signal: AbortSignal): Promise<Record<string, unknown>> {
    return await this.#firstAnswer(this.#endpoints, path, body, signal);
  }

  /** Tries members in turn; an answer that is an error of etcd's own is an answer. */
  async #firstAnswer(urls: readonly string[], path: string, body: unknown, signal: AbortSignal) {
    let last: unknown = unreachable('no member of etcd is known', undefined);
    for (const url of urls) {
      try {
        return await this.#call(url, path, body, signal, CALL_TIMEOUT_MS);
      } catch (error) {
        if (signal.aborted || grpcCode(error) !== undefined) throw error;
        last = error;
      }
    }
    throw last;
  }

  async #call(
    url: string,
    path: string,
    body: unknown,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<Record<string, unknown>> {
    const what = `etcd ${path} at ${new URL(url).host}`;
    try {
      return await withDeadline(this.#clock, timeoutMs, what, signal, async (limited) => {
        const response = await send(this.#dispatcher, {
          origin: new URL(url).origin,
          path,
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
          signal: limited,
        });
        const answer: unknown = await response.body.json();
        if (response.statusCode !== 200) throw callError(response.statusCode, answer, what);
        return asRecord(answer);
      });
    } catch (error) {
      throw networkError(error, what, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#own?.destroy();
  }
}

function readMembers(answer: Record<string, unknown>): EtcdMember[] {
  const members = Array.isArray(answer['members']) ? answer['members'] : [];
  return members.map(asRecord).map((member) => ({
    id: asId(member['ID']),
    name: typeof member['name'] === 'string' ? member['name'] : '',
    peerUrls: texts(member['peerURLs']),
    clientUrls: texts(member['clientURLs']),
    learner: member['isLearner'] === true, // absent means false: the gateway leaves zero values out
  }));
}

function callError(status: number, answer: unknown, what: string): PcgError {
  const { code, message, error } = asRecord(answer);
  return new PcgError(
    'KUBE_UNREACHABLE',
    `${what}: ${asText(message, asText(error, `HTTP ${status}`)).slice(0, 300)}`,
    {
      details: { status, ...(typeof code === 'number' ? { grpcCode: code } : {}) },
    },
  );
}

/** gRPC code that etcd answered; undefined when it did not answer, or only the gateway did (14: no backend). */
function grpcCode(error: unknown): number | undefined {
  const code = error instanceof PcgError ? error.details?.['grpcCode'] : undefined;
  return typeof code === 'number' && code !== 14 && code !== 4 ? code : undefined;
}

function unreachable(message: string, cause: unknown): PcgError {
  return new PcgError('KUBE_UNREACHABLE', message, { cause });
}

/** uint64 as decimal text, the only form in which the gateway writes one; 0 is nobody's. */
function asId(value: unknown): string {
  return /^\d{1,20}$/.exec(asText(value))?.[0] ?? '0';
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : [];
}

function encodeKey(key: string): string {
  return Buffer.from(key, 'utf8').toString('base64');
}
