import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import type { SyncDocument } from '../../src/tunnel/ports.ts';
import { encodeMessage, MAX_SYNC_MESSAGE_BYTES, MessageReader } from '../../src/tunnel/sync-wire.ts';
import { GatewayStore, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { connectProxy } from '../support/wire.ts';

describe('documents, down', () => {
  it('42: one that is there already changes nothing, however often and late it is delivered', async () => {
    const store = new GatewayStore();
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'cl-1', 2, { v: 2 });
    for (let round = 0; round < 3; round += 1) {
      await using gateway = startGateway(portal, { store });
      await gateway.connected();
      await until(() => wanted.acknowledged.length === round + 1);
    }
    // sent once; later sessions saw in the list of known documents that it is on disk
    expect(store.applied).toHaveLength(1);
    expect(wanted.acknowledged.map(({ outcome }) => outcome)).toEqual(['applied', 'applied', 'applied']);
  });

  it('a reconnect writes nothing for documents whose acknowledgement is stored', async () => {
    const store = new GatewayStore();
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    for (const id of ['cl-1', 'cl-2']) {
      wanted.wanted.set(`cluster/${id}`, {
        kind: 'cluster',
        id,
        generation: 3,
        spec: {},
        acknowledged: 3,
      } as SyncDocument);
      store.documents.set(`cluster/${id}`, { kind: 'cluster', id, generation: 3, spec: {} });
    }
    await using _gateway = startGateway(portal, { store });
    wanted.want('cluster', 'cl-1', 4, {});
    await until(() => wanted.acknowledged.length === 1);
    expect(wanted.acknowledged).toEqual([{ kind: 'cluster', id: 'cl-1', generation: 4, outcome: 'applied' }]);
    expect(store.applied).toHaveLength(1);
  });

  it('a portal restored from a backup goes on behind the generation that the gateway has', async () => {
    const store = new GatewayStore();
    store.documents.set('cluster/cl-1', { kind: 'cluster', id: 'cl-1', generation: 9, spec: {} });
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'cl-1', 4, {});
    await using _gateway = startGateway(portal, { store });
    await until(() => wanted.acknowledged.length === 1);
    expect(wanted.acknowledged).toEqual([{ kind: 'cluster', id: 'cl-1', generation: 9, outcome: 'stale' }]);
    wanted.want('cluster', 'cl-1', 10, { after: 'restore' });
    await until(() => wanted.acknowledged.length === 2);
    expect(store.applied).toMatchObject([{ generation: 10 }]);
  });

  it('a gateway restored from a backup is told again what was deleted since, others are not', async () => {
    const store = new GatewayStore();
    store.documents.set('cluster/cl-1', { kind: 'cluster', id: 'cl-1', generation: 1, spec: {} });
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    for (const id of ['cl-1', 'cl-2'])
      wanted.wanted.set(`cluster/${id}`, {
        kind: 'cluster',
        id,
        generation: 2,
        spec: null,
        acknowledged: 2,
      } as SyncDocument);
    await using _gateway = startGateway(portal, { store });
    wanted.want('cluster', 'cl-3', 1, {});
    await until(() => wanted.acknowledged.length === 2);
    expect(store.applied.map(({ id }) => id).sort()).toEqual(['cl-1', 'cl-3']);
  });

  it('the gateway is told once a session when it has all that there is, refusals included, never before', async () => {
    const store = new GatewayStore();
    store.judge = ({ id }) => (id === 'cl-3' ? { refused: 'odd' } : 'applied');
    const held = Promise.withResolvers<void>();
    store.beforeApply = ({ id }) => (id === 'cl-17' ? held.promise : undefined);
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    for (let n = 0; n < 40; n += 1) wanted.want('cluster', `cl-${n}`, 1 + n, n === 5 ? null : {});
    {
      await using gateway = startGateway(portal, { store });
      await until(() => store.applied.some(({ id }) => id === 'cl-17'));
      await new Promise<void>((resolve) => void setTimeout(resolve, 50));
      expect(store.currents).toEqual([]);
      held.resolve();
      await until(() => store.currents.length === 1);
      expect(store.currents[0]).toHaveLength(39);
      wanted.want('cluster', 'cl-late', 100, {});
      await until(() => wanted.acknowledged.length === 41);
      expect(store.currents).toHaveLength(1);
      await gateway.stop();
    }
    // with nothing new, and with nothing at all
    await using _again = startGateway(portal, { store });
    await until(() => store.currents.length === 2);
    await using other = startGateway(portal, { id: 'gw-2' });
    await until(() => other.store.currents.length === 1);
  });

  it('43: only the newest generation travels while one is on its way; older acknowledgements change nothing', async () => {
    const store = new GatewayStore();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    store.beforeApply = () => held;
    await using portal = await startPortal();
    await using gateway = startGateway(portal, { store });
    await gateway.connected();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'cl-1', 1, {});
    await until(() => store.applied.length === 1);
    for (let generation = 2; generation <= 50; generation += 1)
      wanted.want('cluster', 'cl-1', generation, { generation });
    release();
    await until(() => wanted.acknowledged.at(-1)?.generation === 50);
    expect(store.applied.map(({ generation }) => generation)).toEqual([1, 50]);
    expect(wanted.acknowledged.map(({ generation }) => generation)).toEqual([1, 50]);
  });

  it('44: a week of revisions made while the gateway was away arrives as one document each', async () => {
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    for (let generation = 1; generation <= 10_000; generation += 1)
      wanted.want('cluster', `cl-${generation % 40}`, generation, { generation });
    await using gateway = startGateway(portal);
    await until(() => wanted.acknowledged.length === 40);
    expect(gateway.store.applied).toHaveLength(40);
    expect(gateway.store.documents.get('cluster/cl-0')?.generation).toBe(10_000);
  });

  it('a document is sent once on a live connection, however long its acknowledgement takes', async () => {
    const store = new GatewayStore();
    store.beforeApply = () => new Promise((resolve) => setTimeout(resolve, 100));
    await using portal = await startPortal();
    await using gateway = startGateway(portal, { store });
    await gateway.connected();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'cl-1', 1, {});
    for (let rings = 0; rings < 20; rings += 1) {
      wanted.want('cluster', 'cl-2', 1, {});
      await new Promise<void>((resolve) => void setTimeout(resolve, 2));
    }
    await until(() => wanted.acknowledged.length === 2);
    expect(store.applied).toHaveLength(2);
  });

  it('46: a document whose handler throws is parked with its cause after three tries; the others go on', async () => {
    const store = new GatewayStore();
    store.beforeApply = ({ id }) => {
      if (id === 'poison') throw new Error('cannot digest');
    };
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'poison', 1, {});
    wanted.want('cluster', 'fine', 1, {});
    await using gateway = startGateway(portal, { store });
    await until(() => wanted.acknowledged.length === 2);
    expect(gateway.store.applied.filter(({ id }) => id === 'poison')).toHaveLength(3);
    expect(wanted.acknowledged.find(({ id }) => id === 'poison')?.outcome).toEqual({
      refused: expect.stringContaining('cannot digest'),
    });
    expect(wanted.acknowledged.find(({ id }) => id === 'fine')?.outcome).toBe('applied');
  });

  it('41: a full disk is waited out, and acknowledged only when the document is on it', async () => {
    const store = new GatewayStore();
    let full = true;
    store.beforeApply = () => {
      if (full) throw new PcgError('STORAGE_FAILED', 'no space left');
    };
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'cl-1', 1, {});
    await using _gateway = startGateway(portal, { store, random: () => 0 });
    await until(() => store.applied.length >= 3);
    expect(wanted.acknowledged).toEqual([]);
    full = false;
    await until(() => wanted.acknowledged.length === 1);
    expect(wanted.acknowledged[0]?.outcome).toBe('applied');
    expect(store.documents.size).toBe(1);
  });

  it('a refusal is told and not retried on the same connection; deletion travels like any generation (45)', async () => {
    const store = new GatewayStore();
    store.judge = ({ id }) => (id === 'odd' ? { refused: 'spec.pools: too many' } : 'applied');
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'odd', 1, {});
    wanted.want('cluster', 'gone', 7, null);
    await using _gateway = startGateway(portal, { store });
    await until(() => wanted.acknowledged.length === 2);
    wanted.want('cluster', 'other', 1, {});
    await until(() => wanted.acknowledged.length === 3);
    expect(store.applied.filter(({ id }) => id === 'odd')).toHaveLength(1);
    expect(wanted.acknowledged.find(({ id }) => id === 'odd')?.outcome).toEqual({
      refused: 'spec.pools: too many',
    });
    expect(store.documents.get('cluster/gone')).toMatchObject({ generation: 7, spec: null });
  });

  it('47: one that is too large is refused at the portal, visibly, and blocks nothing', async () => {
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    wanted.want('cluster', 'huge', 1, 'x'.repeat(MAX_SYNC_MESSAGE_BYTES));
    wanted.want('cluster', 'large', 1, 'x'.repeat(5_000_000));
    await using gateway = startGateway(portal);
    await until(() => wanted.acknowledged.length === 2);
    expect(wanted.acknowledged.find(({ id }) => id === 'huge')?.outcome).toEqual({
      refused: expect.stringContaining('too large'),
    });
    expect(gateway.store.documents.get('cluster/large')?.spec).toHaveLength(5_000_000);
  });
});

