/**
 * Joins a stream of the tunnel with what its target is here (a TCP socket, a pipe): bytes both ways with
 * backpressure, half-closes as half-closes, and resets as resets, never as ends.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { STREAM, StreamError, streamCodeOf } from './codes.ts';
import { EMPTY } from './frame.ts';
import type { SessionStream, Sink } from './stream.ts';

/** Of a target's own buffer limit: what one turn brings may go beyond it, as long as the system takes it. */
const BURST = 2;

/** A chunk of this size has others behind it: it waits for the end of the turn, smaller ones for that of the read. */
const BULK_BYTES = 8 * 1024;

/** Joins until both ends are closed. Sockets must have been made with `allowHalfOpen: true`. */
export function join(stream: SessionStream, target: Duplex): void {
  const feed = new Feed(stream, target);
  stream.on('end', () => {
    feed.leave();
    target.end();
  });
  stream.pourInto(feed);
  target.on('drain', () => stream.pull());
  target.on('finish', () => stream.settle());

  let targetEnded = target.readableEnded;
  target.on('data', (chunk: Buffer) => {
    if (!stream.send(chunk)) target.pause();
  });
  stream.on('drain', () => target.resume());
  target.on('end', () => {
    targetEnded = true;
    stream.end();
  });
  if (targetEnded) stream.end();
  // a target that was paused until it had somewhere to go flows now
  else target.resume();

  target.on('error', (error) => {
    stream.destroy(new StreamError(streamCodeOf(error), error.message, { cause: error }));
  });
  target.on('close', () => {
    if (!targetEnded && !stream.destroyed)
      stream.destroy(new StreamError(STREAM.PEER_RESET, 'the target closed without an end'));
  });
  stream.on('error', () => reset(target));
  stream.on('stop', () => {
    // nobody reads any more what the target says; it may still be listening
    target.removeAllListeners('data');
    target.resume();
    if (target.writableEnded) target.destroy();
  });
  stream.on('close', () => {
    if (!target.destroyed && !(stream.readableEnded && stream.writableFinished)) reset(target);
  });
}

/** What a turn of the event loop brought for one target leaves at its end, in one system call. */
class Feed implements Sink {
  readonly #stream: SessionStream;
  readonly #target: Duplex;
  /** The first chunk of the turn, while there is no second one: then nothing has to be gathered. */
  #first: Buffer | undefined;
  #corked = false;
  /** A mark waits behind what the target has not taken. */
  #marked = false;

  constructor(stream: SessionStream, target: Duplex) {
    this.#stream = stream;
    this.#target = target;
  }

  take(chunk: Buffer): boolean {
    const target = this.#target;
    if (this.#first === undefined && !this.#corked) {
      this.#first = chunk;
      if (chunk.length >= BULK_BYTES) atEndOfTurn(this);
      else atEndOfRead(this);
      return target.writableLength + chunk.length < BURST * target.writableHighWaterMark;
    }
    if (!this.#corked) {
      this.#corked = true;
      target.cork();
      target.write(this.#first);
      this.#first = undefined;
    }
    target.write(chunk);
    return target.writableLength < BURST * target.writableHighWaterMark;
  }

  get held(): number {
    return this.#target.writableLength + (this.#first?.length ?? 0);
  }

  leave(): void {
    const target = this.#target;
    if (this.#corked) {
      this.#corked = false;
      target.uncork();
    } else if (this.#first !== undefined) {
      const first = this.#first;
      this.#first = undefined;
      if (!target.destroyed) target.write(first);
    }
    // asked only now: what the system took at once is no reason to wait
    if (target.writableLength >= target.writableHighWaterMark) this.#stream.hold();
    this.#settle();
  }

  /** The credit of what was taken goes back now, that of the rest when it was. */
  #settle(): void {
    const target = this.#target;
    this.#stream.settle();
    if (this.#marked || target.writableLength === 0 || target.writableEnded || target.destroyed) return;
    this.#marked = true;
    target.write(EMPTY, this.#onMark);
  }

  readonly #onMark = (): void => {
    this.#marked = false;
    this.#settle();
  };
}

/** Collects feeds until `later` runs what it is given. */
function gathered(later: (run: () => void) => void): (feed: Feed) => void {
  let feeds: Feed[] = [];
  const leave = (): void => {
    const now = feeds;
    feeds = [];
    for (const feed of now) feed.leave();
  };
  return (feed) => {
    if (feeds.push(feed) === 1) later(leave);
  };
}

const atEndOfRead = gathered((run) => process.nextTick(run));
const atEndOfTurn = gathered((run) => void setImmediate(run));

/** An aborted stream must not look like a complete one to the target; only plain TCP can say so. */
function reset(target: Duplex): void {
  if (target.destroyed) return;
  if (target instanceof Socket && !(target instanceof TLSSocket) && target.remoteFamily !== undefined)
    target.resetAndDestroy();
  else target.destroy();
}
