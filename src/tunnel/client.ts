/**
 * The gateway's end of the tunnel, for ever: dial, prove, resume or begin a session, keep it until it is lost, wait as
 * `reconnect.ts` says, again. One loop, started once; it ends only by its signal. What an attempt came to is an
 * outcome, and an error nobody thought of is an outcome too.
 */
import type { Registry } from 'prom-client';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError, toProblem } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { runForever } from '../base/loop.ts';
import type { AgentStatus } from '../contract/api.ts';
import type { ErrorCode } from '../contract/errors.ts';
import { CLOSE } from './codes.ts';
import { dial } from './dial.ts';
import { greetPortal } from './handshake.ts';
import type { Identity } from './identity.ts';
import { type TunnelMetrics, tunnelMetrics } from './metrics.ts';
import type { GatewaySyncPort, TargetHandler, Tunnel } from './ports.ts';
import type { ProxySettings } from './proxy-env.ts';
import { type AttemptOutcome, FRESH, nextAttempt } from './reconnect.ts';
import type { DrainNotice, SessionHandlers, SessionState, TunnelSession } from './session.ts';
import { SessionSlot } from './session-slot.ts';
import { webSocketCarrier } from './socket.ts';
import { GatewaySync } from './sync-gateway.ts';

/** Open streams get this long to finish when the gateway stops. */
const DRAIN_MS = 30_000;

export type TunnelState = Exclude<AgentStatus['tunnel'], { state: 'unpaired' }>;

export interface TunnelClientOptions {
  /** From pairing, e.g. `wss://portal.example/tunnel/v1`. */
  readonly url: string;
  readonly gatewayId: string;
  /** One per node of an HA gateway, stable over restarts. */
  readonly instanceId: string;
  readonly identity: Identity;
  /** The portal's key pinned at pairing. */
  readonly portalKey: string;
  readonly software?: string;
  readonly capabilities?: readonly string[];
  readonly proxy?: ProxySettings | undefined;
  /** PEM, or how to read it: then a changed file counts from the next attempt on. */
  readonly caPem?: string | undefined | (() => Promise<string | undefined>);
  readonly sync: GatewaySyncPort;
  /** What the portal may open here. */
  readonly targets: TargetHandler;
  readonly clock: Clock;
  readonly log: Log;
  readonly registry?: Registry | undefined;
  /** Called at every change. */
  readonly onState?: (state: TunnelState) => void;
  readonly random?: () => number;
  readonly drainMs?: number;
}

export interface TunnelClient {
  /** Resolves after `signal` aborted and open streams were drained; `force` cuts the draining short. Call once. */
  run(signal: AbortSignal, force?: AbortSignal): Promise<void>;
  /** Streams to the portal's targets. */
  readonly tunnel: Tunnel;
  state(): TunnelState;
}

export function createTunnelClient(options: TunnelClientOptions): TunnelClient {
  return new Client(options);
}

class Client implements TunnelClient {
  readonly tunnel: SessionSlot;
  readonly #options: TunnelClientOptions;
  readonly #log: Log;
  readonly #metrics: TunnelMetrics | undefined;
  #state: TunnelState;
  #policy = FRESH;
  /** Attempts since the last connection, for showing. */
  #attempt = 0;
  #hint: string | undefined;
  /** False once something on the way was seen to strip the subprotocol. */
  #offerSubprotocol = true;
  #warnedExtraCa = false;
  #running = false;

  constructor(options: TunnelClientOptions) {
    this.#options = options;
    this.#log = options.log.child({ part: 'tunnel' });
    this.#metrics = options.registry && tunnelMetrics(options.registry);
    this.#state = { state: 'connecting', since: this.#now(), attempt: 0 };
    this.tunnel = new SessionSlot(
      options.clock,
      () => new PcgError('PORTAL_UNREACHABLE', 'the gateway has no connection to the portal'),
    );
  }

  state(): TunnelState {
    const rttMs = this.tunnel.session?.rttMs;
    return this.#state.state === 'connected' && rttMs !== undefined ? { ...this.#state, rttMs } : this.#state;
  }

  async run(signal: AbortSignal, force?: AbortSignal): Promise<void> {
    if (this.#running) throw new Error('the tunnel client runs already');
    this.#running = true;
    using _lag = this.#metrics?.lagOf(() => this.#syncLagS());
    try {
      await runForever<AttemptOutcome>({
        clock: this.#options.clock,
        signal,
        attempt: () => this.#attemptOnce(signal, force),
        onError: (error) => {
          this.#log.error({ error: describeError(error) }, 'tunnel attempt failed unexpectedly');
          const cause =
            error instanceof PcgError
              ? error
              : new PcgError('INTERNAL', 'the tunnel client failed', { cause: error });
          return { kind: 'failed', reason: 'internal', error: cause };
        },
        delayMs: (outcome) => this.#decide(outcome),
      });
    } finally {
      this.#running = false;
      this.tunnel.session?.close(CLOSE.GOING_AWAY, 'gateway stopped');
      this.tunnel.replace(undefined);
    }
  }

  async #syncLagS(): Promise<number> {
    const { clock, sync } = this.#options;
    const oldest = await sync.oldestEventAt();
    return oldest === undefined ? 0 : Math.max(0, clock.now() - oldest) / 1000;
  }