describe('snapshots, up', () => {
  it('44: only the newest waits: a flood costs the portal what it can take', async () => {
    await using portal = await startPortal();
    const stored = portal.storeOf('gw-1');
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    let storing = false;
    stored.beforeStore = () => {
      storing = true;
      return held;
    };
    await using gateway = startGateway(portal);
    await gateway.connected();
    gateway.store.putSnapshot('cluster', 'cl-1', 1, { n: 1 });
    await until(() => storing);
    for (let revision = 2; revision <= 1000; revision += 1)
      gateway.store.putSnapshot('cluster', 'cl-1', revision, { n: revision });
    release();
    await until(() => stored.snapshots.at(-1)?.revision === 1000);
    expect(stored.snapshots.map(({ revision }) => revision)).toEqual([1, 1000]);
    await until(() => gateway.store.snapshots.size === 0);
  });

  it('47: a refused one and one beyond all limits are given up, visibly, without a loop', async () => {
    await using portal = await startPortal();
    const stored = portal.storeOf('gw-1');
    let judged = 0;
    stored.judge = (snapshot) => {
      if (snapshot.id !== 'odd') return 'stored';
      judged += 1;
      return { refused: 'unknown cluster' };
    };
    await using gateway = startGateway(portal);
    gateway.store.putSnapshot('cluster', 'odd', 1, {});
    gateway.store.putSnapshot('cluster', 'huge', 1, 'x'.repeat(MAX_SYNC_MESSAGE_BYTES));
    gateway.store.putSnapshot('cluster', 'fine', 1, { nodes: 'x'.repeat(2_000_000) });
    await until(() => gateway.store.snapshots.size === 0);
    expect(judged).toBe(1);
    expect(stored.snapshots.map(({ id }) => id)).toEqual(['fine']);
  });
});

