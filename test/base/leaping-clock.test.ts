/** The clock of the simulated sites leaps only while nothing is under way, however slow the machine is with it. */
import { pbkdf2 } from 'node:crypto';
import { channel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { LeapingClock } from '../support/leaping-clock.ts';

const HOUR = 3_600_000;
/** Threads of libuv's pool, unless the environment says otherwise. */
const THREADS = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);

/** Turns of the event loop: without anything under way a clock leaps within a few. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate);
}

it('time stands while a file waits for a thread', async () => {
  using clock = new LeapingClock();
  const order: string[] = [];
  const busy = Array.from(
    { length: THREADS },
    () => new Promise((resolve) => pbkdf2('x', 'y', 200_000, 32, 'sha512', resolve)),
  );
  const read = readFile('/proc/self/stat').then(() => order.push('read'));
  const slept = clock.sleep(HOUR).then(() => order.push('leapt'));
  await Promise.all([read, slept, ...busy]);
  expect(order).toEqual(['read', 'leapt']);
});

it('time stands while bytes are between two sockets, not while their reader does not want them', async () => {
  using clock = new LeapingClock();
  // As the kernel of a starved machine holds them back: sent, and not come yet.
  const end = (localPort: number, remotePort: number) => {
    const handle = { bytesWritten: 0, bytesRead: 0, reading: true };
    const socket = { localPort, remotePort, _handle: handle, once: () => {} } as unknown as Socket;
    channel('net.server.socket').publish({ socket });
    return handle;
  };
  const [near, far] = [end(1, 2), end(2, 1)];
  near.bytesWritten = 10;
  let leapt = 0;
  const leap = () => void clock.sleep(HOUR).then(() => (leapt += 1));
  leap();
  await turns(100);
  expect(leapt).toBe(0);
  far.bytesRead = 10;
  await expect.poll(() => leapt).toBe(1);
  near.bytesWritten = 20;
  far.reading = false;
  leap();
  await expect.poll(() => leapt).toBe(2);
  // Whatever never moves holds time up once, and not for ever.
  far.reading = true;
  leap();
  await expect.poll(() => leapt).toBe(3);
  // The most of some goes: a file that somebody else reads may hold up one of them.
  const leaps: number[] = [];
  for (let go = 0; go < 10; go += 1) {
    const before = leapt;
    leap();
    await turns(100);
    leaps.push(leapt - before);
  }
  expect(Math.max(...leaps)).toBeGreaterThan(0);
});

it('what two real sockets say to each other takes no time', async () => {
  using clock = new LeapingClock();
  const server = createServer((socket) => socket.pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const before = clock.monotonic();
  let leaps = 0;
  const tick = () => {
    leaps += 1;
    if (leaps < 1_000) clock.timer(HOUR, tick);
  };
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await once(client, 'connect');
  client.write('to and fro');
  clock.timer(HOUR, tick);
  const [said] = (await once(client, 'data')) as [Buffer];
  expect(said.toString()).toBe('to and fro');
  expect(clock.monotonic()).toBe(before);
  client.destroy();
  server.close();
});
