/**
 * OPEN, OPEN_OK and OPEN_ERR on their way out: class 1, first come first served, so that stream ids reach the peer
 * in the order in which they were given.
 */
import type { OutFrame } from './frame.ts';
import type { Source } from './outlet.ts';
import { FlowLink } from './scheduler.ts';

interface Entry {
  readonly frame: OutFrame;
  readonly sent: () => void;
}

export class CommandQueue implements Source {
  readonly class = 1;
  readonly shareKey = 'session';
  readonly link = new FlowLink();
  queuedAt = 0;
  #entries = new Set<Entry>();

  get size(): number {
    return this.#entries.size;
  }

  get ready(): boolean {
    return this.#entries.size > 0;
  }

  /** `sent` runs after the frame left. The returned function takes it back; false when it had left already. */
  add(frame: OutFrame, sent: () => void): () => boolean {
    const entry: Entry = { frame, sent };
    this.#entries.add(entry);
    return () => this.#entries.delete(entry);
  }

  nextFrame(done: (() => void)[]): OutFrame {
    const entry = this.#entries.values().next().value as Entry;
    this.#entries.delete(entry);
    done.push(entry.sent);
    return entry.frame;
  }

  clear(): void {
    this.#entries.clear();
  }
}
