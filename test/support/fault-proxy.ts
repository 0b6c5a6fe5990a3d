/**
 * A TCP proxy between two real sockets that misbehaves on command: byte-exact cuts, silent freezes, delay, rate
 * limits, slow drip, half-close, RST, and a buffer that swallows megabytes. `up` is from the client to the server.
 * Faults may be changed while connections live and apply to all of them.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Way = 'up' | 'down';

export interface Faults {
  /** Breaks the connection when exactly this many bytes of it have been passed on this way. */
  cutAfter?: number | undefined;
  /** How it breaks: RST (default), or FIN. */
  cutWith?: 'rst' | 'fin' | undefined;
  /** Takes bytes and passes nothing on; no FIN, no RST. */
  frozen?: boolean | undefined;
  /** Passes each byte on this much later. */
  delayMs?: number | undefined;
  /** Passes on at most this many bytes per second. */
  bytesPerSecond?: number | undefined;
  /** Passes on pieces of this size (1: a drip), one per turn of the event loop. */
  pieceBytes?: number | undefined;
  /** Passes nothing of a connection on before this many bytes have come, or `holdMs` after the first of them. */
  holdBytes?: number | undefined;
  /** Default: for ever. */
  holdMs?: number | undefined;
  /** Reads this much ahead of what it passes on; beyond it the sender feels the pressure. Default 64 KiB. */
  bufferBytes?: number | undefined;
}

const DEFAULT_BUFFER_BYTES = 64 * 1024;
/** How often a rate-limited way passes something on, milliseconds. */
const RATE_TICK_MS = 5;

/** One way of one connection. */
class Lane {
  passed = 0;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #faults: () => Faults;
  readonly #cut: (how: 'rst' | 'fin') => void;
  #queue: { bytes: Buffer; at: number }[] = [];
  #queued = 0;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #holding: NodeJS.Timeout | undefined;
  #tokens = 0;
  #tokensAt = performance.now();

  constructor(from: Socket, to: Socket, faults: () => Faults, cut: (how: 'rst' | 'fin') => void) {
    this.#from = from;
    this.#to = to;
    this.#faults = faults;
    this.#cut = cut;
    from.on('data', (bytes: Buffer) => {
      this.#queue.push({ bytes, at: performance.now() + (this.#faults().delayMs ?? 0) });
      this.#queued += bytes.length;
      if (this.#queued > (this.#faults().bufferBytes ?? DEFAULT_BUFFER_BYTES)) from.pause();
      this.pump();
    });
    from.on('end', () => {
      this.#ended = true;
      this.pump();
    });
    to.on('drain', () => this.pump());
  }

  /** Bytes that came and were not passed on. */
  get waiting(): number {
    return this.#queued;
  }

  /** Half-close towards the receiver, whatever is queued. */
  halfClose(): void {
    this.#queue = [];
    this.#ended = true;
    this.#to.end();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    clearTimeout(this.#holding);
    this.#holding = undefined;
  }

  pump(): void {
    const faults = this.#faults();
    if (faults.frozen || this.#to.destroyed || this.#timer !== undefined || this.#holds(faults)) return;
    for (;;) {
      const head = this.#queue[0];
      if (head === undefined) break;
      const now = performance.now();
      if (head.at > now) return this.#later(head.at - now);
      if (this.#to.writableNeedDrain) return;
      let size = head.bytes.length;
      if (faults.pieceBytes !== undefined) size = Math.min(size, faults.pieceBytes);
      if (faults.bytesPerSecond !== undefined) {
        this.#tokens = Math.min(
          faults.bytesPerSecond / 10,
          this.#tokens + ((now - this.#tokensAt) * faults.bytesPerSecond) / 1000,
        );
        this.#tokensAt = now;
        size = Math.min(size, Math.floor(this.#tokens));
        if (size < 1) return this.#later(RATE_TICK_MS);
        this.#tokens -= size;
      }
      const left = (faults.cutAfter ?? Number.POSITIVE_INFINITY) - this.passed;
      if (size >= left) {
        const how = faults.cutWith ?? 'rst';
        // the last bytes must arrive before the end does
        if (left > 0) this.#to.write(head.bytes.subarray(0, left), () => this.#cut(how));
        else this.#cut(how);
        this.passed += left;
        this.#queue = [];
        return;
      }
      this.#to.write(head.bytes.subarray(0, size));
      this.passed += size;
      this.#queued -= size;
      if (size === head.bytes.length) this.#queue.shift();
      else head.bytes = head.bytes.subarray(size);
      if (this.#queued <= (faults.bufferBytes ?? DEFAULT_BUFFER_BYTES)) this.#from.resume();
      if (faults.pieceBytes !== undefined) return this.#later(0);
    }
    if (this.#ended && !this.#to.writableEnded) this.#to.end();
  }

  /** True while the first bytes wait for company. */
  #holds({ holdBytes = 0, holdMs }: Faults): boolean {
    const first = this.#queue[0];
    if (first === undefined || this.passed > 0 || this.#ended || this.#queued >= holdBytes) return false;
    if (holdMs === undefined) return true;
    const left = first.at + holdMs - performance.now();
    if (left <= 0) return false;
    this.#holding ??= setTimeout(() => {
      this.#holding = undefined;
      this.pump();
    }, left);
    return true;
  }

  #later(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.pump();
    }, ms);
  }
}

interface Connection {
  readonly client: Socket;
  readonly server: Socket;
  readonly lanes: Record<Way, Lane>;
}

export class FaultProxy implements AsyncDisposable {
  readonly faults: Record<Way, Faults> = { up: {}, down: {} };
  readonly #listener: Server;
  readonly #connections = new Set<Connection>();
  /** Connections accepted so far. */
  accepted = 0;
  /** While true new connections are reset at once. */
  refusing = false;