describe('events, up', () => {
  it('11, X11: a week offline: every event once and in order, over many cuts', async () => {
    await using portal = await startPortal();
    await using proxy = await connectProxy();
    const store = new GatewayStore();
    store.addEvents(10_000);
    const stored = portal.storeOf('gw-1');
    await using _gateway = startGateway(portal, { store, proxy: { httpProxy: proxy.url }, random: () => 0 });
    for (let cut = 1; cut <= 5; cut += 1) {
      await until(() => stored.events.length > cut * 1500);
      proxy.cut();
    }
    await until(() => stored.events.length === 10_000 && store.acknowledgedSeq === 10_000);
    expect(stored.events.map(({ seq }) => seq)).toEqual(Array.from({ length: 10_000 }, (_, at) => at + 1));
    expect(stored.offered).toHaveLength(10_000);
  });

  it('36: after the portal lost its memory of the session, a new one goes on where its store ends', async () => {
    const first = await startPortal();
    await using gateway = startGateway(first, { random: () => 0 });
    gateway.store.addEvents(300);
    await until(() => gateway.store.acknowledgedSeq === 300);
    const { port } = first;
    await first[Symbol.asyncDispose]();
    gateway.store.addEvents(300);
    await using portal = await startPortal({ before: first, listenOn: port });
    await until(() => portal.storeOf('gw-1').events.length === 600);
    expect(portal.storeOf('gw-1').offered).toHaveLength(600);
  });

  it('58: a store that fails for a while is waited for; nothing is lost, nothing comes twice', async () => {
    await using portal = await startPortal();
    const stored = portal.storeOf('gw-1');
    let failures = 2;
    stored.beforeStore = () => {
      if (failures-- > 0) throw new Error('database is locked');
    };
    await using gateway = startGateway(portal);
    gateway.store.addEvents(10);
    await until(() => gateway.store.acknowledgedSeq === 10);
    expect(stored.offered).toHaveLength(10);
  });

  it('44: what the portal did not take is offered again from where it stopped', async () => {
    await using portal = await startPortal();
    const stored = portal.storeOf('gw-1');
    const store = new GatewayStore();
    store.addEvents(5);
    store.events = store.events.slice(2); // the bound dropped 1 and 2
    let offers = 0;
    const append = stored.appendEvents.bind(stored);
    stored.appendEvents = async (events) => {
      offers += 1;
      if (offers === 2) {
        // the second offer of the same hole is the truth
        stored.events.push(...events);
        return 5;
      }
      return await append(events);
    };
    await using _gateway = startGateway(portal, { store });
    await until(() => store.acknowledgedSeq === 5);
    expect(offers).toBe(2);
  });

  it('an event with megabytes of evidence does not block the ones behind it', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal);
    gateway.store.addEvents(1);
    gateway.store.addEvents(1, { data: { console: 'x'.repeat(20_000_000) } });
    gateway.store.addEvents(1, { data: { console: 'x'.repeat(1_000_000) } });
    await until(() => gateway.store.acknowledgedSeq === 3);
    const [, cut, whole] = portal.storeOf('gw-1').events;
    expect(cut).toMatchObject({ seq: 2, reason: 'NodeReady', data: { truncated: true } });
    expect(JSON.stringify(whole).length).toBeGreaterThan(1_000_000);
  });
});