  #decide(outcome: AttemptOutcome): number {
    const { clock, random } = this.#options;
    const next = nextAttempt(this.#policy, outcome, random);
    this.#policy = next.state;
    this.#hint = next.followHint && outcome.kind === 'moved' ? outcome.hint : undefined;
    this.#metrics?.reconnect(outcome.reason);
    const details = {
      reason: outcome.reason,
      code: outcome.error.code,
      retryInMs: Math.round(next.delayMs),
      error: describeError(outcome.error),
    };
    if (next.alert) this.#log.error(details, 'tunnel refused');
    else this.#log.warn(details, 'tunnel not connected');
    const now = clock.now();
    this.#show({
      state: 'waiting',
      since: new Date(now).toISOString(),
      nextAttemptAt: new Date(now + next.delayMs).toISOString(),
      cause: toProblem(outcome.error),
    });
    return next.delayMs;
  }

  async #attemptOnce(signal: AbortSignal, force: AbortSignal | undefined): Promise<AttemptOutcome> {
    const { clock, log: _log, caPem, software = 'pcg', ...rest } = this.#options;
    this.#attempt += 1;
    this.#show({ state: 'connecting', since: this.#now(), attempt: this.#attempt });
    const dialled = await dial({
      url: this.#hint ?? rest.url,
      proxy: rest.proxy,
      caPem: typeof caPem === 'function' ? await caPem() : caPem,
      offerSubprotocol: this.#offerSubprotocol,
      software,
      clock,
      signal,
    });
    if (dialled.kind === 'failed') {
      if (dialled.reason === 'no-subprotocol') this.#offerSubprotocol = !this.#offerSubprotocol;
      return dialled;
    }
    if (dialled.extraCa && !this.#warnedExtraCa) {
      this.#warnedExtraCa = true;
      this.#log.warn(
        'the certificate of the portal comes from the extra CA: TLS is inspected, or the CA is private; the keys of pairing still protect the tunnel',
      );
    }
    const greetedAt = clock.monotonic();
    const owner = new SessionOwner(this.#options, this.tunnel, this.#log);
    const held = this.tunnel.session;
    const { displaced } = this.#policy;
    // what the other agent may have resumed is not ours any more
    if (displaced) held?.close(CLOSE.SUPERSEDED, 'another agent with this identity took over');
    const resume = held && held.state.kind !== 'closed' ? held : undefined;
    const greeted = await greetPortal(
      webSocketCarrier(dialled.webSocket),
      {
        clock,
        identity: rest.identity,
        gatewayId: rest.gatewayId,
        instanceId: rest.instanceId,
        portalKey: rest.portalKey,
        software,
        ...(rest.capabilities ? { capabilities: rest.capabilities } : {}),
        handlers: owner.handlers,
        resume,
        displaced,
        metrics: this.#metrics,
        log: this.#log,
      },
      signal,
    );
    switch (greeted.kind) {
      case 'moved':
        return {
          kind: 'moved',
          reason: 'moved',
          hint: greeted.hint,
          error: ended('PORTAL_UNREACHABLE', 'the portal sent the gateway to another node', CLOSE.MOVED),
        };
      case 'refused':
        return {
          kind: 'failed',
          reason: closeReason('refused', greeted.closeCode),
          closeCode: greeted.closeCode,
          error: closeError(greeted.closeCode, greeted.reason),
        };
      case 'untrusted':
        return {
          kind: 'failed',
          reason: 'untrusted',
          error: new PcgError('PORTAL_UNTRUSTED', 'the portal could not prove the key pinned at pairing', {
            details: { reason: greeted.reason },
          }),
        };
      case 'established':
        this.tunnel.replace(greeted.session);
        owner.begin(greeted.session);
        break;
      case 'resumed':
        this.tunnel.changed();
        break;
    }
    const { session } = greeted;
    this.#metrics?.handshake(clock.monotonic() - greetedAt);
    return await this.#hold(session, greeted.kind, signal, force);
  }

  /** Until the carrier is gone. */
  async #hold(
    session: TunnelSession,
    how: 'established' | 'resumed',
    signal: AbortSignal,
    force?: AbortSignal,
  ): Promise<AttemptOutcome> {
    const { clock, drainMs = DRAIN_MS } = this.#options;
    const since = clock.monotonic();
    this.#attempt = 0;
    this.#log.info({ session: session.id, epoch: session.epoch, how }, 'tunnel connected');
    this.#show({ state: 'connected', since: this.#now() });
    const owner = SessionOwner.of(session);
    const ending = await owner.ended(session, signal);
    if (ending === 'stopping') {
      const notice: DrainNotice = {
        reason: 'gateway stops',
        deadlineMs: drainMs,
        reconnectAfterMs: 0,
        spreadMs: 0,
      };
      await session.drain(notice, force).catch((error: unknown) => {
        this.#log.debug({ error: describeError(error) }, 'drain cut short');
      });
      signal.throwIfAborted();
    }
    const { closeCode, reason } = goneBecause(session.state);
    const livedMs = clock.monotonic() - since;
    const { drain } = owner;
    owner.drain = undefined;
    return {
      kind: 'lost',
      reason: closeReason('lost', closeCode),
      closeCode,
      livedMs,
      resumed: how === 'resumed',
      error: closeError(closeCode, reason),
      ...(drain ? { drain: { notice: drain.notice, agoMs: clock.monotonic() - drain.at } } : {}),
    };
  }

  #show(state: TunnelState): void {
    this.#state = state;
    this.#options.onState?.(state);
  }

  #now(): string {
    return new Date(this.#options.clock.now()).toISOString();
  }
}