  private constructor(listener: Server) {
    this.#listener = listener;
  }

  /** Listens on an ephemeral port of 127.0.0.1 and passes on to `port`. */
  static async to(port: number, faults: Partial<Record<Way, Faults>> = {}): Promise<FaultProxy> {
    const listener = createServer({ allowHalfOpen: true });
    const proxy = new FaultProxy(listener);
    Object.assign(proxy.faults.up, faults.up);
    Object.assign(proxy.faults.down, faults.down);
    listener.on('connection', (client) => proxy.#accept(client, port));
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  /** Live connections. */
  get size(): number {
    return this.#connections.size;
  }

  /** Bytes passed on by the newest connection. */
  passed(way: Way): number {
    return [...this.#connections].at(-1)?.lanes[way].passed ?? 0;
  }

  /** Bytes of all connections that came and were not passed on. */
  waiting(way: Way): number {
    return [...this.#connections].reduce((sum, { lanes }) => sum + lanes[way].waiting, 0);
  }

  /** Changes the faults of one way; what waits moves on under the new ones. */
  set(way: Way, faults: Faults): void {
    Object.assign(this.faults[way], faults);
    for (const { lanes } of this.#connections) lanes[way].pump();
  }

  freeze(...ways: Way[]): void {
    for (const way of ways.length > 0 ? ways : (['up', 'down'] as const)) this.set(way, { frozen: true });
  }

  thaw(): void {
    for (const way of ['up', 'down'] as const) this.set(way, { frozen: false });
  }

  /** Breaks every connection now. */
  cut(how: 'rst' | 'fin' = 'rst'): void {
    for (const connection of this.#connections) this.#break(connection, how);
  }

  /** FIN one way; the other goes on. */
  halfClose(way: Way): void {
    for (const { lanes } of this.#connections) lanes[way].halfClose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => {
      this.#listener.close(() => resolve());
    });
  }

  #accept(client: Socket, port: number): void {
    this.accepted += 1;
    client.on('error', () => {});
    if (this.refusing) {
      client.resetAndDestroy();
      return;
    }
    client.setNoDelay(true);
    const server = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const cut = (how: 'rst' | 'fin'): void => this.#break(connection, how);
    const connection: Connection = {
      client,
      server,
      lanes: {
        up: new Lane(client, server, () => this.faults.up, cut),
        down: new Lane(server, client, () => this.faults.down, cut),
      },
    };
    this.#connections.add(connection);
    server.on('error', () => this.#break(connection, 'rst'));
    for (const socket of [client, server])
      socket.on('close', () => {
        // a reset of one end is a reset of the other; a freeze hides even that
        if (socket.errored || (client.destroyed && server.destroyed)) this.#break(connection, 'rst');
      });
  }

  #break(connection: Connection, how: 'rst' | 'fin'): void {
    if (!this.#connections.delete(connection)) return;
    connection.lanes.up.stop();
    connection.lanes.down.stop();
    for (const socket of [connection.client, connection.server]) {
      if (socket.destroyed) continue;
      if (how === 'rst') socket.resetAndDestroy();
      else {
        socket.end();
        socket.destroySoon();
      }
    }
  }
}
