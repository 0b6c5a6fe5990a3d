import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { connectProxy } from '../support/wire.ts';

describe('gateway and portal over a real WebSocket', () => {
  it('opens streams in both directions, byte-exact, with half-close (24)', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal);
    await gateway.connected();
    const bytes = randomBytes(3_000_000);
    for (const open of [
      () => portal.server.roster.tunnel('gw-1').open({ target: 'agent' }),
      () => gateway.client.tunnel.open({ target: 'portal' }),
    ]) {
      const stream = await open();
      stream.end(bytes);
      const back = await readAll(stream);
      expect(sha(back)).toBe(sha(bytes));
    }
    await expect(portal.server.roster.tunnel('gw-1').open({ target: 'tcp:evil:1' })).rejects.toMatchObject({
      code: 'ERR_TUNNEL_DENIED',
    });
  });

  it('brings documents down and facts up', async () => {
    await using portal = await startPortal();
    const store = portal.storeOf('gw-1');
    store.want('cluster', 'cl-1', 3, { name: 'one' });
    await using gateway = startGateway(portal);
    gateway.store.addEvents(5);
    gateway.store.putSnapshot('gateway', 'gw-1', 1, { version: '1' });
    await until(
      () => store.events.length === 5 && store.snapshots.length === 1 && store.acknowledged.length === 1,
    );
    expect(gateway.store.documents.get('cluster/cl-1')).toMatchObject({
      generation: 3,
      spec: { name: 'one' },
    });
    expect(store.acknowledged[0]).toMatchObject({ generation: 3, outcome: 'applied' });
    await until(() => gateway.store.acknowledgedSeq === 5 && gateway.store.snapshots.size === 0);
    store.want('cluster', 'cl-1', 4, null);
    await until(() => store.acknowledged.length === 2);
    expect(gateway.store.documents.get('cluster/cl-1')).toMatchObject({ generation: 4, spec: null });
  });

  it('X9: a stream survives a cut byte-exact; the session is the same one', async () => {
    await using portal = await startPortal();
    await using proxy = await connectProxy();
    await using gateway = startGateway(portal, { proxy: { httpProxy: proxy.url } });
    await gateway.connected();
    const before = portal.server.roster.get('gw-1');
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const bytes = randomBytes(20_000_000);
    const reading = readAll(stream);
    stream.end(bytes);
    await once(stream, 'data');
    proxy.cut();
    expect(sha(await reading)).toBe(sha(bytes));
    const after = portal.server.roster.get('gw-1');
    expect(after?.sessionId).toBe(before?.sessionId);
    expect(after?.epoch).toBe(2);
  });

  it('62: stops in order: open streams finish, the portal hears it, nothing is left', async () => {
    await using portal = await startPortal();
    const gateway = startGateway(portal, { drainMs: GIVE_UP_MS });
    await gateway.connected();
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    stream.write('half');
    const stopped = gateway.stop();
    stream.end(' done');
    expect((await readAll(stream)).toString()).toBe('half done');
    await stopped;
    await until(() => portal.server.roster.size === 0);
    expect(portal.server.roster.list()).toEqual([]);
    await until(() => gateway.store.listeners + portal.storeOf('gw-1').listeners === 0);
  });
});

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
