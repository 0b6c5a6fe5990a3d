import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { GatewayStore, startGateway, startPortal, type TestPortal, until } from '../support/tunnel-pair.ts';

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

const silentSocket = async (portal: TestPortal): Promise<WebSocket> => {
  const socket = new WebSocket(portal.url, 'pcg.tunnel.v1');
  socket.on('error', () => {});
  await once(socket, 'open');
  return socket;
};

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
    await using portal = await startPortal();
    const silent = await silentSocket(portal);
    const dripping = await silentSocket(portal);
    const drip = setInterval(() => dripping.readyState === dripping.OPEN && dripping.ping(), 200);
    const codes = await Promise.all([once(silent, 'close'), once(dripping, 'close')]);
    clearInterval(drip);
    for (const [code] of codes) expect(code).toBe(4408);
    expect(portal.server.unproven).toBe(0);
  }, 15_000);

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

  it('49: 300 gateways come back at once after the portal restarted, each with its session replaced', async () => {
    const first = await startPortal();
    const gateways = Array.from({ length: 300 }, (_, n) =>
      startGateway(first, { id: `gw-${n}`, store: new GatewayStore(), random: Math.random }),
    );
    await Promise.all(gateways.map((gateway) => gateway.connected()));
    const { port } = first;
    await first[Symbol.asyncDispose]();
    await using second = await startPortal({
      before: first,
      listenOn: port,
      server: { limits: { unprovenPerAddress: 1000 } },
    });
    await until(() => second.server.roster.list().filter(({ attached }) => attached).length === 300);
    await Promise.all(gateways.map((gateway) => gateway.connected()));
    await Promise.all(gateways.map((gateway) => gateway.stop()));
    await until(() => second.server.roster.size === 0);
  }, 60_000);

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
