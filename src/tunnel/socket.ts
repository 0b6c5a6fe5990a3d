/**
 * A WebSocket as a carrier: the one place that knows how `ws` writes. Large messages are not copied: our own header
 * goes into the head room of the first part and the parts go straight to the socket, corked, so that one flush is
 * one system call. Only an unencrypted client has to mask, and pays a copy for it.
 *
 * Invariant: `ws` itself only writes pongs and the close message, synchronously (no compression), so both kinds of
 * writes keep their order on the socket.
 */
import { randomFillSync } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { RawData, WebSocket } from 'ws';
import type { Carrier, CarrierHandler } from './carrier.ts';
import { CLOSE } from './codes.ts';

/** Longest header of a WebSocket frame: 2 bytes, 8 of length, 4 of mask. */
const MAX_HEADER_BYTES = 14;
/** Payload of masked messages starts at a multiple of four, for masking by words. */
const MASKED_START = 16;
const FIN_BINARY = 0x82;
const MASKED = 0x80;
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
}

/** The WebSocket must be open and made with `perMessageDeflate: false`. Nothing else may listen to its messages. */
export function webSocketCarrier(webSocket: WebSocket, options: CarrierOptions = {}): Carrier {
  return new WebSocketCarrier(webSocket, options);
}

class WebSocketCarrier implements Carrier {
  readonly headroom = MAX_HEADER_BYTES;
  readonly #webSocket: WebSocket;
  readonly #socket: Socket;
  readonly #masking: 'none' | 'zero' | 'random';
  #handler: CarrierHandler | undefined;
  #early: Buffer[] = [];
  #over: { readonly code: number; readonly reason: string } | undefined;
  #localCode: number | undefined;

  constructor(webSocket: WebSocket, options: CarrierOptions) {
    this.#webSocket = webSocket;
    const inside = webSocket as unknown as { _socket: Socket; _isServer: boolean };
    this.#socket = inside._socket;
    const hidden = this.#socket instanceof TLSSocket || options.mask === 'zero';
    this.#masking = inside._isServer ? 'none' : hidden ? 'zero' : 'random';
    webSocket.on('message', (data, isBinary) => this.#onMessage(data, isBinary));
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

  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }

  send(parts: readonly Buffer[]): void {
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    if (this.#masking === 'random') {
      this.#socket.write(masked(parts), this.#onWritten);
      return;
    }
    const socket = this.#socket;
    const last = parts.length - 1;
    const first = framed(parts, this.#masking === 'zero');
    if (last === 0) {
      socket.write(first, this.#onWritten);
      return;
    }
    socket.write(first);
    for (let index = 1; index < last; index += 1) socket.write(parts[index] as Buffer);
    socket.write(parts[last] as Buffer, this.#onWritten);
  }

  close(code: number, reason: string): void {
    this.#webSocket.close(code === 1006 ? CLOSE.GOING_AWAY : code, shortened(reason));
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

/** The first part with the header in its head room. */
function framed(parts: readonly Buffer[], zeroMask: boolean): Buffer {
  const first = parts[0] as Buffer;
  let length = first.length - MAX_HEADER_BYTES;
  for (let index = 1; index < parts.length; index += 1) length += (parts[index] as Buffer).length;
  const size = headerBytes(length, zeroMask);
  const start = MAX_HEADER_BYTES - size;
  writeHeader(first, start, length, zeroMask);
  if (zeroMask) first.fill(0, MAX_HEADER_BYTES - 4, MAX_HEADER_BYTES);
  return first.subarray(start);
}

/** The whole message, copied and masked with a fresh key. */
function masked(parts: readonly Buffer[]): Buffer {
  let length = -MAX_HEADER_BYTES;
  for (const part of parts) length += part.length;
  const words = (length + 3) >>> 2;
  const out = Buffer.allocUnsafeSlow(MASKED_START + 4 * words);
  let at = MASKED_START;
  for (let index = 0; index < parts.length; index += 1) {
    const part = parts[index] as Buffer;
    at += part.copy(out, at, index === 0 ? MAX_HEADER_BYTES : 0);
  }
  randomFillSync(out, MASKED_START - 4, 4);
  const view = new Uint32Array(out.buffer, out.byteOffset + MASKED_START - 4, words + 1);
  const mask = view[0] as number;
  for (let index = 1; index <= words; index += 1) view[index] = (view[index] as number) ^ mask;
  const size = headerBytes(length, true);
  writeHeader(out, MASKED_START - size, length, true);
  return out.subarray(MASKED_START - size, MASKED_START + length);
}

function headerBytes(length: number, withMask: boolean): number {
  return (length < 126 ? 2 : length < 65_536 ? 4 : 10) + (withMask ? 4 : 0);
}

function writeHeader(into: Buffer, at: number, length: number, withMask: boolean): void {
  into[at] = FIN_BINARY;
  const bit = withMask ? MASKED : 0;
  if (length < 126) into[at + 1] = bit | length;
  else if (length < 65_536) {
    into[at + 1] = bit | 126;
    into.writeUInt16BE(length, at + 2);
  } else {
    into[at + 1] = bit | 127;
    into.writeUInt32BE(0, at + 2);
    into.writeUInt32BE(length, at + 6);
  }
}

function shortened(reason: string): Buffer {
  return Buffer.from(reason).subarray(0, MAX_REASON_BYTES);
}
