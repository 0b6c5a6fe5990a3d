/**
 * The frame: 12 bytes, big endian, then the payload. Reading never allocates per byte and never trusts a length:
 * a frame that does not fit its message is a protocol error. Payload layouts live in `payload.ts`.
 *
 *   0 u8 type | 1 u8 flags | 2 u16 payload length | 4 u32 stream id | 8 u32 low bits of the sequence
 */

import type { Departure } from './governor.ts';

export const HEADER_BYTES = 12;

export const TYPE = {
  HELLO: 0x01,
  WELCOME: 0x02,
  RESUME: 0x03,
  RESUMED: 0x04,
  RESUME_FAIL: 0x05,
  PING: 0x08,
  PONG: 0x09,
  ACK: 0x0a,
  DRAIN: 0x0b,
  GOAWAY: 0x0c,
  OPEN: 0x10,
  OPEN_OK: 0x11,
  OPEN_ERR: 0x12,
  DATA: 0x13,
  CREDIT: 0x14,
  FIN: 0x15,
  RESET: 0x16,
  STOP: 0x17,
  SYNC: 0x20,
  SYNC_ACK: 0x21,
} as const;

/** Types from here on may be ignored by who does not know them; they are never counted. */
export const FIRST_OPTIONAL_TYPE = 0x80;

/** bit 0: nothing follows in this direction (DATA), or last piece of a payload (SYNC). */
export const FLAG_FIN = 1;
/** bit 0 of PING: the sender measures the path; the receiver sends little bulk for a round trip. */
export const FLAG_PROBE = 1;

/** u16. */
export const MAX_PAYLOAD_BYTES = 0xffff;
export const DEFAULT_MAX_FRAME_BYTES = 16 * 1024;

export const EMPTY = Buffer.alloc(0);

/** A frame on its way out. `left` is for the governor's samples: undefined before it left, and when it left twice. */
export interface OutFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
  left: Departure | undefined;
}

export function outFrame(type: number, streamId: number, payload: Buffer = EMPTY, flags = 0): OutFrame {
  return { type, flags, streamId, payload, left: undefined };
}

/** Bytes that the frame takes on the wire. */
export const frameBytes = (frame: OutFrame): number => HEADER_BYTES + frame.payload.length;

/**
 * Counted, acknowledged and replayed: all but the handshake, keepalive, acknowledgements and GOAWAY, after which
 * there is nothing to replay.
 */
export function isReliable(type: number): boolean {
  return type === TYPE.DRAIN || (type >= TYPE.OPEN && type < FIRST_OPTIONAL_TYPE);
}

/** Writes the 12 bytes at `at`; `sequence` is the 64-bit count, of which the low 32 bits travel. */
export function writeHeader(into: Buffer, at: number, frame: OutFrame, sequence: number): void {
  const length = frame.payload.length;
  const id = frame.streamId;
  const low = sequence >>> 0;
  into[at] = frame.type;
  into[at + 1] = frame.flags;
  into[at + 2] = length >>> 8;
  into[at + 3] = length;
  into[at + 4] = id >>> 24;
  into[at + 5] = id >>> 16;
  into[at + 6] = id >>> 8;
  into[at + 7] = id;
  into[at + 8] = low >>> 24;
  into[at + 9] = low >>> 16;
  into[at + 10] = low >>> 8;
  into[at + 11] = low;
}

/** One whole frame as one buffer, for the handshake and for tests. */
export function encodeFrame(frame: OutFrame, sequence = 0): Buffer {
  const out = Buffer.allocUnsafe(frameBytes(frame));
  writeHeader(out, 0, frame, sequence);
  out.set(frame.payload, HEADER_BYTES);
  return out;
}

/** Receives the frames of a message; returns false to stop reading it. */
export type FrameVisitor = (
  type: number,
  flags: number,
  streamId: number,
  sequence: number,
  payload: Buffer,
) => boolean;

export type FrameFault = 'truncated' | 'too-big';

/**
 * Visits every frame of one message; payloads are views of it. Returns undefined when all was well (or the
 * visitor stopped), else what is wrong. Bytes after a fault are not read.
 */
export function readFrames(
  message: Buffer,
  maxPayloadBytes: number,
  visit: FrameVisitor,
): FrameFault | undefined {
  const end = message.length;
  let at = 0;
  if (end === 0) return 'truncated';
  while (at < end) {
    if (end - at < HEADER_BYTES) return 'truncated';
    const length = ((message[at + 2] as number) << 8) | (message[at + 3] as number);
    if (length > maxPayloadBytes) return 'too-big';
    const next = at + HEADER_BYTES + length;
    if (next > end) return 'truncated';
    const payload = length === 0 ? EMPTY : message.subarray(at + HEADER_BYTES, next);
    const go = visit(
      message[at] as number,
      message[at + 1] as number,
      message.readUInt32BE(at + 4),
      message.readUInt32BE(at + 8),
      payload,
    );
    if (!go) return undefined;
    at = next;
  }
  return undefined;
}
