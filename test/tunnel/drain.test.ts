/** Stopping and restarting either end, in every mood. */
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import { TYPE } from '../../src/tunnel/frame.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import {
  GatewayStore,
  readAll,
  startGateway,
  startPortal,
  type TestGateway,
  type TestPortal,
  until,
} from '../support/tunnel-pair.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { RawPeer } from '../support/raw-peer.ts';

async function stopping(portal: TestPortal, options: Parameters<typeof startGateway>[1] = {}) {
  const gateway = startGateway(portal, options);
  await gateway.connected();
  return gateway;
}

const goneOf = (portal: TestPortal) => {
  const gone: { closeCode: number; reason: string }[] = [];
  portal.server.roster.onChange((change) => {
    if (change.kind === 'gone') gone.push({ closeCode: change.closeCode, reason: change.reason });
  });
  return gone;
};

describe('a gateway that is stopped (62)', () => {
  it('62: idle: it says so, closes with 1001 and leaves nothing', async () => {
    await using portal = await startPortal();
    const gateway = await stopping(portal);
    const gone = goneOf(portal);
    await gateway.stop();
    await until(() => portal.server.roster.size === 0);
    expect(gone).toEqual([expect.objectContaining({ closeCode: 1001 })]);
  });

  it('62: with a stream that never ends it stops at its deadline, and the stream ends with an error', async () => {
    await using portal = await startPortal();
    const gateway = await stopping(portal, { drainMs: 300 });
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const broken = once(stream, 'error');
    stream.write('no end');
    const from = systemClock.monotonic();
    await gateway.stop();
    expect(systemClock.monotonic() - from).toBeGreaterThanOrEqual(290);
    expect((await broken)[0]).toMatchObject({ code: 'ERR_TUNNEL_SESSION_LOST' });
  });

  it('62: with a grace of 0 it does not wait at all', async () => {
    await using portal = await startPortal();
    const gateway = await stopping(portal, { drainMs: 0 });
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const broken = once(stream, 'error');
    stream.write('no end');
    await gateway.stop();
    expect((await broken)[0]).toMatchObject({ code: 'ERR_TUNNEL_SESSION_LOST' });
    await until(() => portal.server.roster.size === 0);
  });

  it('62: told twice it ends at once, whatever is open', async () => {
    await using portal = await startPortal();
    const second = new AbortController();
    const gateway = await stopping(portal, { drainMs: 30_000, force: second.signal });
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const broken = once(stream, 'error');
    stream.write('no end');
    let stopped = false;
    void gateway.stop().then(() => {
      stopped = true;
    });
    await systemClock.sleep(100);
    expect(stopped).toBe(false);
    second.abort(new Error('SIGTERM again'));
    await until(() => stopped);
    expect((await broken)[0]).toMatchObject({ code: 'ERR_TUNNEL_SESSION_LOST' });
  });

  it('62: in the middle of storing a document: it is stored once, and acknowledged by the next life', async () => {
    const store = new GatewayStore();
    const held = Promise.withResolvers<void>();
    store.beforeApply = () => held.promise;
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    const gateway = await stopping(portal, { store, drainMs: 100 });
    wanted.want('cluster', 'cl-1', 7, {});
    await until(() => store.applied.length === 1);
    await gateway.stop();
    held.resolve();
    await until(() => store.documents.size === 1);
    expect(wanted.acknowledged).toEqual([]);
    await using _next = await stopping(portal, { store });
    await until(() => wanted.acknowledged.length === 1);
    expect(wanted.acknowledged[0]).toMatchObject({ generation: 7, outcome: 'applied' });
    expect(store.applied).toHaveLength(1);
  });

  it('62: DRAIN leaves at once, though nobody says anything on the connection', async () => {
    const clock = new ManualClock();
    await using peer = await RawPeer.established({ clock });
    await clock.advance(10_000);
    peer.received.length = 0;
    void peer.session.drain({ reason: 'stop', deadlineMs: 5000, reconnectAfterMs: 0, spreadMs: 0 });
    await clock.settle(5);
    expect(peer.of(TYPE.DRAIN)).toHaveLength(1);
  });
});

