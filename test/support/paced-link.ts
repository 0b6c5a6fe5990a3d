/**
 * Two carriers over a path with a rate, a delay and a buffer that swallows everything (a kernel, a proxy, a modem),
 * in simulated time: the buffer is invisible to the sender, first come first served.
 */
import type { Carrier, CarrierHandler } from '../../src/tunnel/carrier.ts';
import type { ManualClock } from './manual-clock.ts';

export interface PathOptions {
  readonly bytesPerMs: number;
  readonly oneWayMs: number;
  /** What the path takes from the sender without sending it on. */
  readonly bufferBytes: number;
}

class PacedCarrier implements Carrier {
  readonly headroom = 0;
  peer!: PacedCarrier;
  bytesReceived = 0;
  /** Bytes that the path has delivered from here. */
  delivered = 0;
  largestBacklog = 0;
  readonly #clock: ManualClock;
  readonly #path: PathOptions;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #inPath = 0;
  #freeAt = 0;
  #handler: CarrierHandler | undefined;
  #closed = false;

  constructor(clock: ManualClock, path: PathOptions) {
    this.#clock = clock;
    this.#path = path;
  }

  get bufferedAmount(): number {
    return this.#waitingBytes;
  }

  cork(): void {}
  uncork(): void {}

  send(parts: readonly Buffer[]): void {
    if (this.#closed) return;
    const message = Buffer.concat(parts);
    this.#waiting.push(message);
    this.#waitingBytes += message.length;
    this.#accept();
  }

  bind(handler: CarrierHandler): void {
    this.#handler = handler;
  }

  close(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    setImmediate(() => {
      this.#handler?.closed(code, reason);
      this.peer.close(code, reason);
    });
  }

  terminate(): void {
    this.close(1006, 'terminated');
  }

  #accept(): void {
    while (this.#waiting.length > 0 && this.#inPath < this.#path.bufferBytes) {
      const message = this.#waiting.shift() as Buffer;
      this.#waitingBytes -= message.length;
      this.#inPath += message.length;
      this.largestBacklog = Math.max(this.largestBacklog, this.#inPath);
      const now = this.#clock.monotonic();
      this.#freeAt = Math.max(now, this.#freeAt) + message.length / this.#path.bytesPerMs;
      this.#clock.timer(this.#freeAt - now, () => {
        this.#inPath -= message.length;
        const waited = this.#waiting.length > 0;
        this.#accept();
        if (waited) this.#handler?.drained();
      });
      this.#clock.timer(this.#freeAt - now + this.#path.oneWayMs, () => {
        if (this.#closed) return;
        this.delivered += message.length;
        this.peer.bytesReceived += message.length;
        this.peer.#handler?.message(message);
      });
    }
  }
}

export function pacedLink(
  clock: ManualClock,
  path: PathOptions,
  back: PathOptions = path,
): { a: PacedCarrier; b: PacedCarrier } {
  const a = new PacedCarrier(clock, path);
  const b = new PacedCarrier(clock, back);
  a.peer = b;
  b.peer = a;
  return { a, b };
}
