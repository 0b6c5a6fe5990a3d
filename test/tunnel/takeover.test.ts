/** A gateway's own old connections, which must never keep it out, and another agent with its identity, which must not pass for one. */
import { connect, type Socket } from 'node:net';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { dial } from '../../src/tunnel/dial.ts';
import { greetPortal } from '../../src/tunnel/handshake.ts';
import type { RosterChange } from '../../src/tunnel/roster.ts';
import { defaultSettings, Session } from '../../src/tunnel/session.ts';
import type { SessionSlot } from '../../src/tunnel/session-slot.ts';
import { webSocketCarrier } from '../../src/tunnel/socket.ts';
import { eventually } from '../support/eventually.ts';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { scrape } from '../support/scrape.ts';
import {
  echoTargets,
  readAll,
  startGateway,
  startPortal,
  type TestGateway,
  type TestPortal,
  until,
} from '../support/tunnel-pair.ts';
import { type Listening, tcpServer } from '../support/wire.ts';

/** Minutes between attempts pass in milliseconds. */
const hasty: Clock = {
  ...unhurriedClock,
  sleep: (ms, signal) => unhurriedClock.sleep(ms >= 60_000 ? ms / 3000 : ms, signal),
};

interface Nat extends AsyncDisposable {
  readonly url: string;
  /** Forgets its connections: the portal's ends stay open and hear nothing more. The gateway's are reset, or stay too. */
  forget(gatewayEnd: 'reset' | 'silent'): void;
}

async function nat(portal: TestPortal): Promise<Nat> {
  const pairs: { inner: Socket; outer: Socket }[] = [];
  const listening: Listening = await tcpServer((inner) => {
    const outer = connect(portal.port, '127.0.0.1');
    outer.on('error', () => inner.destroy());
    inner.pipe(outer).pipe(inner);
    pairs.push({ inner, outer });
  });
  return {
    url: `ws://127.0.0.1:${listening.port}/tunnel/v1`,
    forget(gatewayEnd) {
      for (const { inner, outer } of pairs.splice(0)) {
        inner.unpipe(outer);
        outer.unpipe(inner);
        outer.resume();
        if (gatewayEnd === 'reset') inner.resetAndDestroy();
        else inner.resume();
      }
    },
    async [Symbol.asyncDispose]() {
      await listening[Symbol.asyncDispose]();
    },
  };
}

function watch(portal: TestPortal): { readonly changes: RosterChange[] } & Disposable {
  const changes: RosterChange[] = [];
  const listening = portal.server.roster.onChange((change) => changes.push(change));
  return { changes, [Symbol.dispose]: () => listening[Symbol.dispose]() };
}

const kinds = (changes: readonly RosterChange[], kind: RosterChange['kind']) =>
  changes.filter((change) => change.kind === kind);

/** Milliseconds from `waiting` to the next attempt, each time. */
const waits = (gateway: TestGateway): number[] =>
  gateway.states.flatMap((state) =>
    state.state === 'waiting' ? [Date.parse(state.nextAttemptAt) - Date.parse(state.since)] : [],
  );

describe('old connections that are not yet dead', () => {
  it('54: a gateway that flaps resumes every time, is never refused and never taken for two', async () => {
    await using portal = await startPortal();
    await using line = await nat(portal);
    using seen = watch(portal);
    await using gateway = startGateway(portal, { url: line.url, random: () => 0 });
    await gateway.connected();
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    const { sessionId } = portal.server.roster.get('gw-1')!;
    for (let flap = 1; flap <= 12; flap += 1) {
      stream.write('.');
      line.forget('reset');
      // the portal believes the old connection alive until this moment
      expect(portal.server.roster.get('gw-1')).toMatchObject({ attached: true, epoch: flap });
      await until(() => portal.server.roster.get('gw-1')?.epoch === flap + 1);
    }
    expect(portal.server.roster.get('gw-1')?.sessionId).toBe(sessionId);
    stream.end();
    expect((await readAll(stream)).toString()).toBe('.'.repeat(12));
    expect(kinds(seen.changes, 'duplicate')).toEqual([]);
    expect(kinds(seen.changes, 'resumed')).toHaveLength(12);
    expect(Math.max(...waits(gateway))).toBe(0); // the delay is the least that the policy draws, never minutes
  });

  it('54: a gateway that is restarted ten times on a line that forgets is let in at once each time', async () => {
    await using portal = await startPortal();
    await using line = await nat(portal);
    using seen = watch(portal);
    for (let life = 1; life <= 10; life += 1) {
      const gateway = startGateway(portal, { url: line.url, drainMs: 0 });
      await gateway.connected();
      await until(() => kinds(seen.changes, 'connected').length === life);
      expect(waits(gateway)).toEqual([]);
      // its host loses power: no goodbye reaches the portal
      line.forget('silent');
      await gateway.stop();
      expect(portal.server.roster.get('gw-1')?.attached).toBe(true);
    }
    expect(kinds(seen.changes, 'duplicate')).toEqual([]);
  });

  it('a handshake that its own successor overtakes does not push it out', async () => {
    const slow = Promise.withResolvers<void>();
    let asked = 0;
    await using portal = await startPortal({
      server: {
        lookupGateway: async (id) => {
          asked += 1;
          if (asked === 1) await slow.promise;
          return { publicKey: portal.gateways.get(id)!.publicKey };
        },
      },
    });
    await using line = await nat(portal);
    using seen = watch(portal);
    await using gateway = startGateway(portal, { url: line.url, random: () => 0 });
    await until(() => asked === 1);
    line.forget('reset');
    await gateway.connected();
    const { sessionId } = portal.server.roster.get('gw-1')!;
    slow.resolve();
    await until(() => portal.server.unproven === 0);
    expect(portal.server.roster.get('gw-1')).toMatchObject({ sessionId, attached: true });
    const stream = await portal.server.roster.tunnel('gw-1').open({ target: 'agent' });
    stream.end('still there');
    expect((await readAll(stream)).toString()).toBe('still there');
    expect(kinds(seen.changes, 'connected')).toHaveLength(1);
  });
});