describe('one process after the other (63)', () => {
  it('63: a restart under load refuses no open, loses no document and stores none twice', async () => {
    await using portal = await startPortal();
    const wanted = portal.storeOf('gw-1');
    const store = new GatewayStore();
    const tunnel = portal.server.roster.tunnel('gw-1');
    const unhurried = { store, drainMs: GIVE_UP_MS };
    let gateway: TestGateway = await stopping(portal, unhurried);
    const over = new AbortController();
    const failures: unknown[] = [];
    let answered = 0;
    const ask = async (text: string): Promise<void> => {
      let stream: TunnelStream | undefined;
      try {
        stream = await tunnel.open({ target: 'agent' });
        stream.end(text);
        const echo = (await readAll(stream)).toString();
        if (echo === text) answered += 1;
        else failures.push(`"${text}" came back as "${echo}"`);
      } catch (error) {
        failures.push(error);
      }
    };
    const asking: Promise<void>[] = [];
    let generation = 0;
    const loading = (async () => {
      for (let n = 0; !over.signal.aborted; n += 1) {
        asking.push(ask(`question ${n}`));
        generation += 1;
        wanted.want('cluster', `cl-${generation}`, 1, {});
        await systemClock.sleep(5);
      }
    })();
    for (let restart = 0; restart < 5; restart += 1) {
      const more = asking.length + 10;
      await until(() => asking.length >= more);
      await gateway.stop();
      gateway = await stopping(portal, unhurried);
    }
    over.abort();
    await loading;
    await Promise.all(asking);
    expect(failures).toEqual([]);
    expect(answered).toBe(asking.length);
    expect(answered).toBeGreaterThanOrEqual(50);
    await until(() => new Set(wanted.acknowledged.map(({ id }) => id)).size === generation);
    expect(store.documents.size).toBe(generation);
    // no handler ran twice for one generation
    expect(new Set(store.applied.map(({ id }) => id)).size).toBe(generation);
    expect(store.applied).toHaveLength(generation);
    await gateway.stop();
  });
});

describe('a portal that restarts with a hint (64)', () => {
  it('64: forty gateways come back over the time that it gave them, none before', async () => {
    const first = await startPortal();
    const random = seededRandom(64, 'gateways').next;
    // of the gateways: nothing has passed since DRAIN when they decide
    const clock = new ManualClock();
    const gateways = Array.from({ length: 40 }, (_, n) =>
      startGateway(first, { id: `gw-${n}`, random, clock }),
    );
    await Promise.all(gateways.map((gateway) => gateway.connected()));
    await first.server.drain({
      reason: 'update',
      deadlineMs: 1000,
      reconnectAfterMs: 60_000,
      spreadMs: 2000,
    });
    const waits = await Promise.all(
      gateways.map(async (gateway) => {
        const state = await gateway.stateIs('waiting');
        if (state.state !== 'waiting') throw new Error(state.state);
        return Date.parse(state.nextAttemptAt) - Date.parse(state.since);
      }),
    );
    waits.sort((a, b) => a - b);
    expect(waits[0]).toBeGreaterThanOrEqual(60_000);
    expect(waits.at(-1)).toBeLessThanOrEqual(62_000);
    expect((waits.at(-1) as number) - (waits[0] as number)).toBeGreaterThan(0.8 * 2000);
    const { port } = first;
    await first[Symbol.asyncDispose]();
    await using second = await startPortal({
      before: first,
      listenOn: port,
      server: { limits: { unprovenPerAddress: 100 } },
    });
    await clock.advance(59_999);
    expect(gateways.map((gateway) => gateway.states.at(-1)?.state)).toEqual(Array(40).fill('waiting'));
    await clock.advance(2_001);
    await until(() => second.server.roster.list().filter(({ attached }) => attached).length === 40);
    await Promise.all(gateways.map((gateway) => gateway.stop()));
  });
});
