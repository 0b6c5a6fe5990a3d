/**
 * What a process has begun and not heard of yet, of which its event loop shows nothing: files and names, which other
 * threads read, key generation and signatures, which they make, and bytes between two sockets that are both in this
 * process. However long a machine under load takes for it, that is no idleness.
 */
import { createHook } from 'node:async_hooks';
import { webcrypto } from 'node:crypto';
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** Requests to other threads, as async_hooks calls them; each ends with one callback. */
const OF_THREADS = /^(FSREQ|FILEHANDLECLOSEREQ|GETADDRINFOREQ)/;
const OF_CRYPTO = [
  'generateKey',
  'importKey',
  'exportKey',
  'sign',
  'verify',
  'digest',
  'deriveBits',
] as const;

/** Of the whole process, from its making on. */
export class WorkUnderWay {
  readonly #requests = new Set<number>();
  readonly #wires = new Wires();
  #crypto = 0;

  constructor() {
    const ended = (id: number) => void this.#requests.delete(id);
    createHook({
      init: (id, type) => void (OF_THREADS.test(type) && this.#requests.add(id)),
      after: ended,
      destroy: ended,
      trackPromises: false,
    }).enable();
    // Their requests have no end that async_hooks would tell where a call is not asynchronous.
    const subtle = Object.getPrototypeOf(webcrypto.subtle) as Record<string, unknown>;
    for (const name of OF_CRYPTO) {
      const real = subtle[name] as (...given: unknown[]) => Promise<unknown>;
      const count = this.#counted.bind(this);
      subtle[name] = function (this: unknown, ...given: unknown[]) {
        return count(real.apply(this, given));
      };
    }
  }

  /** Other threads work for this one. */
  get ofThreads(): boolean {
    return this.#crypto > 0 || this.#requests.size > 0;
  }

  /** Bytes are on their way from a socket of this process to another one that reads. */
  onWires(): boolean {
    return this.#wires.busy();
  }

  async #counted(call: Promise<unknown>): Promise<unknown> {
    this.#crypto += 1;
    try {
      return await call;
    } finally {
      this.#crypto -= 1;
    }
  }
}

/** As far as Node tells: what has been given to the kernel to be sent, and what has come out of it. */
interface Counted {
  readonly bytesWritten: number;
  readonly bytesRead: number;
  readonly reading?: boolean;
}

/**
 * Looks in a row that find the same bytes on the way before they count as stuck, e.g. in front of a reader who left
 * without a word: one of them takes a millisecond and more.
 */
const STUCK_LOOKS = 1000;

class Wires {
  /** By the ports of the near and the far end; `far`: by which its other end is found. */
  readonly #ends = new Map<string, { readonly socket: Socket; readonly far: string }>();
  /** What is stuck, and counts no more until it moves. */
  readonly #stuck = new WeakMap<Socket, string>();
  #last = '';
  #looks = 0;

  constructor() {
    subscribe('net.client.socket', (message) => {
      const { socket } = message as { socket: Socket };
      socket.once('connect', () => this.#add(socket));
    });
    subscribe('net.server.socket', (message) => this.#add((message as { socket: Socket }).socket));
  }

  busy(): boolean {
    const found: [Socket, string][] = [];
    for (const [ports, { socket: from, far }] of this.#ends) {
      const to = this.#ends.get(far);
      const [sends, takes] = [countersOf(from), to && countersOf(to.socket)];
      if (!sends || !takes || takes.reading === false || sends.bytesWritten === takes.bytesRead) continue;
      const state = `${ports} ${sends.bytesWritten} ${takes.bytesRead}`;
      if (this.#stuck.get(from) !== state) found.push([from, state]);
    }
    if (found.length === 0) return false;
    const all = found.map(([, state]) => state).join();
    this.#looks = all === this.#last ? this.#looks + 1 : 0;
    this.#last = all;
    if (this.#looks < STUCK_LOOKS) return true;
    for (const [from, state] of found) this.#stuck.set(from, state);
    return false;
  }

  #add(socket: Socket): void {
    const { localPort, remotePort } = socket;
    if (localPort === undefined || remotePort === undefined) return; // no TCP, or gone already
    const ports = `${localPort} ${remotePort}`;
    this.#ends.set(ports, { socket, far: `${remotePort} ${localPort}` });
    socket.once('close', () => {
      if (this.#ends.get(ports)?.socket === socket) this.#ends.delete(ports);
    });
  }
}

function countersOf(socket: Socket): Counted | undefined {
  return (socket as unknown as { _handle: Counted | null })._handle ?? undefined;
}
