/**
 * A way between two TCP ports with a rate, a delay, a buffer, or a cut. In its own process, in front of every
 * subject alike. A byte-piping proxy is the same with a large buffer and neither rate nor delay.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { serve } from './rpc.ts';

interface Way {
  readonly toHost: string;
  readonly toPort: number;
  readonly host?: string;
  readonly bytesPerSecond?: number;
  readonly delayMs?: number;
  readonly bufferBytes: number;
}

const sockets = new Set<Socket>();
let server: Server | undefined;
let cut = false;

function carry(from: Socket, to: Socket, { bytesPerSecond, delayMs = 0, bufferBytes }: Way): void {
  let freeAt = 0;
  let held = 0;
  let timer: NodeJS.Timeout | undefined;
  const queue: { bytes: Buffer | 'end'; at: number }[] = [];
  // one timer for all, in order: timers of different lengths overtake each other
  const deliver = (): void => {
    timer = undefined;
    for (;;) {
      const head = queue[0];
      if (head === undefined) return;
      const wait = head.at - performance.now();
      if (wait >= 1) {
        timer = setTimeout(deliver, wait);
        return;
      }
      queue.shift();
      const { bytes } = head;
      if (bytes === 'end') {
        to.end();
        continue;
      }
      to.write(bytes, () => {
        held -= bytes.length;
        if (held <= bufferBytes) from.resume();
      });
    }
  };
  const put = (bytes: Buffer | 'end', at: number): void => {
    queue.push({ bytes, at });
    if (timer === undefined) deliver();
  };
  from.on('data', (bytes: Buffer) => {
    const now = performance.now();
    freeAt = Math.max(now, freeAt) + (bytesPerSecond ? (bytes.length / bytesPerSecond) * 1000 : 0);
    held += bytes.length;
    if (held > bufferBytes) from.pause();
    put(bytes, freeAt + delayMs);
  });
  from.on('end', () => put('end', freeAt + delayMs));
}

serve({
  start: async (way: Way) => {
    server = createServer({ allowHalfOpen: true, highWaterMark: 16 * 1024 }, (client) => {
      const far = connect({ host: way.toHost, port: way.toPort, allowHalfOpen: true });
      const both = [client, far];
      for (const socket of both) {
        sockets.add(socket);
        socket.setNoDelay(true);
        socket.on('error', () => {});
        socket.on('close', () => {
          sockets.delete(socket);
          for (const other of both) other.destroy();
        });
      }
      if (cut) return client.resetAndDestroy();
      carry(client, far, way);
      carry(far, client, way);
    });
    await new Promise<void>((resolve) => server?.listen(0, way.host ?? '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  },
  /** Resets what lives and refuses what comes until `mend`. */
  cut: () => {
    cut = true;
    for (const socket of sockets) socket.resetAndDestroy();
  },
  mend: () => void (cut = false),
});
