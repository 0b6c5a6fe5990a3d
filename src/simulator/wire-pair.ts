/**
 * Two ends of one simulated TCP connection: back-pressure, half-close and reset, no sockets.
 * Invariant: what one end writes is acknowledged only after the other end has room for it.
 * An end destroyed without an error looks like FIN to its peer, with an error like RST.
 */
import { Duplex } from 'node:stream';

type Done = (error?: Error | null) => void;

/** An Error as Node's own sockets raise it. */
export function socketError(
  code: 'ECONNRESET' | 'ECONNREFUSED' | 'EHOSTUNREACH' | 'EPIPE',
  what: string,
): Error {
  return Object.assign(new Error(`${what} ${code}`), { code, syscall: what });
}

class WireEnd extends Duplex {
  peer!: WireEnd;
  /** The peer's write that waits until this end reads on. */
  #stalled: Done | undefined;
  #finSeen = false;

  override _read(): void {
    const done = this.#stalled;
    this.#stalled = undefined;
    done?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.peer.#receive(chunk, done);
  }

  override _final(done: Done): void {
    this.peer.#receiveFin();
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    const stalled = this.#stalled;
    this.#stalled = undefined;
    stalled?.(socketError('EPIPE', 'write'));
    const { peer } = this;
    if (error) peer.destroy(socketError('ECONNRESET', 'read'));
    else peer.#receiveFin();
    done(error);
  }

  #receive(chunk: Buffer, done: Done): void {
    if (this.destroyed || this.#finSeen) return done(socketError('EPIPE', 'write'));
    if (this.push(chunk)) return done();
    this.#stalled = done;
  }

  #receiveFin(): void {
    if (this.#finSeen || this.destroyed) return;
    this.#finSeen = true;
    this.push(null);
  }
}

/** Both ends of a new connection. */
export function wirePair(): [Duplex, Duplex] {
  const options = { allowHalfOpen: true, decodeStrings: true };
  const left = new WireEnd(options);
  const right = new WireEnd(options);
  left.peer = right;
  right.peer = left;
  return [left, right];
}

/** Ends the connection as a vanished host does: both sides see a reset. */
export function resetWire(end: Duplex): void {
  end.destroy(socketError('ECONNRESET', 'read'));
}
