import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { Clock } from '../../src/base/clock.ts';
import type { TunnelState } from '../../src/tunnel/client.ts';
import { networkOf } from '../../src/tunnel/strangers.ts';
import { hurriedClock } from '../support/hurried-clock.ts';
import { liveMemory } from '../support/live-memory.ts';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { GatewayStore, startGateway, startPortal, type TestPortal, until } from '../support/tunnel-pair.ts';

/** Real ones, with their sockets, in this process; 5000 are simulated in reconnect.test.ts. */
const GATEWAYS = Number(process.env['PCG_GATEWAYS'] ?? 300);

const upgradeHeaders = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': Buffer.alloc(16).toString('base64'),
};

/** The status of a raw upgrade, and its Retry-After. */
function upgradeStatus(portal: TestPortal, headers: Record<string, string>, path = '/tunnel/v1') {
  return new Promise<{ status: number; retryAfter: string | undefined }>((resolve, reject) => {
    const asking = request({
      host: '127.0.0.1',
      port: portal.port,
      path,
      headers: { ...upgradeHeaders, ...headers },
    });
    asking.once('response', (response) => {
      response.resume();
      resolve({ status: response.statusCode!, retryAfter: response.headers['retry-after'] });
    });
    asking.once('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode!, retryAfter: undefined });
    });
    asking.once('error', reject);
    asking.end();
  });
}

/**
 * The portal's ends of all connections, made to stay: `ws` drops a socket that does not answer its close message after
 * seconds of the real clock. Call the result to let them go.
 */
function kept(portal: TestPortal): () => void {
  const asked = new Set<() => void>();
  let released = false;
  for (const socket of portal.listening.sockets) {
    const destroy = socket.destroy.bind(socket);
    socket.destroy = (error) => {
      if (released) return destroy(error);
      asked.add(() => destroy(error));
      return socket;
    };
  }
  return () => {
    released = true;
    for (const now of asked) now();
  };
}

const silentSocket = async (portal: TestPortal): Promise<WebSocket> => {
  const socket = new WebSocket(portal.url, 'pcg.tunnel.v1');
  socket.on('error', () => {});
  await once(socket, 'open');
  return socket;
};

/** Of the close message that comes among others to a raw socket. */
async function closeCodeOf(socket: Socket): Promise<number> {
  let got = Buffer.alloc(0);
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      await once(socket, 'readable');
      continue;
    }
    got = Buffer.concat([got, chunk]);
    const headEnd = got.indexOf('\r\n\r\n');
    let at = headEnd < 0 ? 0 : headEnd + 4;
    while (at + 4 <= got.length) {
      const short = (got[at + 1] as number) & 0x7f;
      const header = short === 126 ? 4 : 2;
      if (got[at] === 0x88) return got.readUInt16BE(at + header);
      at += header + (short === 126 ? got.readUInt16BE(at + 2) : short);
    }
  }
}

