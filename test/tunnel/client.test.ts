import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Registry } from 'prom-client';
import { AgentStatusSchema } from '../../src/contract/api.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { CLOSE } from '../../src/tunnel/codes.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { readAll, startGateway, startPortal, type TestGateway, until } from '../support/tunnel-pair.ts';
import { closedPort, connectProxy, httpServer, tcpServer } from '../support/wire.ts';

const soon = { random: () => 0 };

function waits(gateway: TestGateway) {
  return gateway.states.flatMap((state) => (state.state === 'waiting' ? [state] : []));
}

describe('the loop that never ends', () => {
  it('51: takes over from its own session that the portal still holds, without refusal', async () => {
    await using portal = await startPortal();
    await using old = startGateway(portal, { instanceId: 'node-1' });
    await old.connected();
    const before = portal.server.roster.get('gw-1')!.sessionId;
    await using restarted = startGateway(portal, { instanceId: 'node-1' });
    await restarted.connected();
    expect(portal.server.roster.get('gw-1')?.sessionId).not.toBe(before);
    expect(waits(restarted)).toEqual([]);
    expect(await old.stateIs('waiting')).toMatchObject({ cause: { code: 'CONFLICT' } });
  });

  it.each([
    ['revoked', 'GATEWAY_REVOKED'],
    ['unknown', 'UNAUTHENTICATED'],
    ['foreign key', 'UNAUTHENTICATED'],
    ['foreign portal', 'PORTAL_UNTRUSTED'],
  ])('%s: waits 5 minutes or more, with a cause that says what to do (37)', async (what, code) => {
    await using portal = await startPortal();
    const options = {
      revoked: {},
      unknown: { registered: false },
      'foreign key': { registered: false, identity: generateIdentity() },
      'foreign portal': { portalKey: generateIdentity().publicKey },
    }[what]!;
    if (what === 'revoked') portal.revoked.add('gw-1');
    if (what === 'foreign key') portal.gateways.set('gw-1', generateIdentity());
    await using gateway = startGateway(portal, { ...soon, ...options });
    const state = await gateway.stateIs('waiting');
    if (state.state !== 'waiting') throw new Error(state.state);
    expect(state.cause).toMatchObject({ code, fix: expect.stringMatching(/\w/) });
    expect(Date.parse(state.nextAttemptAt) - Date.parse(state.since)).toBeGreaterThanOrEqual(300_000);
    await until(() => portal.server.roster.get('gw-1')?.attached !== true);
  });

  it('revoked while connected: stops at once, keeps its store, and does not come back soon', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal, soon);
    portal.storeOf('gw-1').want('cluster', 'cl-1', 1, {});
    await until(() => gateway.store.documents.size === 1);
    portal.revoked.add('gw-1');
    portal.server.roster.disconnect('gw-1', CLOSE.REVOKED, 'removed');
    expect(await gateway.stateIs('waiting')).toMatchObject({ cause: { code: 'GATEWAY_REVOKED' } });
    expect(gateway.store.documents.size).toBe(1);
  });

  it.each(['revoked', 'paired anew'])(
    '37: a gateway that is %s between the look-up of its key and its admission is not let in',
    async (what) => {
      let looked = 0;
      const held = Promise.withResolvers<void>();
      await using portal = await startPortal({
        server: {
          lookupGateway: async (id) => {
            const answer = portal.revoked.has(id)
              ? ('revoked' as const)
              : { publicKey: portal.gateways.get(id)!.publicKey };
            looked += 1;
            if (looked === 1) await held.promise;
            return answer;
          },
        },
      });
      // the store answered before the removal, and its answer arrives behind it
      await using gateway = startGateway(portal, soon);
      await until(() => looked === 1);
      if (what === 'revoked') portal.revoked.add('gw-1');
      else portal.gateways.set('gw-1', generateIdentity());
      portal.server.roster.disconnect('gw-1', CLOSE.REVOKED, 'removed');
      held.resolve();
      const state = await gateway.stateIs('waiting');
      expect(state).toMatchObject({
        cause: { code: what === 'revoked' ? 'GATEWAY_REVOKED' : 'UNAUTHENTICATED' },
      });
      expect(portal.server.roster.size).toBe(0);
    },
  );

  it('36: a portal that restarted without memory gets a new session; open streams end with SESSION_LOST', async () => {
    const first = await startPortal();
    await using gateway = startGateway(first, soon);
    await gateway.connected();
    const stream = await first.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const own = await gateway.client.tunnel.open({ target: 'portal' });
    const ended = [once(stream, 'error'), once(own, 'error')];
    const { port } = first;
    await first[Symbol.asyncDispose]();
    expect(await gateway.stateIs('waiting')).toMatchObject({ cause: { code: 'PORTAL_UNREACHABLE' } });
    for (const [error] of await Promise.all(ended))
      expect(error).toMatchObject({ code: 'ERR_TUNNEL_SESSION_LOST' });
    await using second = await startPortal({ before: first, listenOn: port });
    await until(() => second.server.roster.get('gw-1')?.attached === true);
    const again = await second.server.roster.tunnel('gw-1').open({ target: 'agent' });
    again.end('alive');
    expect((await readAll(again)).toString()).toBe('alive');
  });

  it('63: a draining portal says when to come back; the gateway obeys and nothing is lost', async () => {
    const first = await startPortal();
    await using gateway = startGateway(first, soon);
    await gateway.connected();
    const stream = await first.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const draining = first.server.drain({
      reason: 'update',
      deadlineMs: 5000,
      reconnectAfterMs: 250,
      spreadMs: 0,
    });
    stream.end('finish me');
    expect((await readAll(stream)).toString()).toBe('finish me');
    await draining;
    await until(() => waits(gateway).length > 0);
    // the first one: later ones come of a portal that is not there
    const state = waits(gateway)[0] as ReturnType<typeof waits>[number];
    const inMs = Date.parse(state.nextAttemptAt) - Date.parse(state.since);
    expect(inMs).toBeLessThanOrEqual(250);
    const { port } = first;
    await first[Symbol.asyncDispose]();
    await using second = await startPortal({ before: first, listenOn: port });
    await until(() => second.server.roster.get('gw-1')?.attached === true);
  });

  it('52: no answer of the network leaves it without a next attempt', async () => {
    const answers = [
      '',
      '\r\n\r\n',
      'HTTP/1.1 999 What\r\n\r\n',
      'HTTP/1.1 101 Switching Protocols\r\n\r\n',
      'HTTP/9.9 101 X\r\n\r\n',
      `HTTP/1.1 101 X\r\n${'A: b\r\n'.repeat(20_000)}\r\n`,
      '\x16\x03\x01\x00\x05hello',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      'HTTP/1.1 302 Found\r\nLocation: ://///\r\n\r\n',
      'HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n',
    ];
    let asked = 0;
    await using chaos = await tcpServer((socket) => {
      socket.once('data', () => socket.end(Buffer.from(answers[asked++ % answers.length]!, 'latin1')));
    });
    await using portal = await startPortal();
    await using gateway = startGateway(portal, { ...soon, url: `ws://127.0.0.1:${chaos.port}` });
    await until(() => asked > answers.length * 3);
    expect(waits(gateway).length).toBeGreaterThan(answers.length * 2);
  });

  it('52: a portal that talks nonsense after a good upgrade is an outcome like any other', async () => {
    const { WebSocketServer } = await import('ws');
    const nonsense = [
      Buffer.alloc(0),
      Buffer.from('hello'),
      Buffer.alloc(12),
      Buffer.from([1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]),
      Buffer.from([1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d]),
      Buffer.alloc(170_000),
    ];
    let met = 0;
    let heard = 0;
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0]! });
    await using http = await httpServer(() => {});
    http.server.on('upgrade', (request, socket, head) => {
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        webSocket.on('error', () => {});
        const turn = met++ % (nonsense.length + 1);
        if (turn === nonsense.length) webSocket.send('text is not part of the protocol');
        else webSocket.send(nonsense[turn]!);
        // what is answered, or hung up on, has been read
        let answered = false;
        const onAnswer = (): void => {
          if (!answered) heard += 1;
          answered = true;
        };
        webSocket.once('pong', onAnswer).once('close', onAnswer).ping();
      });
    });
    await using portal = await startPortal();
    const clock = new ManualClock();
    const gateway = startGateway(portal, { ...soon, clock, url: `ws://127.0.0.1:${http.port}/tunnel/v1` });
    for (let turn = 0; turn <= nonsense.length; turn += 1) {
      await until(() => heard > turn);
      // what the handshake does not take for a message it leaves to its deadline
      while (waits(gateway).length <= turn) await clock.advance(1_000);
      await clock.advance(Math.max(0, Date.parse(waits(gateway)[turn]!.nextAttemptAt) - clock.now()));
    }
    expect(met).toBeGreaterThan(nonsense.length);
    await gateway.stop();
    expect(clock.pending).toBe(0);
  });

  it('55: one loop only, whatever is called', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal);
    await expect(gateway.client.run(new AbortController().signal)).rejects.toThrow('runs already');
    await gateway.connected();
    expect(portal.server.roster.list()).toHaveLength(1);
  });

  it('56: a hundred reconnects leave no listener, no timer, no socket and no new metric series', async () => {
    const registry = new Registry();
    await using portal = await startPortal();
    await using proxy = await connectProxy();
    await using gateway = startGateway(portal, { ...soon, proxy: { httpProxy: proxy.url }, registry });
    await gateway.connected();
    const series = async () => (await registry.metrics()).split('\n').length;
    const cutOnce = async (epoch: number) => {
      proxy.cut();
      await until(
        () =>
          portal.server.roster.get('gw-1')?.epoch === epoch && gateway.client.state().state === 'connected',
      );
    };
    await cutOnce(2);
    await cutOnce(3);
    const before = await series();
    for (let epoch = 4; epoch <= 100; epoch += 1) await cutOnce(epoch);
    expect((await series()) - before).toBe(0);
    expect(gateway.store.listeners).toBe(1);
    expect(portal.storeOf('gw-1').listeners).toBe(1);
    await until(() => portal.server.unproven === 0 && proxy.sockets.size === 1);
  });

  it('shows its state as the agent status has it', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal, { ...soon, url: `ws://127.0.0.1:${await closedPort()}` });
    await gateway.stateIs('waiting');
    const schema = AgentStatusSchema.shape.tunnel;
    for (const state of gateway.states) expect(schema.safeParse(state).success).toBe(true);
    const [first] = waits(gateway);
    expect(first?.cause).toMatchObject({
      code: 'PORTAL_UNREACHABLE',
      details: { stage: 'tcp', reason: 'ECONNREFUSED' },
    });
  });

  it('an open waits for the connection up to its deadline, then says offline', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal, { ...soon, url: `ws://127.0.0.1:${await closedPort()}` });
    await expect(gateway.client.tunnel.open({ target: 'portal', deadlineMs: 50 })).rejects.toMatchObject({
      code: 'PORTAL_UNREACHABLE',
    });
    await expect(
      portal.server.roster.tunnel('gw-1').open({ target: 'agent', deadlineMs: 50 }),
    ).rejects.toMatchObject({
      code: 'GATEWAY_OFFLINE',
      retryable: true,
    });
    expect(portal.server.roster.size).toBe(0);
    const opening = portal.server.roster.tunnel('gw-2').open({ target: 'agent' });
    await using late = startGateway(portal, { id: 'gw-2' });
    const stream = await opening;
    stream.end('was worth waiting');
    expect((await readAll(stream)).toString()).toBe('was worth waiting');
    expect(late.client.state().state).toBe('connected');
  });
});
