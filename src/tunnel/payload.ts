/**
 * Payloads of the session's and streams' frames. Every reader returns undefined for what it cannot accept; the
 * session turns that into PROTOCOL. Nothing read here is trusted to be short, positive or well-formed.
 */
import type { OpenOptions, StreamClass } from './ports.ts';
import type { DrainNotice } from './session.ts';

/** Names are `kind:rest`; longer ones are attacks (DNS names end at 253, plus kind and port). */
const MAX_TARGET_CHARS = 300;
const MAX_PRINCIPAL_GROUPS = 64;
const MAX_NAME_CHARS = 512;
/** RESET, OPEN_ERR and GOAWAY texts are for people. */
const MAX_MESSAGE_BYTES = 256;
const U32 = 0x1_0000_0000;

/** What OPEN says. */
export interface OpenRequest extends OpenOptions {
  readonly class: StreamClass;
  /** Bytes that the acceptor may send at once. */
  readonly credit: number;
}

export function writeOpen(open: OpenRequest): Buffer {
  const { principal } = open;
  return Buffer.from(
    JSON.stringify({
      t: open.target,
      c: open.class,
      w: open.credit,
      ...(open.shareKey === undefined ? {} : { s: open.shareKey }),
      ...(open.deadlineMs === undefined ? {} : { d: Math.ceil(open.deadlineMs) }),
      ...(open.traceparent === undefined ? {} : { p: open.traceparent }),
      ...(principal === undefined ? {} : { u: principal.user, g: principal.groups }),
    }),
  );
}

export function readOpen(payload: Buffer): OpenRequest | undefined {
  const body = readObject(payload);
  if (body === undefined) return undefined;
  const {
    t: target,
    c: cls,
    w: credit,
    s: shareKey,
    d: deadlineMs,
    p: traceparent,
    u: user,
    g: groups,
  } = body;
  if (!isName(target, MAX_TARGET_CHARS) || !isCount(credit, U32 - 1)) return undefined;
  if (cls !== 1 && cls !== 2 && cls !== 3) return undefined;
  if (shareKey !== undefined && !isName(shareKey, MAX_NAME_CHARS)) return undefined;
  if (deadlineMs !== undefined && !isCount(deadlineMs, U32 - 1)) return undefined;
  if (traceparent !== undefined && !isName(traceparent, MAX_NAME_CHARS)) return undefined;
  let principal: OpenOptions['principal'];
  if (user !== undefined) {
    if (!isName(user, MAX_NAME_CHARS)) return undefined;
    if (!Array.isArray(groups) || groups.length > MAX_PRINCIPAL_GROUPS) return undefined;
    if (!groups.every((group): group is string => isName(group, MAX_NAME_CHARS))) return undefined;
    principal = { user, groups };
  }
  return {
    target,
    class: cls,
    credit,
    ...(shareKey === undefined ? {} : { shareKey }),
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(principal === undefined ? {} : { principal }),
  };
}

/** OPEN_OK and CREDIT: u32 more bytes. */
export function writeCredit(bytes: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(bytes);
  return out;
}

export function readCredit(payload: Buffer): number | undefined {
  return payload.length === 4 ? payload.readUInt32BE() : undefined;
}

/** OPEN_ERR, RESET, STOP: u16 code, then text for people. */
export function writeReason(code: number, message = ''): Buffer {
  const text = Buffer.from(message).subarray(0, MAX_MESSAGE_BYTES);
  const out = Buffer.allocUnsafe(2 + text.length);
  out.writeUInt16BE(code);
  out.set(text, 2);
  return out;
}

export function readReason(payload: Buffer): { code: number; message: string } | undefined {
  if (payload.length < 2 || payload.length > 2 + MAX_MESSAGE_BYTES) return undefined;
  return { code: payload.readUInt16BE(), message: payload.toString('utf8', 2) };
}

export interface Ack {
  /** Count of reliable frames received. */
  readonly sequence: number;
  /** Wire bytes of them. */
  readonly bytes: number;
  /** Microseconds between the last of them and this acknowledgement. */
  readonly delayUs: number;
}

export const ACK_BYTES = 20;

export function writeAck(ack: Ack): Buffer {
  const out = Buffer.allocUnsafe(ACK_BYTES);
  writeU64(out, 0, ack.sequence);
  writeU64(out, 8, ack.bytes);
  out.writeUInt32BE(Math.min(U32 - 1, Math.max(0, Math.round(ack.delayUs))), 16);
  return out;
}