describe('chunks', () => {
  it('come together in order, and a message beyond the limit is an error with bounded memory', () => {
    const message = { t: 'document', spec: 'ü'.repeat(500_000) };
    const chunks = encodeMessage(message);
    expect(chunks.length).toBeGreaterThan(5);
    const reader = new MessageReader();
    for (const chunk of chunks.slice(0, -1)) expect(reader.push(chunk)).toBeUndefined();
    expect(reader.push(chunks.at(-1)!)).toEqual(message);
    const endless = Buffer.alloc(1024 * 1024, 1);
    expect(() => {
      for (let n = 0; n < 100; n += 1) reader.push(endless);
    }).toThrow(RangeError);
    expect(reader.push(Buffer.from('\0{"t":"x"}'))).toEqual({ t: 'x' });
    expect(() => reader.push(Buffer.from('\0nonsense'))).toThrow(SyntaxError);
  });

  it('68: lies in a message cost nothing: odd types, depth bombs, prototype keys, huge numbers', async () => {
    await using portal = await startPortal();
    await using gateway = startGateway(portal);
    await gateway.connected();
    const session = portal.server.roster.sessions()[0]!;
    const lies = [
      'null',
      '[]',
      '"x"',
      '{"t":"toString"}',
      '{"t":"document"}',
      '{"t":"document","kind":"","id":"x","generation":1}',
      '{"t":"document","kind":"cluster","id":"x","generation":-1}',
      '{"t":"document","kind":"cluster","id":"x","generation":1e308}',
      `{"t":"document","kind":"cluster","id":"${'x'.repeat(1000)}","generation":1}`,
      '{"__proto__":{"polluted":true},"t":"ready","lastEventSeq":0}',
      `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
      '{"t":"ready","lastEventSeq":"many"}',
      'nonsense',
    ];
    for (const lie of lies) await session.sendSync('sync', Buffer.from(`\0${lie}`));
    for (const lie of [
      '{"t":"events","seq":-5}',
      '{"t":"snapshot","kind":"a","id":"b","revision":9,"outcome":"stored"}',
    ]) {
      await session.sendSync('ack', Buffer.from(`\0${lie}`));
    }
    portal.storeOf('gw-1').want('cluster', 'cl-1', 1, {});
    await until(() => portal.storeOf('gw-1').acknowledged.length === 1);
    expect(gateway.store.applied.map(({ id }) => id)).toEqual(['cl-1']);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});
