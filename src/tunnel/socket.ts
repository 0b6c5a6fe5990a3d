/**
 * A WebSocket as a carrier: the one place that knows how `ws` writes. Large messages are not copied: our own header
 * goes into the head room of the first part and the parts go straight to the socket, corked, so that one flush is
 * one system call. Only an unencrypted client has to mask, and pays a copy for it.
 *
 * Invariant: `ws` itself only writes pongs and the close message, synchronously (no compression), so both kinds of
 * writes keep their order on the socket.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { RawData, WebSocket } from 'ws';
import { type Carrier, type CarrierHandler, MAX_MESSAGE_BYTES } from './carrier.ts';
import { CLOSE } from './codes.ts';
import { MessageReader } from './message-reader.ts';
import { framed, MaskedWriter, MAX_HEADER_BYTES } from './message-writer.ts';

/** Of one message. Each keeps all that came in the same read of the socket, 64 KiB and more. */
export const MAX_FRAGMENTS = 256;
/** Reads of the socket that one frame may come in: each is an object of its own, however small. */
const MAX_PIECES = 4096;
/** What the reader of `ws` may be made to keep: options of each WebSocket that becomes a carrier. */
export const READER_LIMITS = {
  maxPayload: MAX_MESSAGE_BYTES,
  maxFragments: MAX_FRAGMENTS,
  maxBufferedChunks: MAX_PIECES,
};

/** RFC 6455: a close message has at most 125 bytes, two of them the code. */
const MAX_REASON_BYTES = 123;
/** Messages that may wait for the first `bind`; the handshake sends one and waits. */
const MAX_EARLY_MESSAGES = 16;

/** Close codes that `ws` itself sends or reports, in the protocol's own words. */
const WS_CODES: Record<number, number> = {
  1002: CLOSE.PROTOCOL,
  1003: CLOSE.PROTOCOL,
  1005: CLOSE.NORMAL,
  1007: CLOSE.PROTOCOL,
  1008: CLOSE.PROTOCOL,
  1009: CLOSE.TOO_BIG,
};

export interface CarrierOptions {
  /**
   * `auto`: as the RFC wants it in the open, zero where TLS hides the bytes anyway. `zero` for paths without
   * anything in between (loopback measurements).
   */
  readonly mask?: 'auto' | 'zero';
  /** What the peer may send, in bytes of frames, before `trust`; more ends with 4413. Default: all it likes. */
  readonly untrustedBytes?: number;
}

export interface TrustingCarrier extends Carrier {
  /** The peer has proven who it is. */
  trust(): void;
}

/** The WebSocket must be open and made with `perMessageDeflate: false`. Nothing else may listen to its messages. */
export function webSocketCarrier(webSocket: WebSocket, options: CarrierOptions = {}): TrustingCarrier {
  return new WebSocketCarrier(webSocket, options);
}

/** What `ws` does not show. */
interface Inside {
  readonly _socket: Socket;
  readonly _isServer: boolean;
  readonly _receiver: {
    readonly _bufferedBytes: number;
    write(chunk: Buffer): boolean;
  };
}

/**
 * Our reader goes in front of that of `ws`, unless that one is in the middle of a frame. What `admits` refuses is
 * dropped unread.
 */
function readOurselves(
  { _isServer: masked, _receiver: receiver }: Inside,
  message: (data: Buffer) => void,
  admits: (bytes: number) => boolean,
): void {
  const other = receiver.write.bind(receiver);
  const reader = receiver._bufferedBytes > 0 ? undefined : new MessageReader(masked, { message, other });
  receiver.write = (chunk) => {
    if (!admits(chunk.length)) return true;
    return reader === undefined ? other(chunk) : reader.read(chunk);
  };
}

class WebSocketCarrier implements TrustingCarrier {
  readonly headroom = MAX_HEADER_BYTES;
  readonly #webSocket: WebSocket;
  readonly #socket: Socket;
  readonly #zeroMask: boolean;
  readonly #maskedWriter: MaskedWriter | undefined;
  #handler: CarrierHandler | undefined;
  #early: Buffer[] = [];
  #over: { readonly code: number; readonly reason: string } | undefined;
  #localCode: number | undefined;
  /** Bytes that the peer may still send. */
  #allowance: number;

