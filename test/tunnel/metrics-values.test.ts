/** Not that the metrics are there, but that they say what happened: bytes, seconds and counts that a test knows. */
import { once } from 'node:events';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { systemClock } from '../../src/base/clock.ts';
import { START_CAP_BYTES } from '../../src/tunnel/governor.ts';
import type { GatewayLookup } from '../../src/tunnel/handshake.ts';
import { type TunnelMetrics, tunnelMetrics } from '../../src/tunnel/metrics.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { defaultSettings, Session } from '../../src/tunnel/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { pacedLink } from '../support/paced-link.ts';
import { RawPeer } from '../support/raw-peer.ts';
import { scrape } from '../support/scrape.ts';
import { type PairOptions, SessionPair } from '../support/session-pair.ts';
import { startGateway, startPortal, until } from '../support/tunnel-pair.ts';

const FRAME = 16_384;
const HEADER = 12;

const silent = async () => (stream: TunnelStream) => void stream.on('error', () => {});

/** Two sessions whose portal end alone is measured, and a stream of the portal's. */
async function measured(options: Partial<PairOptions> & { readonly bulk?: boolean } = {}) {
  const clock = new ManualClock();
  const registry = new Registry();
  const pair = await SessionPair.connected({
    clock,
    portalMetrics: tunnelMetrics(registry),
    gatewayTarget: silent,
    ...options,
  });
  const opening = pair.portal.open({ target: 'kube:a', class: options.bulk ? 3 : 2 });
  await clock.advance(1_000);
  const stream = await opening;
  stream.on('error', () => {});
  const read = () => scrape(registry);
  return { clock, pair, stream, read, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
}

describe('gauges', () => {
  it('inflight_bytes and replay_bytes are the wire bytes that nobody has acknowledged', async () => {
    await using end = await measured();
    expect((await end.read()).get('pcg_tunnel_inflight_bytes')).toBe(0);
    end.pair.link.a.frozen = true; // what arrives is acknowledged, but the acknowledgement does not come
    end.stream.write(Buffer.alloc(50_000));
    await end.clock.advance(1_000);
    const wire = 50_000 + Math.ceil(50_000 / FRAME) * HEADER;
    let seen = await end.read();
    expect(seen.get('pcg_tunnel_inflight_bytes')).toBe(wire);
    expect(seen.get('pcg_tunnel_replay_bytes')).toBe(wire);
    end.pair.link.cut();
    await end.clock.settle(10);
    seen = await end.read();
    // nothing flies without a carrier; all of it will be replayed
    expect(seen.get('pcg_tunnel_inflight_bytes')).toBe(0);
    expect(seen.get('pcg_tunnel_inflight_cap_bytes')).toBe(0);
    expect(seen.get('pcg_tunnel_replay_bytes')).toBe(wire);
    expect([
      seen.get('pcg_tunnel_state{state="attached"}'),
      seen.get('pcg_tunnel_state{state="detached"}'),
    ]).toEqual([0, 1]);
    await end.pair.connect();
    await end.clock.advance(1_000);
    seen = await end.read();
    expect(seen.get('pcg_tunnel_replay_bytes')).toBe(0);
    expect(seen.get('pcg_tunnel_state{state="attached"}')).toBe(1);
  });

  it('inflight_cap_bytes begins at 256 KiB and becomes rate x round trip; rtt_seconds is the round trip', async () => {
    const clock = new ManualClock();
    const registry = new Registry();
    const bytesPerMs = 50 * 125;
    const link = pacedLink(clock, { bytesPerMs, oneWayMs: 40, bufferBytes: 10_000_000 });
    const make = (role: 'gateway' | 'portal', metrics?: TunnelMetrics): Session =>
      new Session({
        id: 's',
        role,
        clock,
        graceMs: 120_000,
        local: defaultSettings(role),
        peer: defaultSettings(role === 'gateway' ? 'portal' : 'gateway'),
        handlers: { target: async () => (stream) => void stream.resume(), sync: async () => {} },
        metrics,
      });
    await using gateway = make('gateway');
    await using portal = make('portal', tunnelMetrics(registry));
    gateway.attach(link.a, 1, 0);
    portal.attach(link.b, 1, 0);
    expect((await scrape(registry)).get('pcg_tunnel_inflight_cap_bytes')).toBe(START_CAP_BYTES);
    const opening = portal.open({ target: 'bulk', class: 3 });
    await clock.advance(2_000);
    const seen = await scrape(registry);
    // the first ping, on an idle path
    expect(seen.get('pcg_tunnel_rtt_seconds_count')).toBe(1);
    expect(seen.get('pcg_tunnel_rtt_seconds_sum')).toBeGreaterThanOrEqual(0.08);
    expect(seen.get('pcg_tunnel_rtt_seconds_sum')).toBeLessThan(0.09);
    const stream = await opening;
    const more = (): void => {
      while (stream.write(Buffer.alloc(65_536)));
    };
    stream.on('drain', more);
    more();
    await clock.advance(6_000);
    const product = bytesPerMs * 80;
    const cap = (await scrape(registry)).get('pcg_tunnel_inflight_cap_bytes') as number;
    expect(cap).toBeGreaterThan(product);
    expect(cap).toBeLessThan(product * 1.5);
    const flying = (await scrape(registry)).get('pcg_tunnel_inflight_bytes') as number;
    expect(flying).toBeGreaterThan(product * 0.8);
    expect(flying).toBeLessThanOrEqual(cap + FRAME + HEADER);
  });

  it('event_loop_lag_seconds is how late the worst of the last beats was', async () => {
    await using end = await measured();
    expect((await end.read()).get('pcg_tunnel_event_loop_lag_seconds')).toBe(0);
    end.clock.jump(7_000, 7_000);
    await end.clock.advance(1_000);
    // it was due a second after the one before
    expect((await end.read()).get('pcg_tunnel_event_loop_lag_seconds')).toBe(6);
    await end.clock.advance(20_000);
    expect((await end.read()).get('pcg_tunnel_event_loop_lag_seconds')).toBe(0);
  });
});

describe('send_queue_seconds', () => {
  const LABEL = 'pcg_tunnel_send_queue_seconds';

  it('is how long what waits for the path waited, though its stream sent something before', async () => {
    await using end = await measured({ bulk: true });
    const before = await end.read();
    end.pair.link.b.frozen = true; // the path takes nothing: bulk waits behind 64 KiB
    end.stream.write(Buffer.alloc(300_000));
    await end.clock.advance(3_000);
    end.pair.link.b.thaw();
    await end.clock.advance(100);
    const seen = await end.read();
    const grown = (name: string) => (seen.get(name) ?? 0) - (before.get(name) ?? 0);
    expect(grown(`${LABEL}_sum{class="3"}`)).toBeGreaterThanOrEqual(3);
    expect(grown(`${LABEL}_sum{class="3"}`)).toBeLessThan(3.5);
    // one flush waited 3 s; those before and after it did not wait
    expect(grown(`${LABEL}_bucket{le="5",class="3"}`) - grown(`${LABEL}_bucket{le="2.5",class="3"}`)).toBe(1);
    expect(grown(`${LABEL}_sum{class="1"}`)).toBe(0);
  });

  it('is near nothing on a path with room, and says nothing of a pause in which nothing waited', async () => {
    await using end = await measured();
    for (let n = 0; n < 5; n += 1) {
      end.stream.write(Buffer.alloc(20_000));
      await end.clock.advance(10_000);
    }
    const seen = await end.read();
    expect(seen.get(`${LABEL}_count{class="2"}`)).toBeGreaterThanOrEqual(5);
    expect(seen.get(`${LABEL}_sum{class="2"}`)).toBe(0);
  });
});

describe('handshake_seconds', () => {
  it('is what the proof took, at both ends, once for each connection', async () => {
    const [atPortal, atGateway] = [new Registry(), new Registry()];
    const DELAY_MS = 200;
    await using portal = await startPortal({
      server: {
        registry: atPortal,
        lookupGateway: async (id) => {
          await systemClock.sleep(DELAY_MS);
          const known = portal.gateways.get(id);
          return known ? { publicKey: known.publicKey } : 'unknown';
        },
      },
    });
    const begun = performance.now();
    await using gateway = startGateway(portal, { registry: atGateway, random: () => 0 });
    await gateway.connected();
    await until(() => portal.server.roster.size === 1);
    const took = (performance.now() - begun) / 1000;
    for (const registry of [atPortal, atGateway]) {
      const seen = await scrape(registry);
      expect(seen.get('pcg_tunnel_handshake_seconds_count')).toBe(1);
      expect(seen.get('pcg_tunnel_handshake_seconds_sum')).toBeGreaterThanOrEqual(DELAY_MS / 1000 - 0.002);
      expect(seen.get('pcg_tunnel_handshake_seconds_sum')).toBeLessThanOrEqual(took);
    }
    portal.listening.cut();
    await until(() => portal.server.roster.get('gw-1')?.epoch === 2);
    await gateway.connected();
    const [resumed, first] = [await scrape(atPortal), await scrape(atGateway)];
    expect(resumed.get('pcg_tunnel_handshake_seconds_count')).toBe(2);
    expect(resumed.get('pcg_tunnel_resumes{result="ok"}')).toBe(1);
    expect(first.get('pcg_tunnel_handshake_seconds_count')).toBe(2);
    expect(first.get('pcg_tunnel_reconnects{reason="lost-1006"}')).toBe(1);
  });
});

describe('sync_lag_seconds', () => {
  const ago = (seconds: number) => ({ time: new Date(Date.now() - seconds * 1000).toISOString() });
  const lagOf = async (registry: Registry) =>
    (await scrape(registry)).get('pcg_tunnel_sync_lag_seconds') as number;

  it('is the age of the oldest event that the portal has not, while it stores nothing and while it is away', async () => {
    const registry = new Registry();
    const portal = await startPortal();
    const stuck = Promise.withResolvers<void>();
    portal.storeOf('gw-1').beforeStore = () => stuck.promise;
    await using gateway = startGateway(portal, { registry, random: () => 0 });
    await gateway.connected();
    expect(await lagOf(registry)).toBe(0);
    gateway.store.addEvents(1, ago(3600));
    gateway.store.addEvents(1, ago(60));
    await systemClock.sleep(50);
    const sent = await lagOf(registry);
    expect(sent).toBeGreaterThanOrEqual(3600);
    expect(sent).toBeLessThan(3660);
    // it goes on growing while the answer does not come
    await systemClock.sleep(300);
    expect((await lagOf(registry)) - sent).toBeGreaterThanOrEqual(0.29);
    stuck.resolve();
    await until(() => gateway.store.acknowledgedSeq === 2);
    expect(await lagOf(registry)).toBe(0);
    // and while there is nobody to tell
    await portal[Symbol.asyncDispose]();
    await gateway.stateIs('waiting');
    gateway.store.addEvents(1, ago(100_000));
    expect(await lagOf(registry)).toBeGreaterThanOrEqual(100_000);
    await gateway.stop();
    expect(await lagOf(registry)).toBe(0);
  });
});

describe('resumes', () => {
  it('counts what came of each attempt, a wrong proof too, and no HELLO', async () => {
    const registry = new Registry();
    const clock = new ManualClock();
    let as: string | undefined;
    await using pair = await SessionPair.connected({
      clock,
      portalMetrics: tunnelMetrics(registry),
      lookup: () => (as === undefined ? undefined : { kind: 'known', publicKey: as }),
    });
    const counts = async () => {
      const seen = await scrape(registry);
      return Object.fromEntries(
        ['ok', 'unknown', 'superseded', 'rejected', 'moved'].map((result) => [
          result,
          seen.get(`pcg_tunnel_resumes{result="${result}"}`) ?? 0,
        ]),
      );
    };
    expect(await counts()).toEqual({ ok: 0, unknown: 0, superseded: 0, rejected: 0, moved: 0 });
    pair.link.cut();
    await pair.connect();
    expect(await counts()).toMatchObject({ ok: 1 });
    pair.link.cut();
    as = Buffer.alloc(32, 7).toString('base64'); // the key that the portal knows is another one
    expect((await pair.dial()).portal.kind).toBe('refused');
    expect(await counts()).toMatchObject({ ok: 1, rejected: 1 });
    as = undefined;
    pair.portal.acceptAttempt(100);
    expect((await pair.dial()).portal.kind).toBe('established');
    expect(await counts()).toMatchObject({ ok: 1, rejected: 1, superseded: 1 });
    pair.link.cut();
    pair.forget();
    await pair.dial();
    expect(await counts()).toEqual({ ok: 1, unknown: 1, superseded: 1, rejected: 1, moved: 0 });
  });
});

describe('refused', () => {
  const NONE = { unknown: 0, 'wrong-proof': 0, revoked: 0, 'too-old': 0, full: 0, busy: 0, other: 0 };
  const counts = async (registry: Registry) => {
    const seen = await scrape(registry);
    return Object.fromEntries(
      Object.keys(NONE).map((reason) => [reason, seen.get(`pcg_tunnel_refused{reason="${reason}"}`) ?? 0]),
    );
  };

  it('37: counts a HELLO with a wrong proof, and a RESUME with one, apart from strangers and the revoked', async () => {
    const registry = new Registry();
    const clock = new ManualClock();
    const foreign = { kind: 'known', publicKey: Buffer.alloc(32, 7).toString('base64') } as const;
    let found: GatewayLookup | undefined = foreign;
    await using pair = new SessionPair({
      clock,
      portalMetrics: tunnelMetrics(registry),
      lookup: () => found,
    });
    expect(await counts(registry)).toEqual(NONE);
    expect((await pair.dial()).portal.kind).toBe('refused');
    expect(await counts(registry)).toEqual({ ...NONE, 'wrong-proof': 1 });
    found = { kind: 'unknown' };
    await pair.dial();
    found = { kind: 'revoked' };
    await pair.dial();
    expect(await counts(registry)).toEqual({ ...NONE, 'wrong-proof': 1, unknown: 1, revoked: 1 });
    // what succeeds is not among them
    found = undefined;
    expect((await pair.dial()).portal.kind).toBe('established');
    pair.link.cut();
    expect((await pair.dial()).portal.kind).toBe('resumed');
    expect(await counts(registry)).toEqual({ ...NONE, 'wrong-proof': 1, unknown: 1, revoked: 1 });
    pair.link.cut();
    found = foreign;
    await pair.dial();
    expect(await counts(registry)).toEqual({ ...NONE, 'wrong-proof': 2, unknown: 1, revoked: 1 });
    expect((await scrape(registry)).get('pcg_tunnel_resumes{result="rejected"}')).toBe(1);
    // one that speaks no language, and one that speaks another version
    await pair.dialRaw((say) => say(Buffer.alloc(40, 0xff)));
    for (const protocol of [
      { min: 7, max: 9 },
      { min: 0, max: 0 },
    ]) {
      const peer = new RawPeer();
      await peer.greet({ clock, hello: { protocol }, metrics: tunnelMetrics(registry) });
    }
    expect(await counts(registry)).toEqual({
      ...NONE,
      'wrong-proof': 2,
      unknown: 1,
      revoked: 1,
      'too-old': 2,
      other: 1,
    });
  });

  it('counts who finds no room: as a stranger, and as a gateway', async () => {
    const registry = new Registry();
    await using portal = await startPortal({
      server: { registry, limits: { sessions: 1, unprovenPerAddress: 2 } },
    });
    await using first = startGateway(portal, { id: 'gw-1' });
    await first.connected();
    const second = startGateway(portal, { id: 'gw-2' });
    await second.stateIs('waiting');
    await second.stop();
    const { full, ...others } = await counts(registry);
    expect(full).toBeGreaterThanOrEqual(1);
    expect(others).toMatchObject({ unknown: 0, 'wrong-proof': 0, busy: 0 });
    // who was refused counts until its socket is gone
    await until(() => portal.server.unproven === 0);
    const silent = Array.from({ length: 2 }, () => new WebSocket(portal.url, 'pcg.tunnel.v1'));
    await Promise.all(silent.map((socket) => once(socket, 'open')));
    const third = new WebSocket(portal.url, 'pcg.tunnel.v1');
    await once(third, 'error');
    expect(await counts(registry)).toMatchObject({ busy: 1 });
    for (const socket of silent) socket.terminate();
  });
});
