/**
 * Where log lines go: a pipe or a terminal that may have stopped reading, or be gone. Lines then wait up to a bound;
 * more are dropped and counted, and the count is said when it flows again. Logging never holds up or ends a program.
 */
import type { Writable } from 'node:stream';
import { type Clock, systemClock } from './clock.ts';

/** Bytes of lines that may wait. */
export const MAX_WAITING_BYTES = 4 * 1024 * 1024;

export class BoundedDestination {
  readonly #stream: Writable;
  readonly #clock: Pick<Clock, 'now'>;
  #dropped = 0;

  constructor(stream: Writable, clock: Pick<Clock, 'now'> = systemClock) {
    this.#stream = stream;
    this.#clock = clock;
    // a reader that is gone (EPIPE): there is nobody left to tell
    stream.on('error', () => {});
  }

  write(line: string): void {
    if (this.#stream.destroyed || this.#stream.writableLength > MAX_WAITING_BYTES) {
      this.#dropped += 1;
      return;
    }
    if (this.#dropped > 0) {
      const note = { level: 'warn', time: new Date(this.#clock.now()).toISOString(), dropped: this.#dropped };
      this.#dropped = 0;
      this.#stream.write(`${JSON.stringify({ ...note, msg: 'log lines dropped: nobody read them' })}\n`);
    }
    this.#stream.write(line);
  }
}
