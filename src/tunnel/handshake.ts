/**
 * The first messages on a carrier: versions, settings and mutual proof of identity, then either a new session
 * or the resumption of one. The portal speaks first (HELLO with a nonce); the gateway answers with a signed HELLO
 * or RESUME; the portal with a signed WELCOME, RESUMED or RESUME_FAIL. Signatures cover all bytes so far.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Carrier } from './carrier.ts';
import { CLOSE } from './codes.ts';
import { type Conversation, converse, nobody, type Turn } from './conversation.ts';
import type { ReceiveBudget } from './credit.ts';
import { TYPE } from './frame.ts';
import {
  gatewayHelloSchema,
  NONCE_BYTES,
  PROTOCOL,
  portalHelloSchema,
  type ResumeFailReason,
  resumedSchema,
  resumeFailSchema,
  resumeSchema,
  welcomeSchema,
} from './greetings.ts';
import type { Identity } from './identity.ts';
import type { RefusedReason, TunnelMetrics } from './metrics.ts';
import { defaultSettings, Session, type SessionHandlers, type TunnelSession } from './session.ts';
import { Transcript } from './transcript.ts';

/** What each end learns of the other. */
export interface PeerInfo {
  readonly software: string;
  readonly capabilities: readonly string[];
  /** Peer's wall clock minus ours, milliseconds, without correction for the way. */
  readonly clockSkewMs: number;
}

export interface GatewayHandshakeOptions {
  readonly clock: Clock;
  readonly identity: Identity;
  readonly gatewayId: string;
  /** One per node of an HA gateway. */
  readonly instanceId: string;
  /** The portal's Ed25519 key pinned at pairing, raw, base64. */
  readonly portalKey: string;
  readonly software: string;
  readonly capabilities?: readonly string[];
  readonly handlers: SessionHandlers;
  /** The detached session to resume, if there is one. When it cannot be resumed it is closed (SESSION_LOST). */
  readonly resume?: TunnelSession | undefined;
  /** Another agent with this identity pushed this one out: to be said in HELLO. */
  readonly displaced?: boolean;
  readonly metrics?: TunnelMetrics | undefined;
  readonly log?: Log | undefined;
}

export type GatewayHandshakeOutcome =
  | {
      readonly kind: 'established';
      readonly session: TunnelSession;
      readonly portal: PeerInfo & { readonly serverId: string };
    }
  | { readonly kind: 'resumed'; readonly session: TunnelSession }
  /** The session lives on another portal node: dial `hint` (a URL) if it is one that is trusted. The carrier is closed. */
  | { readonly kind: 'moved'; readonly hint: string }
  /** The portal, or the way to it, ended the carrier; `closeCode` says why. */
  | { readonly kind: 'refused'; readonly closeCode: number; readonly reason: string }
  /** The portal did not prove the pinned key, or spoke nonsense. The carrier is closed. */
  | { readonly kind: 'untrusted'; readonly reason: string };

export type GatewayLookup =
  | { readonly kind: 'known'; readonly publicKey: string }
  | { readonly kind: 'revoked' }
  | { readonly kind: 'unknown' }
  /** Another node owns this gateway's session. */
  | { readonly kind: 'moved'; readonly publicKey: string; readonly hint: string };

export interface PortalHandshakeOptions {
  readonly clock: Clock;
  readonly identity: Identity;
  readonly serverId: string;
  readonly software: string;
  readonly capabilities?: readonly string[];
  /** Milliseconds a session survives without a carrier; default 120 s, at most 10 min. */
  readonly graceMs?: number;
  lookup(gatewayId: string, instanceId: string): Promise<GatewayLookup>;
  /** There is no room for a session of this gateway: it hears OVERLOADED once it has proven its key. */
  isFull?(gatewayId: string): boolean;
  /** The session with this id, alive or not, if this process knows it. */
  findSession(sessionId: string): TunnelSession | undefined;
  handlers(gateway: { readonly gatewayId: string; readonly instanceId: string }): SessionHandlers;
  readonly metrics?: TunnelMetrics | undefined;
  readonly log?: Log | undefined;
  /** Receive memory of all sessions of this process together. */
  readonly processBudget?: ReceiveBudget | undefined;
}

export type PortalHandshakeOutcome =
  | {
      readonly kind: 'established' | 'resumed';
      readonly session: TunnelSession;
      readonly gatewayId: string;
      readonly instanceId: string;
      readonly gateway: PeerInfo;
      /** The gateway says that another agent with its identity had pushed it out. */
      readonly displaced: boolean;
    }
  /** Nothing came of it; the carrier is closed with `closeCode`. */
  | {
      readonly kind: 'refused';
      readonly closeCode: number;
      readonly reason: string;
      readonly gatewayId?: string;
      /** As it is counted; else `other`. */
      readonly as?: RefusedReason;
    };

