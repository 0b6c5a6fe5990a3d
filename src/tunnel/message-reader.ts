/**
 * Takes whole binary messages out of the bytes of a WebSocket and leaves everything else to `ws`: control frames,
 * text, and all that is unusual or wrong. Messages are views of what the socket delivered, unmasked in place; only
 * one that lies in two reads of the socket is copied.
 *
 * Invariant: `other` gets whole frames from between our messages, so both readers agree where a frame begins. From
 * the first frame on that is neither a message of ours nor a control frame (a middle box that cuts messages into
 * fragments, a broken peer), `other` gets everything. Nothing is read behind a close frame.
 */
import { MAX_MESSAGE_BYTES } from './carrier.ts';
import { applyMask } from './mask.ts';

/** Longest header: 2 bytes, 8 of length, 4 of mask. */
const MAX_HEADER_BYTES = 14;
const MASK_BYTES = 4;
const FIN_BINARY = 0x82;
const FIN_CLOSE = 0x88;
const FIN_PONG = 0x8a;
const MASKED = 0x80;
const MAX_CONTROL_BYTES = 125;
/** Joined when there are more: a message that drips in byte by byte would cost a hundred times its size. */
const MAX_PARTS = 64;

export interface MessageHandlers {
  message(data: Buffer): void;
  /** False when no more should come for now, as `Writable.write` answers. */
  other(bytes: Buffer): boolean;
}

export class MessageReader {
  readonly #maskBytes: 0 | 4;
  readonly #handlers: MessageHandlers;
  #phase: 'reading' | 'handed-over' | 'over' = 'reading';
  /** The first bytes of an unfinished frame. */
  #parts: Buffer[] = [];
  #held = 0;
  /** Bytes of the unfinished frame, its header included; 0 while that is unfinished itself. */
  #wanted = 0;

  /** `masked`: the peer is a client, and must mask. */
  constructor(masked: boolean, handlers: MessageHandlers) {
    this.#maskBytes = masked ? MASK_BYTES : 0;
    this.#handlers = handlers;
  }

  /** Reads what the socket delivered. False when no more should come for now. */
  read(chunk: Buffer): boolean {
    if (this.#phase === 'handed-over') return this.#handlers.other(chunk);
    let at = 0;
    let more = true;
    if (this.#held > 0) {
      if (this.#wanted === 0) {
        // few bytes are held as yet
        const start = Buffer.concat([...this.#parts, chunk.subarray(0, MAX_HEADER_BYTES)]);
        const size = this.#frameBytes(start, 0);
        if (size === 'unusual') return this.#handOver(Buffer.concat([...this.#parts, chunk]));
        this.#wanted = size;
      }
      at = this.#wanted === 0 ? chunk.length : Math.min(chunk.length, this.#wanted - this.#held);
      this.#hold(chunk.subarray(0, at));
      if (this.#wanted === 0 || this.#held < this.#wanted) return true;
      const frame = Buffer.concat(this.#parts, this.#wanted);
      this.#forget();
      more = this.#frame(frame, 0, frame.length);
    }
    while (at < chunk.length && this.#phase === 'reading') {
      const size = this.#frameBytes(chunk, at);
      if (size === 'unusual') break;
      if (size === 0 || at + size > chunk.length) {
        this.#wanted = size;
        this.#hold(chunk.subarray(at));
        return more;
      }
      more = this.#frame(chunk, at, at + size) && more;
      at += size;
    }
    if (this.#phase === 'over' || at === chunk.length) return more;
    return this.#handOver(at === 0 ? chunk : chunk.subarray(at));
  }

  #hold(part: Buffer): void {
    if (this.#parts.length === MAX_PARTS) this.#parts = [Buffer.concat(this.#parts, this.#held)];
    this.#parts.push(part);
    this.#held += part.length;
  }

  #forget(): void {
    this.#parts = [];
    this.#held = 0;
    this.#wanted = 0;
  }

  #handOver(bytes: Buffer): boolean {
    this.#phase = 'handed-over';
    this.#forget();
    return this.#handlers.other(bytes);
  }

  /** Size of the frame that begins at `at`; 0 when its header is not all there; `unusual` when it is not for us. */
  #frameBytes(bytes: Buffer, at: number): number | 'unusual' {
    const left = bytes.length - at;
    if (left < 2) return 0;
    const kind = bytes[at] as number;
    const second = bytes[at + 1] as number;
    const short = second & ~MASKED;
    const control = kind >= FIN_CLOSE && kind <= FIN_PONG;
    if (kind !== FIN_BINARY && !(control && short <= MAX_CONTROL_BYTES)) return 'unusual';
    if ((second & MASKED) !== (this.#maskBytes === 0 ? 0 : MASKED)) return 'unusual';
    const header = headerBytes(short) + this.#maskBytes;
    if (left < header) return 0;
    const length = payloadBytes(bytes, at, short);
    return length > MAX_MESSAGE_BYTES ? 'unusual' : header + length;
  }

  /** One whole frame. */
  #frame(bytes: Buffer, at: number, end: number): boolean {
    const kind = bytes[at] as number;
    if (kind !== FIN_BINARY) {
      if (kind === FIN_CLOSE) this.#phase = 'over';
      return this.#handlers.other(bytes.subarray(at, end));
    }
    const key = at + headerBytes((bytes[at + 1] as number) & ~MASKED);
    const message = bytes.subarray(key + this.#maskBytes, end);
    if (this.#maskBytes > 0 && bytes.readUInt32BE(key) !== 0)
      applyMask(message, bytes.subarray(key, key + MASK_BYTES));
    this.#handlers.message(message);
    return true;
  }
}

/** Bytes before the mask. */
const headerBytes = (short: number): number => (short < 126 ? 2 : short === 126 ? 4 : 10);

function payloadBytes(bytes: Buffer, at: number, short: number): number {
  if (short < 126) return short;
  if (short === 126) return bytes.readUInt16BE(at + 2);
  return bytes.readUInt32BE(at + 2) * 2 ** 32 + bytes.readUInt32BE(at + 6);
}