/** What belongs to one session for as long as it lives, over all of its carriers. */
class SessionOwner {
  static readonly #owners = new WeakMap<TunnelSession, SessionOwner>();
  readonly handlers: SessionHandlers;
  drain: { notice: DrainNotice; at: number } | undefined;
  readonly #sync: GatewaySync;
  #onChange: () => void = () => {};

  constructor(options: TunnelClientOptions, slot: SessionSlot, log: Log) {
    const { clock, targets } = options;
    this.#sync = new GatewaySync({ port: options.sync, clock, log });
    this.handlers = {
      target: targets,
      sync: (kind, payload) => this.#sync.receive(kind, payload),
      state: () => {
        slot.changed();
        this.#onChange();
      },
      drain: (notice) => {
        log.info({ ...notice }, 'portal drains');
        this.drain = { notice, at: clock.monotonic() };
      },
    };
  }

  static of(session: TunnelSession): SessionOwner {
    const owner = SessionOwner.#owners.get(session);
    if (!owner) throw new Error('a session without an owner');
    return owner;
  }

  begin(session: TunnelSession): void {
    SessionOwner.#owners.set(session, this);
    void this.#sync.run(session);
  }

  /** Resolves when the session has no carrier any more, or with `stopping` when `signal` aborts. */
  ended(session: TunnelSession, signal: AbortSignal): Promise<'gone' | 'stopping'> {
    return new Promise((resolve) => {
      const settle = (how: 'gone' | 'stopping'): void => {
        signal.removeEventListener('abort', onAbort);
        this.#onChange = () => {};
        resolve(how);
      };
      const onAbort = (): void => settle('stopping');
      const look = (): void => {
        if (session.state.kind !== 'attached') settle('gone');
        else if (signal.aborted) settle('stopping');
      };
      this.#onChange = look;
      signal.addEventListener('abort', onAbort, { once: true });
      look();
    });
  }
}

const CLOSE_CODES = new Set<number>([...Object.values(CLOSE), 1006]);

/** For metrics: a peer may send any number, and every number would be a time series. */
const closeReason = (how: 'refused' | 'lost', code: number): string =>
  `${how}-${CLOSE_CODES.has(code) ? code : 'other'}`;

function goneBecause(state: SessionState): { closeCode: number; reason: string } {
  switch (state.kind) {
    case 'detached':
      return state;
    case 'closed':
      return { closeCode: state.error.closeCode, reason: state.error.message };
    case 'attached':
      return { closeCode: CLOSE.INTERNAL, reason: 'still attached' };
  }
}

const CLOSE_ERRORS: Record<number, { code: ErrorCode; message: string; fix?: string }> = {
  [CLOSE.UNAUTHENTICATED]: {
    code: 'UNAUTHENTICATED',
    message: 'the portal does not accept this gateway',
    fix: 'The portal does not know this gateway or its key. Pair it again in place.',
  },
  [CLOSE.REVOKED]: { code: 'GATEWAY_REVOKED', message: 'the portal has revoked this gateway' },
  [CLOSE.SUPERSEDED]: {
    code: 'CONFLICT',
    message: 'another agent with the same identity took over the connection',
    fix: 'Two agents use the same identity, e.g. a cloned machine. Stop one, and pair it with a code of its own.',
  },
  [CLOSE.OVERLOADED]: {
    code: 'PORTAL_UNREACHABLE',
    message: 'the portal has as many gateways as it can hold',
    fix: 'The gateway goes on trying. Add a portal, or remove gateways that are no more.',
  },
  [CLOSE.TOO_OLD]: {
    code: 'PORTAL_UNREACHABLE',
    message: 'portal and gateway have no version of the tunnel protocol in common',
    fix: 'Update the older of the two; usually that is the gateway.',
  },
};

function closeError(closeCode: number, reason: string): PcgError {
  const known = CLOSE_ERRORS[closeCode];
  if (known) return new PcgError(known.code, known.message, { fix: known.fix, details: { closeCode } });
  return ended('PORTAL_UNREACHABLE', 'the connection to the portal ended', closeCode, reason);
}

const ended = (code: ErrorCode, message: string, closeCode: number, reason = ''): PcgError =>
  new PcgError(code, message, { details: { closeCode, reason: reason.slice(0, 200) } });