export const DEFAULT_GRACE_MS = 120_000;
const MAX_GRACE_MS = 600_000;

/** Gateway end. The carrier is then bound to the session or closed. Rejects as `converse` does. */
export function greetPortal(
  carrier: Carrier,
  options: GatewayHandshakeOptions,
  signal: AbortSignal,
): Promise<GatewayHandshakeOutcome> {
  return converse<GatewayHandshakeOutcome>(carrier, options.clock, signal, (io) =>
    gatewayTurns(carrier, options, io),
  );
}

/** Portal end; speaks first. Rejects as `converse` does. */
export async function greetGateway(
  carrier: Carrier,
  options: PortalHandshakeOptions,
  signal: AbortSignal,
): Promise<PortalHandshakeOutcome> {
  const outcome: PortalHandshakeOutcome = await converse<PortalHandshakeOutcome>(
    carrier,
    options.clock,
    signal,
    (io) => portalTurns(carrier, options, io),
  );
  if (outcome.kind === 'refused') options.metrics?.refused(outcome.as ?? 'other');
  return outcome;
}

// ---- gateway

function gatewayTurns(
  carrier: Carrier,
  options: GatewayHandshakeOptions,
  io: Conversation<GatewayHandshakeOutcome>,
): Turn {
  const { identity, resume } = options;
  const transcript = new Transcript();
  const nonce = randomBytes(NONCE_BYTES).toString('base64');
  let resuming = false;

  const distrust = (reason: string): Turn => {
    io.end(CLOSE.UNAUTHENTICATED, { kind: 'untrusted', reason });
    return nobody;
  };

  const hello = (): Turn => {
    resuming = false;
    io.send(
      TYPE.HELLO,
      transcript.seal(TYPE.HELLO, identity, {
        role: 'gateway',
        protocol: PROTOCOL,
        software: options.software,
        gatewayId: options.gatewayId,
        instanceId: options.instanceId,
        capabilities: [...(options.capabilities ?? [])],
        settings: defaultSettings('gateway'),
        nonce,
        time: options.clock.now(),
        ...(options.displaced ? { displaced: true } : {}),
      }),
    );
    return answer;
  };

  const greeting: Turn = (type, payload) => {
    if (type !== TYPE.HELLO) return distrust('the portal did not begin with HELLO');
    const offer = transcript.read(TYPE.HELLO, payload, portalHelloSchema, undefined);
    if (offer.kind === 'bad') return distrust('unreadable HELLO');
    if (offer.body.protocol.max < PROTOCOL.min || offer.body.protocol.min > PROTOCOL.max) {
      io.end(CLOSE.TOO_OLD, {
        kind: 'refused',
        closeCode: CLOSE.TOO_OLD,
        reason: 'no common protocol version',
      });
      return nobody;
    }
    if (!(resume instanceof Session) || resume.state.kind === 'closed') return hello();
    // whatever an older carrier still delivers would change the count that we tell now
    resume.detach(CLOSE.SUPERSEDED, 'dialled again');
    resuming = true;
    io.send(
      TYPE.RESUME,
      transcript.seal(TYPE.RESUME, identity, {
        sessionId: resume.id,
        epoch: resume.epoch,
        attempt: resume.nextAttempt(),
        nextExpected: resume.nextExpected,
        gatewayId: options.gatewayId,
        instanceId: options.instanceId,
        nonce,
        time: options.clock.now(),
      }),
    );
    return answer;
  };

  const answer: Turn = (type, payload) => {
    switch (type) {
      case TYPE.WELCOME:
        return resuming ? distrust('WELCOME to a RESUME') : onWelcome(payload);
      case TYPE.RESUMED:
        return resuming ? onResumed(payload) : distrust('RESUMED to a HELLO');
      case TYPE.RESUME_FAIL:
        return onResumeFail(payload);
      default:
        return distrust('unexpected answer to the handshake');
    }
  };

  const onWelcome = (payload: Buffer): Turn => {
    const welcome = transcript.read(TYPE.WELCOME, payload, welcomeSchema, options.portalKey);
    if (welcome.kind === 'bad') return distrust(welcome.why);
    const { body } = welcome;
    const session = new Session({
      id: body.sessionId,
      role: 'gateway',
      clock: options.clock,
      graceMs: Math.min(body.graceMs, MAX_GRACE_MS),
      local: defaultSettings('gateway'),
      peer: body.settings,
      handlers: options.handlers,
      metrics: options.metrics,
      log: options.log,
    });
    io.settle(
      {
        kind: 'established',
        session,
        portal: {
          software: body.software,
          capabilities: body.capabilities,
          clockSkewMs: body.time - options.clock.now(),
          serverId: body.serverId,
        },
      },
      () => session.attach(carrier, body.epoch, 0),
    );
    return nobody;
  };

  const onResumed = (payload: Buffer): Turn => {
    const resumed = transcript.read(TYPE.RESUMED, payload, resumedSchema, options.portalKey);
    if (resumed.kind === 'bad') return distrust(resumed.why);
    const session = resume as Session;
    const { epoch, nextExpected } = resumed.body;
    if (epoch <= session.epoch || !session.canResumeFrom(nextExpected)) {
      session.close(CLOSE.PROTOCOL, 'the portal resumed at an impossible point');
      io.end(CLOSE.PROTOCOL, { kind: 'refused', closeCode: CLOSE.PROTOCOL, reason: 'impossible RESUMED' });
      return nobody;
    }
    io.settle({ kind: 'resumed', session }, () => session.attach(carrier, epoch, nextExpected));
    options.metrics?.resumed('ok');
    return nobody;
  };

  const onResumeFail = (payload: Buffer): Turn => {
    const failed = transcript.read(TYPE.RESUME_FAIL, payload, resumeFailSchema, options.portalKey);
    if (failed.kind === 'bad') return distrust(failed.why);
    const { reason, hint } = failed.body;
    if (resuming) options.metrics?.resumed(reason);
    if (reason === 'moved' && hint !== undefined) {
      io.end(CLOSE.MOVED, { kind: 'moved', hint });
      return nobody;
    }
    if (!resuming) return distrust('RESUME_FAIL to a HELLO');
    // the session is lost, the carrier is good: a new session costs one more round trip
    resume?.close(CLOSE.SESSION_EXPIRED, `the portal cannot resume the session: ${reason}`);
    return hello();
  };

  return greeting;
}

