/**
 * What carries a session for a while: an ordered, message-preserving, binary connection. In production a
 * WebSocket (`socket.ts`), in tests a pair of queues. A session outlives its carriers.
 */

/** Largest message that either end accepts. Senders stay well below (one full frame or a pack of small ones). */
export const MAX_MESSAGE_BYTES = 160 * 1024;

export interface CarrierHandler {
  /** One message: one or more whole frames. The handler may keep views of it. */
  message(data: Buffer): void;
  /** The carrier is gone, called once. 1006 when it broke without a close message. */
  closed(code: number, reason: string): void;
  /** Bytes left the process; `bufferedAmount` fell. */
  drained(): void;
}

export interface Carrier {
  /** Bytes that a sender leaves free before the first part of each message, for the carrier's own header. */
  readonly headroom: number;
  /**
   * Sends one message made of `parts`; the first begins with `headroom` free bytes. Parts are kept until written
   * and must not change. A carrier that is gone drops it silently: `closed` tells.
   */
  send(parts: readonly Buffer[]): void;
  /** Between these calls the carrier may hold messages back, to write them in one go. */
  cork(): void;
  uncork(): void;
  /** Bytes accepted by `send` and not yet taken by the operating system. */
  readonly bufferedAmount: number;
  /** Bytes that have arrived, also of unfinished messages: any received byte is life. */
  readonly bytesReceived: number;
  /** Takes over: messages that came before the first `bind` are delivered now. */
  bind(handler: CarrierHandler): void;
  /** Sends a close message and ends within a few seconds. The bound handler hears `closed`. */
  close(code: number, reason: string): void;
  /** Ends at once, for peers that are believed dead. The bound handler hears `closed`. */
  terminate(): void;
}