export function readAck(payload: Buffer): Ack | undefined {
  if (payload.length !== ACK_BYTES) return undefined;
  return { sequence: readU64(payload, 0), bytes: readU64(payload, 8), delayUs: payload.readUInt32BE(16) };
}

export interface Ping {
  /** Echoed as it is. */
  readonly opaque: number;
  /** The sender's monotonic clock, milliseconds. */
  readonly sentMs: number;
}

export function writePing(ping: Ping): Buffer {
  const out = Buffer.allocUnsafe(16);
  writeU64(out, 0, ping.opaque);
  out.writeDoubleBE(ping.sentMs, 8);
  return out;
}

/** PONG: the 16 bytes of the PING, then the own event-loop lag, u32 milliseconds. */
export function writePong(ping: Buffer, lagMs: number): Buffer {
  const out = Buffer.allocUnsafe(20);
  out.set(ping);
  out.writeUInt32BE(Math.min(U32 - 1, Math.max(0, Math.round(lagMs))), 16);
  return out;
}

export function readPong(payload: Buffer): (Ping & { lagMs: number }) | undefined {
  if (payload.length !== 20) return undefined;
  return { opaque: readU64(payload, 0), sentMs: payload.readDoubleBE(8), lagMs: payload.readUInt32BE(16) };
}

export function writeDrain(notice: DrainNotice): Buffer {
  return Buffer.from(JSON.stringify({ ...notice, reason: notice.reason.slice(0, MAX_MESSAGE_BYTES) }));
}

/** Longest wait that a peer may ask for, milliseconds: one hour. */
const MAX_DRAIN_MS = 3_600_000;

export function readDrain(payload: Buffer): DrainNotice | undefined {
  const body = readObject(payload);
  if (body === undefined) return undefined;
  const { reason, deadlineMs, reconnectAfterMs, spreadMs } = body;
  if (typeof reason !== 'string' || reason.length > MAX_MESSAGE_BYTES) return undefined;
  const times = [deadlineMs, reconnectAfterMs, spreadMs];
  if (!times.every((ms): ms is number => typeof ms === 'number' && ms >= 0 && Number.isFinite(ms)))
    return undefined;
  const [deadline, reconnect, spread] = times.map((ms) => Math.min(ms, MAX_DRAIN_MS)) as [
    number,
    number,
    number,
  ];
  return { reason, deadlineMs: deadline, reconnectAfterMs: reconnect, spreadMs: spread };
}

export interface GoAway {
  readonly closeCode: number;
  /** Highest stream of the receiver that the sender has seen; later ones had no effect. */
  readonly lastStream: number;
  readonly message: string;
}

export function writeGoAway(away: GoAway): Buffer {
  const text = Buffer.from(away.message).subarray(0, MAX_MESSAGE_BYTES);
  const out = Buffer.allocUnsafe(6 + text.length);
  out.writeUInt16BE(away.closeCode);
  out.writeUInt32BE(away.lastStream, 2);
  out.set(text, 6);
  return out;
}

export function readGoAway(payload: Buffer): GoAway | undefined {
  if (payload.length < 6 || payload.length > 6 + MAX_MESSAGE_BYTES) return undefined;
  return {
    closeCode: payload.readUInt16BE(),
    lastStream: payload.readUInt32BE(2),
    message: payload.toString('utf8', 6),
  };
}

/** A JSON object with a null prototype's innocence: own keys only, no arrays. Undefined for anything else. */
export function readObject(payload: Buffer): Record<string, unknown> | undefined {
  try {
    const body: unknown = JSON.parse(payload.toString('utf8'));
    if (typeof body !== 'object' || body === null || Array.isArray(body)) return undefined;
    return Object.assign(Object.create(null) as Record<string, unknown>, body);
  } catch {
    return undefined;
  }
}

const isName = (value: unknown, maxChars: number): value is string =>
  typeof value === 'string' && value.length > 0 && value.length <= maxChars && !hasControlCharacter(value);

const isCount = (value: unknown, max: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;

/** CR, LF and NUL in a name would be somebody's header injection. */
function hasControlCharacter(text: string): boolean {
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

function writeU64(into: Buffer, at: number, value: number): void {
  into.writeUInt32BE(Math.floor(value / U32), at);
  into.writeUInt32BE(value >>> 0, at + 4);
}

/** Exact up to 2^53; larger values stay larger than anything that was ever sent. */
function readU64(from: Buffer, at: number): number {
  return from.readUInt32BE(at) * U32 + from.readUInt32BE(at + 4);
}
