/**
 * The load of the tunnel bench, the same for every subject: plain TCP to a port at the portal's side, which the
 * subject carries to a port at the gateway's side. One process is the client, another one the target.
 * A connection's first byte says what it is: E echo, S the target sends for ever, D the target swallows.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { quantile } from '../results.ts';
import { pause, serve } from './rpc.ts';

const CHUNK = Buffer.alloc(64 * 1024, 0x5a);
const REQUEST_BYTES = 64;
/** What is taken for no answer where answers are measured. */
const NO_ANSWER_MS = 10_000;
/** Only ends a hang, where it does not matter how long the answer takes. */
const HANG_MS = 60_000;

let received = 0;
const open = new Set<Socket>();
let echoing: { socket: Socket; whole: boolean }[] = [];

function pour(socket: Socket): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(CHUNK)) {}
  };
  socket.on('drain', more);
  more();
}

function adopt(socket: Socket): Socket {
  socket.setNoDelay(true);
  open.add(socket);
  socket.on('error', () => {});
  socket.on('close', () => open.delete(socket));
  return socket;
}

async function target(): Promise<number> {
  const server = createServer((socket) => {
    adopt(socket);
    socket.once('data', (first: Buffer) => {
      const kind = String.fromCharCode(first[0] as number);
      if (kind === 'S') return pour(socket);
      if (kind === 'D') {
        received += first.length;
        socket.on('data', (bytes: Buffer) => void (received += bytes.length));
        return;
      }
      if (first.length > 1) socket.write(first.subarray(1));
      socket.on('data', (bytes: Buffer) => void socket.write(bytes));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const dial = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' }, () => resolve(adopt(socket)));
    socket.once('error', reject);
  });

/** One request; milliseconds. Rejects when the connection dies or `withinMs` pass. */
function request(socket: Socket, prefix = '', withinMs = NO_ANSWER_MS): Promise<number> {
  const started = performance.now();
  return new Promise((resolve, reject) => {
    let left = REQUEST_BYTES;
    const done = (error?: Error): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('close', onClose);
      if (error) reject(error);
      else resolve(performance.now() - started);
    };
    const onClose = (): void => done(new Error('closed'));
    const onData = (bytes: Buffer): void => {
      left -= bytes.length;
      if (left <= 0) done();
    };
    const timer = setTimeout(() => done(new Error('no answer')), withinMs);
    socket.on('data', onData).on('close', onClose);
    if (socket.destroyed) return onClose();
    socket.write(Buffer.from(prefix + 'x'.repeat(REQUEST_BYTES)));
  });
}

serve({
  target,
  count: () => received,
  reset: () => {
    for (const socket of open) socket.destroy();
    echoing = [];
    received = 0;
  },
  /** Bulk connections that run until `reset`. */
  bulk: async ({ port, kind, n }: { port: number; kind: 'S' | 'D'; n: number }) => {
    for (let i = 0; i < n; i += 1) {
      const socket = await dial(port);
      socket.write(kind);
      if (kind === 'S') socket.on('data', (bytes: Buffer) => void (received += bytes.length));
      else pour(socket);
    }
  },
  /** Connections whose answer nobody reads. */
  stall: async ({ port, n }: { port: number; n: number }) => {
    for (let i = 0; i < n; i += 1) (await dial(port)).pause().write('S');
  },
  /** `n` connections, each one request at a time, for `ms`. */
  requests: async ({ port, n, ms }: { port: number; n: number; ms: number }) => {
    const sockets = await Promise.all(Array.from({ length: n }, () => dial(port)));
    await Promise.all(sockets.map((socket) => request(socket, 'E')));
    const latencies: number[] = [];
    const started = performance.now();
    await Promise.all(
      sockets.map(async (socket) => {
        while (performance.now() - started < ms) latencies.push(await request(socket));
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    for (const socket of sockets) socket.destroy();
    return { perSecond: latencies.length / seconds, p99: quantile(latencies, 0.99) };
  },
  /** A request every `everyMs`, or when the one before was answered. `p50Bytes`: bulk that arrived here before its answer. */
  small: async ({ port, n, everyMs }: { port: number; n: number; everyMs: number }) => {
    const socket = await dial(port);
    await request(socket, 'E');
    const latencies: number[] = [];
    const bulkBytes: number[] = [];
    for (let i = 0; i < n; i += 1) {
      const before = received;
      const took = await request(socket).catch(() => 10_000);
      latencies.push(took);
      bulkBytes.push(received - before);
      await pause(Math.max(0, everyMs - took));
    }
    socket.destroy();
    return {
      p50: quantile(latencies, 0.5),
      p99: quantile(latencies, 0.99),
      p50Bytes: quantile(bulkBytes, 0.5),
    };
  },
  /** One fresh connection, one request; false when it failed. */
  try: async ({ port }: { port: number }) => {
    try {
      const socket = await dial(port);
      try {
        await request(socket, 'E');
        return true;
      } finally {
        socket.destroy();
      }
    } catch {
      return false;
    }
  },
  /** Echo connections that stay. */
  idle: async ({ port, n }: { port: number; n: number }) => {
    for (let done = 0; done < n; done += 50) {
      const some = await Promise.all(Array.from({ length: Math.min(50, n - done) }, () => dial(port)));
      await Promise.all(some.map((socket) => request(socket, 'E', HANG_MS)));
      echoing.push(...some.map((socket) => ({ socket, whole: true })));
    }
  },
  /** Share of the staying connections that still answer, within `withinMs`. */
  alive: async ({ withinMs }: { withinMs?: number }) => {
    const answers = await Promise.all(
      echoing.map(({ socket }) =>
        request(socket, '', withinMs).then(
          () => 1,
          () => 0,
        ),
      ),
    );
    return answers.reduce<number>((sum, one) => sum + one, 0) / answers.length;
  },
});