describe('another agent with the same identity', () => {
  it('54: two agents with one identity: the newer stays, the older is refused within a second, an alarm is raised', async () => {
    await using portal = await startPortal();
    using seen = watch(portal);
    await using first = startGateway(portal, { clock: hasty, instanceId: 'node-1' });
    await first.connected();
    await using clone = startGateway(portal, { instanceId: 'node-1' });
    await clone.connected();
    await until(() => kinds(seen.changes, 'duplicate').length > 0);
    expect(kinds(seen.changes, 'duplicate')[0]).toMatchObject({
      gatewayId: 'gw-1',
      remoteAddresses: ['127.0.0.1', '127.0.0.1'],
    });
    const { sessionId } = portal.server.roster.get('gw-1')!;
    // five more rounds of waiting: it is refused each time, and nobody is pushed out
    await until(() => kinds(seen.changes, 'duplicate').length >= 5);
    expect(portal.server.roster.get('gw-1')).toMatchObject({ sessionId, attached: true });
    const [soon, ...later] = waits(first);
    expect(soon).toBeLessThanOrEqual(500);
    for (const wait of later) expect(wait).toBeGreaterThanOrEqual(300_000);
    expect(first.states.find(({ state }) => state === 'waiting')).toMatchObject({
      cause: { code: 'CONFLICT' },
    });
    expect(clone.states.filter(({ state }) => state === 'waiting')).toEqual([]);
    // somebody stops the clone: the other one is let in by itself
    await clone.stop();
    await until(() => portal.server.roster.get('gw-1')?.attached === true);
    await first.connected();
  });

  it('54: five of them leave one connected; the others wait minutes', async () => {
    await using portal = await startPortal();
    using seen = watch(portal);
    const clones: TestGateway[] = [];
    for (let n = 0; n < 5; n += 1) {
      const clone = startGateway(portal);
      clones.push(clone);
      await clone.connected();
    }
    await until(() => kinds(seen.changes, 'duplicate').length >= 4);
    const winner = clones.at(-1)!;
    // each tries once more soon after it was pushed out; from then on it is minutes
    await until(() => clones.every((clone) => clone === winner || (waits(clone).at(-1) ?? 0) >= 300_000));
    expect(winner.client.state().state).toBe('connected');
    for (const loser of clones.slice(0, -1)) expect(loser.client.state().state).toBe('waiting');
    for (const clone of clones) await clone.stop();
  });

  it('54: a copy of the running machine, session and all: the one that is pushed out does not resume it back', async () => {
    const [atPortal, atGateway] = [new Registry(), new Registry()];
    await using portal = await startPortal({ server: { registry: atPortal } });
    using seen = watch(portal);
    await using gateway = startGateway(portal, { clock: hasty, registry: atGateway });
    await gateway.connected();
    const own = (gateway.client.tunnel as SessionSlot).session as Session;
    const there = portal.server.roster.findSession(own.id) as Session;
    // the copy is made in a quiet moment: all that was sent is received and acknowledged
    portal.storeOf('gw-1').want('cluster', 'cl-1', 1, {});
    await until(() => portal.storeOf('gw-1').acknowledged.length === 1);
    await eventually(async () => {
      const seen = await Promise.all([atPortal, atGateway].map(scrape));
      return seen.every((one) => one.get('pcg_tunnel_replay_bytes') === 0);
    });
    await using copy = new Session({
      id: own.id,
      role: 'gateway',
      clock: unhurriedClock,
      graceMs: 120_000,
      local: defaultSettings('gateway'),
      peer: defaultSettings('portal'),
      handlers: { target: echoTargets, sync: async () => {} },
      first: { sequence: there.nextExpected, peerSequence: own.nextExpected },
    });
    const { signal } = new AbortController();
    const dialled = await dial({ url: portal.url, clock: unhurriedClock, signal, software: 'copy' });
    if (dialled.kind === 'failed') throw dialled.error;
    const greeted = await greetPortal(
      webSocketCarrier(dialled.webSocket),
      {
        clock: unhurriedClock,
        identity: gateway.identity,
        gatewayId: 'gw-1',
        instanceId: 'node-1',
        portalKey: portal.identity.publicKey,
        software: 'copy',
        handlers: { target: echoTargets, sync: async () => {} },
        resume: copy,
      },
      signal,
    );
    expect(greeted).toMatchObject({ kind: 'resumed' });
    await until(() => kinds(seen.changes, 'duplicate').length >= 3);
    expect(kinds(seen.changes, 'resumed')).toHaveLength(1);
    expect(copy.state.kind).toBe('attached');
    expect(own.state.kind).toBe('closed');
  });
});
