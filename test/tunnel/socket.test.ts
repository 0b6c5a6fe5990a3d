/** Sessions over real WebSockets and through a real TCP proxy that misbehaves. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { CLOSE, STREAM } from '../../src/tunnel/codes.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { collect } from '../support/collect.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { hurriedClock } from '../support/hurried-clock.ts';
import { liveBuffers } from '../support/live-memory.ts';
import { until } from '../support/tunnel-pair.ts';
import { WebSocketPair } from '../support/web-socket-pair.ts';
import { closedPort } from '../support/wire.ts';

const clock = unhurriedClock;
/** Through one stream; the full size is 5 GB: `PCG_SOAK_MB=5000`. */
const SOAK_MB = Number(process.env['PCG_SOAK_MB'] ?? 100);
const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const pause = (ms: number) => clock.sleep(ms);

const echo = async () => (stream: TunnelStream) => void stream.on('error', () => {}).pipe(stream);

/** A TCP server on an ephemeral port that handles each connection with `serve`. */
async function target(serve: (socket: Socket) => void): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address() as { port: number };
  return {
    port: address.port,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

const dialTo = (port: number) => async () => {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
};

describe('WebSocket carrier', () => {
  it('masks in the open: the bytes on the wire are not the bytes of the stream', async () => {
    await using pair = await WebSocketPair.listening({ clock, portalTarget: echo });
    await using spy = await FaultProxy.to(pair.port);
    const sniffed: Buffer[] = [];
    const secret = Buffer.from('a sentence that must not be seen');
    await using plain = await target((socket) => {
      const onward = connect(spy.port, '127.0.0.1');
      socket.on('data', (data: Buffer) => sniffed.push(data));
      socket.pipe(onward).pipe(socket);
      socket.on('error', () => {});
      onward.on('error', () => {});
    });
    await pair.dial(plain.port);
    const stream = await pair.gateway.open({ target: 'portal' });
    stream.end(secret);
    expect((await collect(stream)).equals(secret)).toBe(true);
    expect(Buffer.concat(sniffed).includes(secret)).toBe(false);
  });

  it('carries large data through masked and unmasked directions unchanged', async () => {
    await using pair = await WebSocketPair.listening({ clock, portalTarget: echo, gatewayTarget: echo });
    await pair.dial();
    const data = randomBytes(5_000_001);
    const streams = await Promise.all([
      pair.gateway.open({ target: 'portal' }),
      pair.portal.open({ target: 'agent' }),
    ]);
    const answers = await Promise.all(
      streams.map((stream) => {
        stream.end(data);
        return collect(stream);
      }),
    );
    for (const answer of answers) expect(sha(answer)).toBe(sha(data));
  });

  it('#31: a text message ends with 4400', async () => {
    await using pair = await WebSocketPair.listening({ clock });
    await pair.dial();
    const closed = once(pair.webSocket, 'close');
    pair.webSocket.send('hello');
    expect((await closed)[0]).toBe(CLOSE.PROTOCOL);
    await until(() => pair.portal.state.kind === 'closed');
    expect(pair.portal.state).toMatchObject({ error: { closeCode: CLOSE.PROTOCOL } });
  });

  it('#31: an oversized message ends with 4413, and nothing of it is kept', async () => {
    await using pair = await WebSocketPair.listening({ clock });
    await pair.dial();
    pair.webSocket.send(Buffer.alloc(161 * 1024));
    await until(() => pair.portal.state.kind === 'closed');
    expect(pair.portal.state).toMatchObject({ error: { closeCode: CLOSE.TOO_BIG } });
  });

  it('#31: a message in fragments is one message', async () => {
    let heard = 0;
    await using pair = await WebSocketPair.listening({ clock, sync: async () => void (heard += 1) });
    await pair.dial();
    const ping = Buffer.alloc(28);
    ping[0] = 8;
    ping[3] = 16;
    pair.webSocket.send(ping.subarray(0, 5), { fin: false, binary: true });
    pair.webSocket.send(ping.subarray(5), { fin: true, binary: true });
    // what comes behind it is read as well
    await pair.gateway.sendSync('sync', Buffer.from('next'));
    await until(() => heard === 1);
    expect(pair.portal.state.kind).toBe('attached');
  });

  it('#69: whoever says nothing is hung up on after 5 s with 4408, whoever lies at once', async () => {
    // five seconds of the portal's clock are one of ours
    await using hurried = await WebSocketPair.listening({ clock: hurriedClock(5) });
    const silent = new WebSocket(`ws://127.0.0.1:${hurried.port}`);
    expect((await once(silent, 'close'))[0]).toBe(CLOSE.HANDSHAKE_TIMEOUT);
    await using pair = await WebSocketPair.listening({ clock });
    const liar = new WebSocket(`ws://127.0.0.1:${pair.port}`);
    liar.once('open', () => liar.send(Buffer.alloc(12)));
    expect((await once(liar, 'close'))[0]).toBe(CLOSE.PROTOCOL);
  });
});

describe('over a real TCP path', () => {
  it('#32: RST at many byte offsets both ways: every stream ends byte-exact', async () => {
    await using pair = await WebSocketPair.listening({ clock, gatewayTarget: echo });
    await using proxy = await FaultProxy.to(pair.port);
    await pair.dial(proxy.port);
    const data = randomBytes(3_000_000);
    const streams = await Promise.all(Array.from({ length: 4 }, () => pair.portal.open({ target: 'agent' })));
    const answers = Promise.all(streams.map((stream) => collect(stream)));
    for (const stream of streams) stream.end(data);
    let over = false;
    void answers.then(() => (over = true));
    let cuts = 0;
    for (let offset = 1500; offset < 40_000_000 && cuts < 12; offset = Math.floor(offset * 2.1) + 1) {
      proxy.set(cuts % 2 === 0 ? 'down' : 'up', {
        cutAfter: offset,
        cutWith: cuts % 3 === 0 ? 'fin' : 'rst',
      });
      await until(() => over || pair.gateway.state.kind === 'detached');
      if (pair.gateway.state.kind !== 'detached') break;
      cuts += 1;
      proxy.set('up', { cutAfter: undefined });
      proxy.set('down', { cutAfter: undefined });
      expect((await pair.dial(proxy.port)).kind).toBe('resumed');
    }
    proxy.set('up', { cutAfter: undefined });
    proxy.set('down', { cutAfter: undefined });
    for (const answer of await answers) expect(sha(answer)).toBe(sha(data));
    expect(cuts).toBeGreaterThan(3);
  });

  it('#12: a path that delivers one byte at a time changes nothing', async () => {
    await using pair = await WebSocketPair.listening({ clock, gatewayTarget: echo });
    await using proxy = await FaultProxy.to(pair.port, { up: { pieceBytes: 1 }, down: { pieceBytes: 1 } });
    expect((await pair.dial(proxy.port)).kind).toBe('established');
    const stream = await pair.portal.open({ target: 'agent' });
    stream.end('drip');
    expect((await collect(stream)).toString()).toBe('drip');
  });

  it('#2 #40: a frozen path and a new one from elsewhere: the session moves and the streams go on', async () => {
    await using pair = await WebSocketPair.listening({ clock, gatewayTarget: echo });
    await using first = await FaultProxy.to(pair.port);
    await using second = await FaultProxy.to(pair.port);
    await pair.dial(first.port);
    const stream = await pair.portal.open({ target: 'agent' });
    const data = randomBytes(2_000_000);
    const answer = collect(stream);
    first.freeze();
    stream.end(data);
    await pause(50);
    expect((await pair.dial(second.port)).kind).toBe('resumed');
    first.thaw();
    expect(sha(await answer)).toBe(sha(data));
    expect(pair.portal.epoch).toBe(2);
  });

  it('#14: opposite big transfers on one stream, both ends full, do not deadlock', async () => {
    const fromGateway = randomBytes(6_000_000);
    let heard: Promise<Buffer> = Promise.resolve(Buffer.alloc(0));
    await using pair = await WebSocketPair.listening({
      clock,
      gatewayTarget: async () => (stream: TunnelStream) => {
        heard = collect(stream);
        stream.end(fromGateway);
      },
    });
    await pair.dial();
    const stream = await pair.portal.open({ target: 'agent' });
    const fromPortal = randomBytes(6_000_000);
    const answer = collect(stream);
    stream.end(fromPortal);
    expect(sha(await answer)).toBe(sha(fromGateway));
    expect(sha(await heard)).toBe(sha(fromPortal));
  });

  it(
    `#20: ${SOAK_MB} MB through one stream, twice in a row`,
    async () => {
      await using pair = await WebSocketPair.listening({ clock, gatewayTarget: echo });
      await pair.dial();
      const chunk = randomBytes(1_000_000);
      for (let time = 0; time < 2; time += 1) {
        const stream = await pair.portal.open({ target: 'agent' });
        const out = createHash('sha256');
        const back = createHash('sha256');
        stream.on('data', (data: Buffer) => back.update(data));
        for (let sent = 0; sent < SOAK_MB; sent += 1) {
          // no two chunks alike: one that is lost, doubled or out of place changes the digest
          const own = Buffer.from(chunk);
          own.writeUInt32BE(sent, sent % 100_000);
          out.update(own);
          if (!stream.write(own)) await once(stream, 'drain');
        }
        stream.end();
        await once(stream, 'end');
        expect(back.digest('hex')).toBe(out.digest('hex'));
      }
    },
    6_000 * SOAK_MB,
  );

  for (const STALLED of [1, 100, 1000])
    it(`#9: ${STALLED} stalled readers cost their credit; the others and commands do not notice`, async () => {
      const stalled: TunnelStream[] = [];
      await using pair = await WebSocketPair.listening({
        clock,
        gatewayTarget: async (open) => (stream: TunnelStream) => {
          if (open.target === 'stall') stalled.push(stream);
          else stream.on('error', () => {}).pipe(stream);
        },
      });
      await pair.dial();
      const roundTrips = async (count: number): Promise<void> => {
        const stream = await pair.portal.open({ target: 'agent' });
        for (let index = 0; index < count; index += 1) {
          stream.write('x');
          await once(stream, 'data');
        }
        stream.destroy();
      };
      await roundTrips(50);
      const before = await liveBuffers();
      let written = 0;
      // no more unanswered at a time than a session takes
      const turns = Array.from({ length: 100 }, () => Promise.resolve());
      let next = 0;
      const open = (): Promise<TunnelStream> => {
        const turn = next++ % turns.length;
        const opening = (turns[turn] as Promise<unknown>).then(() =>
          pair.portal.open({ target: 'stall', class: 3 }),
        );
        turns[turn] = opening.then(() => {});
        return opening;
      };
      // all write the same memory: what grows is the tunnel's
      const chunk = Buffer.alloc(65_536, 1);
      const writers = await Promise.all(Array.from({ length: STALLED }, () => open()));
      for (const writer of writers) {
        writer.on('error', () => {});
        for (let index = 0; index < 8; index += 1) writer.write(chunk, () => (written += chunk.length));
      }
      // what left the writers is what the gateway's budget promised: 16 MiB, floors included
      const promised = STALLED === 1 ? 256 * 1024 : 1024 * 1024;
      await until(() => written >= promised && stalled.length === STALLED);
      // until nothing moves any more while others come and go on the same connection
      for (let last = -1; last !== written; await pause(300)) {
        last = written;
        await roundTrips(50);
      }
      const after = await liveBuffers();
      expect(written).toBeLessThanOrEqual(16 * 1024 * 1024);
      expect(stalled).toHaveLength(STALLED);
      // both ends are in this process: the budget, and what is kept for replay until it is acknowledged
      expect(after - before).toBeLessThan((16 + 8 + 8) * 1024 * 1024);
      // nothing of the stalled ones goes on meanwhile: whoever waited behind them would wait for ever
      await roundTrips(50);
      expect(written).toBeLessThanOrEqual(16 * 1024 * 1024);
      await pair.portal.sendSync('sync', Buffer.from('a command'));
    });

  it('#24 #25: half-closes stay half-closes, resets stay resets, through to the targets', async () => {
    const heard: string[] = [];
    await using late = await target((socket) => {
      // answers only after the request ended, some time later
      void collect(socket).then(async (request) => {
        heard.push(request.toString());
        await pause(50);
        socket.end('late answer');
      });
    });
    await using rude = await target((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        socket.write('partial');
        void pause(30).then(() => socket.resetAndDestroy());
      });
    });
    let sawReset: Error | undefined;
    await using victim = await target((socket) => {
      socket.resume();
      socket.on('error', (error) => {
        sawReset = error;
      });
    });
    const ports: Record<string, number> = { late: late.port, rude: rude.port, victim: victim.port };
    await using pair = await WebSocketPair.listening({
      clock,
      gatewayTarget: (open) => dialTo(ports[open.target] as number)(),
    });
    await pair.dial();

    const polite = await pair.portal.open({ target: 'late' });
    polite.end('request');
    expect((await collect(polite)).toString()).toBe('late answer');
    expect(heard).toEqual(['request']);

    const broken = await pair.portal.open({ target: 'rude' });
    let ended = false;
    broken.on('end', () => {
      ended = true;
    });
    broken.resume();
    broken.write('hello');
    const [error] = (await once(broken, 'error')) as [Error];
    expect(error).toMatchObject({ streamCode: STREAM.PEER_RESET });
    expect(ended).toBe(false);

    const aborted = await pair.portal.open({ target: 'victim' });
    aborted.write('hello');
    await pause(30);
    aborted.destroy();
    await until(() => sawReset !== undefined);
    expect(sawReset).toMatchObject({ code: 'ECONNRESET' });
    await until(() => pair.gateway.streams === 0 && pair.portal.streams === 0);
  });

  it('#26: nobody listens at the target: CONN_REFUSED, and the session lives', async () => {
    const port = await closedPort();
    await using pair = await WebSocketPair.listening({ clock, gatewayTarget: dialTo(port) });
    await pair.dial();
    await expect(pair.portal.open({ target: 'tcp:x:1' })).rejects.toMatchObject({
      streamCode: STREAM.CONN_REFUSED,
    });
    expect(pair.gateway.state.kind).toBe('attached');
  });

  it('#30: a million one-byte writes from many tasks keep their order and share frames', async () => {
    await using pair = await WebSocketPair.listening({ clock, gatewayTarget: echo });
    await pair.dial();
    const streams = await Promise.all(Array.from({ length: 4 }, () => pair.portal.open({ target: 'agent' })));
    const answers = streams.map((stream) => collect(stream));
    await Promise.all(
      streams.map(async (stream, task) => {
        for (let index = 0; index < 250_000; index += 1) {
          if (!stream.write(Buffer.from([(index + task) & 0xff]))) await once(stream, 'drain');
          if (index % 5000 === 0) stream.write('');
        }
        stream.end();
      }),
    );
    for (const [task, answer] of answers.entries()) {
      const data = await answer;
      expect(data).toHaveLength(250_000);
      expect(data.every((byte, index) => byte === ((index + task) & 0xff))).toBe(true);
    }
  });

  it('#62: drain tells the peer, lets streams finish, refuses new ones and closes 1001', async () => {
    const told = Promise.withResolvers<void>();
    await using pair = await WebSocketPair.listening({
      clock,
      gatewayTarget: echo,
      portalDrain: () => told.resolve(),
    });
    await pair.dial();
    const stream = await pair.portal.open({ target: 'agent' });
    stream.write('first ');
    const draining = pair.gateway.drain({
      reason: 'stop',
      deadlineMs: 5000,
      reconnectAfterMs: 10,
      spreadMs: 5,
    });
    await told.promise;
    await expect(pair.portal.open({ target: 'agent' })).rejects.toMatchObject({
      streamCode: STREAM.DRAINING,
    });
    stream.end('last');
    expect((await collect(stream)).toString()).toBe('first last');
    await draining;
    expect(await pair.portal.closed).toMatchObject({ closeCode: CLOSE.GOING_AWAY });
  });
});