// ---- portal

function portalTurns(
  carrier: Carrier,
  options: PortalHandshakeOptions,
  io: Conversation<PortalHandshakeOutcome>,
): Turn {
  const { identity, clock } = options;
  const graceMs = Math.min(options.graceMs ?? DEFAULT_GRACE_MS, MAX_GRACE_MS);
  const transcript = new Transcript();
  io.send(
    TYPE.HELLO,
    transcript.open(TYPE.HELLO, {
      role: 'portal',
      protocol: PROTOCOL,
      serverId: options.serverId,
      nonce: randomBytes(NONCE_BYTES).toString('base64'),
      time: clock.now(),
    }),
  );

  const refuse = (closeCode: number, reason: string, gatewayId?: string, as?: RefusedReason): Turn => {
    io.end(closeCode, {
      kind: 'refused',
      closeCode,
      reason,
      ...(gatewayId === undefined ? {} : { gatewayId }),
      ...(as === undefined ? {} : { as }),
    });
    return nobody;
  };

  /** Said to RESUME, and `moved` also to HELLO. */
  const fail = (to: number, reason: ResumeFailReason, hint?: string): Turn => {
    if (to === TYPE.RESUME) options.metrics?.resumed(reason);
    io.send(
      TYPE.RESUME_FAIL,
      transcript.seal(TYPE.RESUME_FAIL, identity, { reason, ...(hint === undefined ? {} : { hint }) }),
    );
    // the gateway may go on with HELLO on the same carrier
    return (type, next) =>
      type === TYPE.HELLO ? onHello(next) : refuse(CLOSE.PROTOCOL, 'only HELLO follows RESUME_FAIL');
  };

  /** Looks the gateway's key up, verifies, then goes on. The carrier is silent meanwhile: who talks is refused. */
  const authenticate = (
    type: number,
    payload: Buffer,
    claim: { readonly gatewayId: string; readonly instanceId: string },
    proven: () => Turn,
  ): Turn => {
    const { gatewayId, instanceId } = claim;
    io.wait(
      () => options.lookup(gatewayId, instanceId),
      (found) => {
        // whoever cannot prove the key learns nothing about which gateways exist
        if (found.kind === 'unknown')
          return refuse(CLOSE.UNAUTHENTICATED, 'unknown gateway', gatewayId, 'unknown');
        if (found.kind === 'revoked')
          return refuse(CLOSE.REVOKED, 'the gateway was revoked', gatewayId, 'revoked');
        if (!transcript.verify(type, payload, found.publicKey)) {
          if (type === TYPE.RESUME) options.metrics?.resumed('rejected');
          const why = 'the gateway did not prove its key';
          return refuse(CLOSE.UNAUTHENTICATED, why, gatewayId, 'wrong-proof');
        }
        return found.kind === 'moved' ? fail(type, 'moved', found.hint) : proven();
      },
    );
    return nobody;
  };

  const opening: Turn = (type, payload) => {
    if (type === TYPE.HELLO) return onHello(payload);
    if (type === TYPE.RESUME) return onResume(payload);
    return refuse(CLOSE.PROTOCOL, 'the gateway did not begin with HELLO or RESUME');
  };

  const onHello = (payload: Buffer): Turn => {
    const parsed = transcript.peek(payload, gatewayHelloSchema);
    if (parsed === undefined) return refuse(CLOSE.PROTOCOL, 'unreadable HELLO');
    const version = Math.min(parsed.protocol.max, PROTOCOL.max);
    if (version < Math.max(parsed.protocol.min, PROTOCOL.min))
      return refuse(CLOSE.TOO_OLD, 'no common protocol version', parsed.gatewayId, 'too-old');
    return authenticate(TYPE.HELLO, payload, parsed, () => {
      const { gatewayId, instanceId } = parsed;
      if (options.isFull?.(gatewayId))
        return refuse(CLOSE.OVERLOADED, 'the portal has as many gateways as it can hold', gatewayId, 'full');
      const session = new Session({
        id: randomUUID(),
        role: 'portal',
        clock,
        graceMs,
        local: defaultSettings('portal'),
        peer: parsed.settings,
        handlers: options.handlers({ gatewayId, instanceId }),
        metrics: options.metrics,
        log: options.log,
        processBudget: options.processBudget,
      });
      owners.set(session, {
        gatewayId,
        instanceId,
        software: parsed.software,
        capabilities: parsed.capabilities,
      });
      io.send(
        TYPE.WELCOME,
        transcript.seal(TYPE.WELCOME, identity, {
          protocol: version,
          sessionId: session.id,
          epoch: 1,
          graceMs,
          serverId: options.serverId,
          software: options.software,
          capabilities: [...(options.capabilities ?? [])],
          settings: defaultSettings('portal'),
          time: clock.now(),
        }),
      );
      io.settle(
        {
          kind: 'established',
          session,
          gatewayId,
          instanceId,
          gateway: peerInfo(session, parsed.time, clock),
          displaced: parsed.displaced ?? false,
        },
        () => session.attach(carrier, 1, 0),
      );
      return nobody;
    });
  };

  const onResume = (payload: Buffer): Turn => {
    const parsed = transcript.peek(payload, resumeSchema);
    if (parsed === undefined) return refuse(CLOSE.PROTOCOL, 'unreadable RESUME');
    return authenticate(TYPE.RESUME, payload, parsed, () => {
      const session = options.findSession(parsed.sessionId);
      const owner = session === undefined ? undefined : owners.get(session);
      if (!(session instanceof Session) || owner === undefined) return fail(TYPE.RESUME, 'unknown');
      // another gateway's session is as unknown as none
      if (owner.gatewayId !== parsed.gatewayId || owner.instanceId !== parsed.instanceId)
        return fail(TYPE.RESUME, 'unknown');
      if (session.state.kind === 'closed') return fail(TYPE.RESUME, 'expired');
      if (!session.acceptAttempt(parsed.attempt) || parsed.epoch > session.epoch)
        return fail(TYPE.RESUME, 'superseded');
      if (!session.canResumeFrom(parsed.nextExpected)) {
        session.close(CLOSE.PROTOCOL, 'the gateway resumed at an impossible point');
        return fail(TYPE.RESUME, 'gap');
      }
      // from here on nothing of the older carrier counts
      session.detach(CLOSE.SUPERSEDED, 'a newer connection took over');
      const epoch = session.epoch + 1;
      io.send(
        TYPE.RESUMED,
        transcript.seal(TYPE.RESUMED, identity, { epoch, nextExpected: session.nextExpected }),
      );
      options.metrics?.resumed('ok');
      const { gatewayId, instanceId } = parsed;
      io.settle(
        {
          kind: 'resumed',
          session,
          gatewayId,
          instanceId,
          gateway: peerInfo(session, parsed.time, clock),
          displaced: false,
        },
        () => session.attach(carrier, epoch, parsed.nextExpected),
      );
      return nobody;
    });
  };

  return opening;
}

/** Whose session it is: proven when it began, needed when it resumes. */
interface Owner {
  readonly gatewayId: string;
  readonly instanceId: string;
  readonly software: string;
  readonly capabilities: readonly string[];
}

const owners = new WeakMap<TunnelSession, Owner>();

function peerInfo(session: TunnelSession, time: number, clock: Clock): PeerInfo {
  const { software, capabilities } = owners.get(session) as Owner;
  return { software, capabilities, clockSkewMs: time - clock.now() };
}