  constructor(webSocket: WebSocket, options: CarrierOptions) {
    this.#webSocket = webSocket;
    this.#allowance = options.untrustedBytes ?? Number.POSITIVE_INFINITY;
    const inside = webSocket as unknown as Inside;
    this.#socket = inside._socket;
    const hidden = this.#socket instanceof TLSSocket || options.mask === 'zero';
    this.#zeroMask = !inside._isServer && hidden;
    this.#maskedWriter = inside._isServer || hidden ? undefined : new MaskedWriter(this.#socket);
    webSocket.on('message', (data, isBinary) => this.#onMessage(data, isBinary));
    readOurselves(
      inside,
      (message) => this.#onMessage(message, true),
      (bytes) => this.#admits(bytes),
    );
    webSocket.on('close', (code, reason) => this.#onClose(code, reason));
    webSocket.on('error', (error: Error & { code?: string }) => {
      if (error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') this.#localCode = CLOSE.TOO_BIG;
      else if (error.code?.startsWith('WS_ERR_')) this.#localCode = CLOSE.PROTOCOL;
    });
    if (webSocket.isPaused) webSocket.resume();
  }

  get bufferedAmount(): number {
    return this.#socket.writableLength;
  }

  get bytesReceived(): number {
    return this.#socket.bytesRead;
  }

  bind(handler: CarrierHandler): void {
    this.#handler = handler;
    const early = this.#early;
    this.#early = [];
    for (const message of early) this.#handler.message(message);
    if (this.#over !== undefined) {
      const { code, reason } = this.#over;
      queueMicrotask(() => handler.closed(code, reason));
    }
  }

  trust(): void {
    if (this.#allowance >= 0) this.#allowance = Number.POSITIVE_INFINITY;
  }

  #admits(bytes: number): boolean {
    if (this.#allowance < 0) return false;
    this.#allowance -= bytes;
    if (this.#allowance >= 0) return true;
    this.#localCode = CLOSE.TOO_BIG;
    this.close(CLOSE.TOO_BIG, 'too much before the handshake');
    return false;
  }

  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }

  send(parts: readonly Buffer[]): void {
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    if (this.#maskedWriter !== undefined) {
      this.#maskedWriter.write(parts, this.#onWritten);
      return;
    }
    const socket = this.#socket;
    const last = parts.length - 1;
    const first = framed(parts, this.#zeroMask);
    if (last === 0) {
      socket.write(first, this.#onWritten);
      return;
    }
    socket.write(first);
    for (let index = 1; index < last; index += 1) socket.write(parts[index] as Buffer);
    socket.write(parts[last] as Buffer, this.#onWritten);
  }

  close(code: number, reason: string): void {
    this.#webSocket.close(sayable(code), shortened(reason));
  }

  terminate(): void {
    this.#webSocket.terminate();
  }

  /** One callback per message, but one notice per turn is enough. */
  readonly #onWritten = (): void => {
    if (this.#drainPlanned) return;
    this.#drainPlanned = true;
    queueMicrotask(this.#tellDrained);
  };
  readonly #tellDrained = (): void => {
    this.#drainPlanned = false;
    this.#handler?.drained();
  };
  #drainPlanned = false;

  #onMessage(data: RawData, isBinary: boolean): void {
    if (!isBinary) {
      this.#localCode = CLOSE.PROTOCOL;
      this.close(CLOSE.PROTOCOL, 'text messages are not part of the protocol');
      return;
    }
    const message = data as Buffer;
    if (this.#handler !== undefined) this.#handler.message(message);
    else if (this.#early.push(message) > MAX_EARLY_MESSAGES) {
      this.#localCode = CLOSE.PROTOCOL;
      this.close(CLOSE.PROTOCOL, 'too much before the handshake');
    }
  }

  #onClose(code: number, reason: Buffer): void {
    const own = this.#localCode ?? WS_CODES[code] ?? code;
    this.#over = { code: own, reason: reason.toString() };
    this.#handler?.closed(own, this.#over.reason);
  }
}

/** A session may end with any number that the peer's GOAWAY said, and `ws` throws at those that the RFC keeps. */
function sayable(code: number): number {
  const ours = code === CLOSE.NORMAL || (code >= 3000 && code <= 4999);
  return ours ? code : CLOSE.GOING_AWAY;
}

/** Cut between two characters: text that is not UTF-8 would hide the code from the peer. */
function shortened(reason: string): Buffer {
  const bytes = Buffer.from(reason);
  if (bytes.length <= MAX_REASON_BYTES) return bytes;
  let end = MAX_REASON_BYTES;
  while (((bytes[end] as number) & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}