describe('strangers at the door (69)', () => {
  it('half-open handshakes of one address are bounded; a proven gateway does not count', async () => {
    await using portal = await startPortal({ server: { limits: { unprovenPerAddress: 5 } } });
    const strangers = await Promise.all(Array.from({ length: 5 }, () => silentSocket(portal)));
    expect(portal.server.unproven).toBe(5);
    expect(await upgradeStatus(portal, {})).toEqual({ status: 429, retryAfter: '5' });
    for (const stranger of strangers) stranger.terminate();
    await until(() => portal.server.unproven === 0);
    const gateways = Array.from({ length: 12 }, (_, n) =>
      startGateway(portal, { id: `gw-${n}`, random: () => 0 }),
    );
    await Promise.all(gateways.map((gateway) => gateway.connected()));
    expect(portal.server.roster.list()).toHaveLength(12);
    await Promise.all(gateways.map((gateway) => gateway.stop()));
  });

  it('over all addresses there is a bound as well, and it is 503', async () => {
    let address = 0;
    await using portal = await startPortal({
      server: { limits: { unproven: 10 }, addressOf: () => `10.0.0.${address++}` },
    });
    const strangers = await Promise.all(Array.from({ length: 10 }, () => silentSocket(portal)));
    expect(await upgradeStatus(portal, {})).toEqual({ status: 503, retryAfter: '5' });
    for (const stranger of strangers) stranger.terminate();
  });

  it('who says nothing is gone within the handshake deadline, who drips too', async () => {
    // five seconds of the portal's clock are one of ours
    await using portal = await startPortal({ clock: hurriedClock(5) });
    const codes = await Promise.all(
      [false, true].map(async (drips) => {
        const socket = await silentSocket(portal);
        const drip = setInterval(() => drips && socket.readyState === socket.OPEN && socket.ping(), 50);
        const [code] = await once(socket, 'close');
        clearInterval(drip);
        return code as number;
      }),
    );
    expect(codes).toEqual([4408, 4408]);
    await until(() => portal.server.unproven === 0);
  });

  it('69: who has proven nothing holds no more than a greeting, in one message, in fragments or in pongs', async () => {
    const STRANGERS = 60;
    await using portal = await startPortal({ server: { limits: { unprovenPerAddress: STRANGERS } } });
    /** A frame of a client with a zero mask. */
    const frame = (kind: number, payload: Buffer): Buffer => {
      const header = Buffer.alloc(14);
      header.writeUInt8(kind);
      header.writeUInt8(0xff, 1);
      header.writeBigUInt64BE(BigInt(payload.length), 2);
      return Buffer.concat([header, payload]);
    };
    const PONG = Buffer.concat([Buffer.from([0x8a, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)]);
    const floods = [
      // nearly all of the largest message
      frame(0x82, Buffer.alloc(160 * 1024)).subarray(0, -1),
      // fragments of one byte, each in one read with others that are not kept
      Buffer.concat(
        Array.from({ length: 250 }, (_, n) => [
          frame(n === 0 ? 0x02 : 0x00, Buffer.from('x')),
          ...Array.from({ length: 5 }, () => PONG),
        ]).flat(),
      ),
      Buffer.concat(Array.from({ length: 1000 }, () => PONG)),
    ];
    const before = await liveMemory();
    const sockets = Array.from({ length: STRANGERS }, () => connect(portal.port, '127.0.0.1'));
    const head = Object.entries(upgradeHeaders)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
    await Promise.all(
      sockets.map(async (socket) => {
        socket.on('error', () => {});
        socket.write(`GET /tunnel/v1 HTTP/1.1\r\nHost: x\r\n${head}\r\n`);
        await once(socket, 'readable');
      }),
    );
    const release = kept(portal);
    await Promise.all(
      sockets.map(async (socket, n) => {
        const flood = floods[n % floods.length] as Buffer;
        // in pieces: each may leave something behind
        for (let at = 0; at < flood.length && !socket.destroyed; at += 8192) {
          socket.write(flood.subarray(at, at + 8192));
          await new Promise<void>((resolve) => void setTimeout(resolve, 5));
        }
      }),
    );
    expect(portal.server.unproven).toBe(STRANGERS);
    // both ends are in this process; before there was a bound it was 160 KiB a head, and more in fragments
    expect((await liveMemory()) - before).toBeLessThan(STRANGERS * 56 * 1024);
    const said = await Promise.all(sockets.map(async (socket) => await closeCodeOf(socket)));
    expect(new Set(said)).toEqual(new Set([4413]));
    release();
    await until(() => portal.server.unproven === 0);
    // who proves itself may send what it likes
    await using gateway = startGateway(portal);
    await gateway.connected();
    gateway.store.addEvents(1, { data: { console: 'x'.repeat(300_000) } });
    await until(() => gateway.store.acknowledgedSeq === 1);
  });

  it('69: who was refused counts until its socket is gone', async () => {
    await using portal = await startPortal({ server: { limits: { unprovenPerAddress: 2 } } });
    const stubborn = Array.from({ length: 2 }, () => connect(portal.port, '127.0.0.1'));
    const head = Object.entries(upgradeHeaders)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
    for (const socket of stubborn) {
      socket.on('error', () => {});
      socket.write(`GET /tunnel/v1 HTTP/1.1\r\nHost: x\r\n${head}\r\n`);
      await once(socket, 'readable');
    }
    const release = kept(portal);
    for (const socket of stubborn) {
      // what is no greeting is refused at once; the close message is not answered
      socket.write(Buffer.concat([Buffer.from([0x82, 0x8c, 0, 0, 0, 0]), Buffer.alloc(12)]));
      expect(await closeCodeOf(socket)).toBe(4400);
    }
    expect(portal.server.unproven).toBe(2);
    expect(await upgradeStatus(portal, {})).toMatchObject({ status: 429 });
    release();
    await until(() => portal.server.unproven === 0);
    expect(await upgradeStatus(portal, {})).toMatchObject({ status: 101 });
  });

  it('refuses other paths, other subprotocols and plain requests, and takes one whose subprotocol was stripped', async () => {
    await using portal = await startPortal();
    expect(await upgradeStatus(portal, { 'sec-websocket-protocol': 'mqtt' })).toMatchObject({ status: 426 });
    expect(await upgradeStatus(portal, { 'sec-websocket-protocol': 'mqtt, pcg.tunnel.v1' })).toMatchObject({
      status: 101,
    });
    expect(await upgradeStatus(portal, {})).toMatchObject({ status: 101 });
    await expect(upgradeStatus(portal, {}, '/tunnel/v2')).rejects.toThrow();
    expect(await upgradeStatus(portal, {}, '/tunnel/v1?x=1')).toMatchObject({ status: 101 });
    expect(await upgradeStatus(portal, { 'sec-websocket-version': '7' })).toMatchObject({ status: 400 });
    await until(() => portal.server.unproven === 0);
  });

  it('survives a socket that dies in every moment of the upgrade', async () => {
    await using portal = await startPortal();
    for (let bytes = 0; bytes < 200; bytes += 7) {
      const head = `GET /tunnel/v1 HTTP/1.1\r\nHost: x\r\n${Object.entries(upgradeHeaders)
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join('')}\r\n`;
      const socket = connect(portal.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(head.slice(0, bytes * 2), () => socket.resetAndDestroy());
      await once(socket, 'close');
    }
    await until(() => portal.server.unproven === 0 && portal.listening.sockets.size === 0);
    await using gateway = startGateway(portal);
    await gateway.connected();
  });
});

it.each([
  ['10.1.2.3', '10.1.2.3'],
  ['::ffff:10.1.2.3', '10.1.2.3'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::', '2001:db8:1:2::/64'],
  ['2001:0db8::7', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['64:ff9b::10.1.2.3', '64:ff9b:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['unknown', 'unknown'],
  ['x'.repeat(16_000), 'x'.repeat(64)],
])('69: %s is one of %s', (address, network) => {
  expect(networkOf(address)).toBe(network);
});

/** Attempts that came before the moment for which they were announced. */
function tooEarly(states: readonly TunnelState[]): TunnelState[] {
  return states.filter((state, at) => {
    const before = states[at - 1];
    if (state.state !== 'connecting' || before?.state !== 'waiting') return false;
    // a timer may fire within the millisecond
    return Date.parse(state.since) < Date.parse(before.nextAttemptAt) - 2;
  });
}

describe('many gateways', () => {
  it('58: a gateway whose store is stuck holds up nobody else', async () => {
    await using portal = await startPortal();
    portal.storeOf('gw-stuck').beforeStore = () => new Promise(() => {});
    await using stuck = startGateway(portal, { id: 'gw-stuck' });
    await using fine = startGateway(portal, { id: 'gw-fine' });
    for (const gateway of [stuck, fine]) gateway.store.addEvents(1000);
    await until(() => fine.store.acknowledgedSeq === 1000);
    expect(stuck.store.acknowledgedSeq).toBe(0);
    // and its own streams go on, too
    const stream = await portal.server.roster.tunnel('gw-stuck').open({ target: 'agent' });
    stream.destroy();
  });

  it(
    `49: ${GATEWAYS} gateways come back at once after the portal restarted, each with its session replaced`,
    async () => {
      // all come from one address here
      const server = { limits: { unprovenPerAddress: 1000 } };
      const first = await startPortal({ server });
      const gateways = Array.from({ length: GATEWAYS }, (_, n) =>
        startGateway(first, { id: `gw-${n}`, store: new GatewayStore(), random: Math.random }),
      );
      await Promise.all(gateways.map((gateway) => gateway.connected()));
      const { port } = first;
      await first[Symbol.asyncDispose]();
      await using second = await startPortal({ before: first, listenOn: port, server });
      await until(() => second.server.roster.list().filter(({ attached }) => attached).length === GATEWAYS);
      await Promise.all(gateways.map((gateway) => gateway.connected()));
      for (const { states } of gateways) expect(tooEarly(states)).toEqual([]);
      await Promise.all(gateways.map((gateway) => gateway.stop()));
      await until(() => second.server.roster.size === 0);
    },
    300_000 + 600 * GATEWAYS,
  );

  it('a portal that is full says 4503 to who has proven itself; who is there may come again, and a free place is taken', async () => {
    await using portal = await startPortal({ server: { limits: { sessions: 2 } } });
    await using first = startGateway(portal, { id: 'gw-1' });
    const second = startGateway(portal, { id: 'gw-2' });
    await Promise.all([first.connected(), second.connected()]);
    const mayTryAgain = Promise.withResolvers<void>();
    const held: Clock = {
      ...unhurriedClock,
      sleep: async (ms, signal) => {
        await Promise.race([mayTryAgain.promise, once(signal as AbortSignal, 'abort')]);
        await unhurriedClock.sleep(ms, signal);
      },
    };
    await using third = startGateway(portal, { id: 'gw-3', clock: held });
    expect(await third.stateIs('waiting')).toMatchObject({
      cause: {
        code: 'PORTAL_UNREACHABLE',
        message: expect.stringContaining('as many gateways as it can hold'),
        details: { closeCode: 4503 },
      },
    });
    // a stranger learns nothing of it
    await using unknown = startGateway(portal, { id: 'gw-4', registered: false });
    expect(await unknown.stateIs('waiting')).toMatchObject({ cause: { details: { closeCode: 4401 } } });
    // the same gateway's agent was started anew
    await first.stop();
    await using again = startGateway(portal, { id: 'gw-1' });
    await again.connected();
    expect(portal.server.roster.get('gw-3')).toBeUndefined();
    await second.stop();
    mayTryAgain.resolve();
    await third.connected();
    expect(
      portal.server.roster
        .list()
        .map(({ gatewayId }) => gatewayId)
        .toSorted(),
    ).toEqual(['gw-1', 'gw-3']);
  });

  it('65: draining refuses newcomers with 503, disposing leaves no socket', async () => {
    const portal = await startPortal();
    await using gateway = startGateway(portal);
    await gateway.connected();
    await portal.server.drain({ reason: 'stop', deadlineMs: 100, reconnectAfterMs: 60_000, spreadMs: 1000 });
    expect(await upgradeStatus(portal, {})).toMatchObject({ status: 503 });
    await portal.server[Symbol.asyncDispose]();
    await until(() => portal.listening.sockets.size === 0);
    expect(portal.server.roster.size).toBe(0);
    await portal.listening[Symbol.asyncDispose]();
  });

  it('a gateway that is gone for good leaves nothing behind (56)', async () => {
    await using portal = await startPortal({ server: { limits: { graceMs: 50 } } });
    const gateway = startGateway(portal);
    await gateway.connected();
    const changes: string[] = [];
    using _listening = portal.server.roster.onChange((change) => changes.push(change.kind));
    portal.listening.cut();
    portal.gateways.delete('gw-1'); // it will not be let in again
    await until(() => portal.server.roster.size === 0);
    await until(() => changes.at(-1) === 'gone' && portal.storeOf('gw-1').listeners === 0);
    await gateway.stop();
    await until(() => gateway.store.listeners === 0);
  });
});
