/** Cuts, resumption, epochs and grace: streams end byte-exact, side effects happen once. */
import { createHash, randomBytes } from 'node:crypto';
import { type Duplex, duplexPair } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { CLOSE, STREAM } from '../../src/tunnel/codes.ts';
import { TYPE } from '../../src/tunnel/frame.ts';
import { defaultSettings, Session } from '../../src/tunnel/session.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { collect } from '../support/collect.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryLink } from '../support/memory-carrier.ts';
import { SessionPair } from '../support/session-pair.ts';

const echo = async (): Promise<Duplex> => {
  const [near, far] = duplexPair();
  far.pipe(far);
  return near;
};
const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Lets things run until `done`, at most `rounds` turns of the event loop. */
async function turns(clock: ManualClock, done: () => boolean, rounds = 400): Promise<void> {
  for (let round = 0; round < rounds && !done(); round += 1) await clock.settle(1);
}

/** What one end saw of the scripted exchange. */
interface Saw {
  opens: string[];
  requests: string[];
  responses: string[];
  syncs: string[];
  errors: number;
}

/**
 * OPEN, DATA both ways, FIN, SYNC, ACK: both ends open a stream, talk, half-close and exchange documents.
 * Cuts the first link as told, dials again when it broke, and returns what happened.
 */
async function exchange(cut: {
  a?: number;
  b?: number;
}): Promise<{ saw: Saw; bytes: { a: number; b: number } }> {
  const clock = new ManualClock();
  const saw: Saw = { opens: [], requests: [], responses: [], syncs: [], errors: 0 };
  const serve = (name: string) => async (open: { target: string }) => {
    saw.opens.push(`${name}:${open.target}`);
    return (stream: TunnelStream): void => {
      stream.on('error', () => {
        saw.errors += 1;
      });
      void collect(stream).then(
        (request) => {
          saw.requests.push(`${name}:${request.toString()}`);
          stream.end(`answer of ${name} to ${request.length} bytes`);
        },
        () => {},
      );
    };
  };
  const record = (name: string) => async (kind: string, payload: Buffer) => {
    saw.syncs.push(`${name}:${kind}:${payload.toString()}`);
  };
  await using pair = await SessionPair.connected(
    {
      clock,
      gatewayTarget: serve('gateway'),
      portalTarget: serve('portal'),
      gatewaySync: record('gateway'),
      portalSync: record('portal'),
    },
    undefined,
  );
  const { link } = pair;
  const base = { a: link.a.sent, b: link.b.sent };
  // the cut counts from here: the handshake's own cuts have their own test
  Object.assign(link.options, {
    cutAfter: {
      ...(cut.a === undefined ? {} : { a: base.a + cut.a }),
      ...(cut.b === undefined ? {} : { b: base.b + cut.b }),
    },
  });
  const ask = async (from: Session, target: string, text: string): Promise<void> => {
    const stream = await from.open({ target });
    stream.write(text.slice(0, 3));
    stream.end(text.slice(3));
    saw.responses.push((await collect(stream)).toString());
  };
  const jobs = Promise.allSettled([
    ask(pair.portal, 'agent', 'question of the portal'),
    ask(pair.gateway, 'portal', 'question of the gateway'),
    pair.portal.sendSync('sync', Buffer.from('document 1')),
    pair.gateway.sendSync('ack', Buffer.from('done 1')),
    pair.portal.sendSync('sync', Buffer.from('document 2')),
    pair.gateway.sendSync('sync', Buffer.from('status 1')),
  ]);
  let finished = false;
  void jobs.then(() => {
    finished = true;
  });
  for (let round = 0; round < 60; round += 1) {
    await turns(clock, () => finished || !link.a.open, 5);
    if (!link.a.open && pair.link === link) {
      const met = await pair.connect();
      expect(met.gateway.kind).toBe('resumed');
    }
    if (finished) break;
    await clock.advance(30);
  }
  // the last acknowledgements come by timer; a cut may fall into them as well
  await clock.advance(500);
  if (!link.a.open && pair.link === link) await pair.connect();
  await clock.advance(500);
  await jobs;
  return { saw, bytes: { a: link.a.sent - base.a, b: link.b.sent - base.b } };
}

const whole: Saw = {
  opens: ['gateway:agent', 'portal:portal'],
  requests: ['gateway:question of the portal', 'portal:question of the gateway'],
  responses: ['answer of gateway to 22 bytes', 'answer of portal to 23 bytes'],
  syncs: ['gateway:sync:document 1', 'gateway:sync:document 2', 'portal:ack:done 1', 'portal:sync:status 1'],
  errors: 0,
};

const sorted = (saw: Saw): Saw => ({
  opens: saw.opens.toSorted(),
  requests: saw.requests.toSorted(),
  responses: saw.responses.toSorted(),
  syncs: saw.syncs.toSorted(),
  errors: saw.errors,
});

describe('resume', () => {
  for (const end of ['a', 'b'] as const)
    it(`#32: cut at every byte offset of what ${end === 'a' ? 'the gateway' : 'the portal'} sends`, async () => {
      const uncut = await exchange({});
      expect(sorted(uncut.saw)).toEqual(whole);
      const total = uncut.bytes[end];
      expect(total).toBeGreaterThan(200);
      for (let offset = 0; offset <= total; offset += 1) {
        const { saw } = await exchange({ [end]: offset });
        expect(sorted(saw), `cut at ${offset} of ${total}`).toEqual(whole);
      }
    });

  it('#33: cut during the resume itself, five times in a row and at every offset of its messages', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock, gatewayTarget: echo });
    const opening = pair.portal.open({ target: 'agent' });
    await clock.settle(10);
    const stream = await opening;
    const data = randomBytes(600_000);
    const read = collect(stream);
    stream.end(data);
    await clock.settle(3);
    pair.link.cut();
    for (const end of ['a', 'b'] as const)
      for (let offset = 0; offset < 700; offset += 97) {
        const dialling = pair.dial({ cutAfter: { [end]: offset } });
        await turns(clock, () => false, 30);
        await clock.advance(5_100);
        const met = await dialling;
        if (met.gateway.kind === 'resumed') pair.link.cut();
        expect(pair.gateway.state.kind).toBe('detached');
        if (clock.monotonic() > 60_000) break;
      }
    // RESUMED was sent and lost: the portal is a carrier ahead of the gateway
    for (let time = 0; time < 5; time += 1) {
      const dialling = pair.dial({ cutBefore: (to, message) => to === 'a' && message[0] === TYPE.RESUMED });
      await turns(clock, () => false, 30);
      await clock.advance(5_100);
      const met = await dialling;
      expect(met.gateway.kind).toBe('refused');
      expect(met.portal.kind).toBe('resumed');
      if (clock.monotonic() > 100_000) break;
    }
    const reconnecting = pair.connect();
    await turns(clock, () => false, 30);
    expect((await reconnecting).gateway.kind).toBe('resumed');
    for (let round = 0; round < 100; round += 1) await clock.advance(30);
    expect(sha(await read)).toBe(sha(data));
  });

  it('#34: frames that an older carrier delivers after the takeover are never read', async () => {
    const clock = new ManualClock();
    let opened = 0;
    await using pair = await SessionPair.connected({
      clock,
      gatewayTarget: async () => {
        opened += 1;
        return (stream: TunnelStream): void => void stream.resume();
      },
    });
    const old = pair.link;
    // what the portal says is stuck on the way; the gateway, on a new address, comes back first
    old.b.frozen = true;
    const opening = pair.portal.open({ target: 'agent' });
    await clock.settle();
    expect(opened).toBe(0);
    const met = pair.connect();
    await clock.settle(20);
    expect((await met).gateway.kind).toBe('resumed');
    expect(old.b.closes[0]?.code ?? old.a.closes[0]?.code).toBe(CLOSE.SUPERSEDED);
    old.b.thaw();
    await clock.settle(20);
    await opening;
    expect(opened).toBe(1);
    expect(pair.portal.epoch).toBe(2);
    expect(pair.gateway.epoch).toBe(2);
    expect(pair.gateway.state.kind).toBe('attached');
  });

  it('#33: with the old connection still open the new one takes over, without a lost byte', async () => {
    await using pair = await SessionPair.connected({ clock: unhurriedClock, gatewayTarget: echo });
    const stream = await pair.portal.open({ target: 'agent' });
    const data = randomBytes(8_000_000);
    const read = collect(stream);
    stream.end(data);
    for (let time = 0; time < 6; time += 1) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      expect((await pair.connect()).gateway.kind).toBe('resumed');
    }
    expect(sha(await read)).toBe(sha(data));
  });

  it('#35: a producer blocked by a full replay buffer is released with SESSION_LOST after the grace time', async () => {
    const clock = new ManualClock();
    const unhandled: unknown[] = [];
    const onUnhandled = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', onUnhandled);
    await using pair = await SessionPair.connected({
      clock,
      gatewayTarget: async () => (stream: TunnelStream) => void stream.resume(),
    });
    const opening = pair.portal.open({ target: 'agent' });
    await clock.settle(10);
    const stream = await opening;
    let error: Error | undefined;
    let calls = 0;
    pair.link.a.frozen = true; // no acknowledgement comes back
    for (let count = 0; count < 100; count += 1) stream.write(Buffer.alloc(65_536), () => (calls += 1));
    stream.on('error', (reason: Error) => {
      error = reason;
    });
    await clock.settle(10);
    expect(calls).toBeLessThan(100);
    pair.link.cut();
    const waiting = pair.portal.sendSync('sync', Buffer.alloc(1000)).catch((reason: unknown) => reason);
    const late = pair.portal
      .open({ target: 'agent', deadlineMs: 500_000 })
      .catch((reason: unknown) => reason);
    await clock.advance(121_000);
    expect(pair.portal.state).toMatchObject({ kind: 'closed', error: { closeCode: CLOSE.SESSION_EXPIRED } });
    expect(error).toMatchObject({ streamCode: STREAM.SESSION_LOST });
    expect(await waiting).toMatchObject({ streamCode: STREAM.SESSION_LOST });
    expect(await late).toMatchObject({ streamCode: STREAM.SESSION_LOST });
    expect(calls).toBe(100);
    await clock.settle();
    expect(unhandled).toEqual([]);
    process.off('unhandledRejection', onUnhandled);
    await pair.gateway[Symbol.asyncDispose]();
    expect(clock.pending).toBe(0);
  });

  it('#36: a portal that forgot the session gets a new one on the same carrier', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock, gatewayTarget: echo });
    const opening = pair.portal.open({ target: 'agent' });
    await clock.settle(10);
    await opening;
    const before = pair.gateway;
    const forgotten = pair.portal;
    pair.link.cut();
    pair.forget();
    const met = await pair.connect();
    expect(met.gateway.kind).toBe('established');
    expect(before.state).toMatchObject({ kind: 'closed', error: { closeCode: CLOSE.SESSION_EXPIRED } });
    expect(pair.gateway.state.kind).toBe('attached');
    const again = pair.portal.open({ target: 'agent' });
    await clock.settle(10);
    (await again).destroy();
    await forgotten[Symbol.asyncDispose]();
  });

  it('#36: the wrong portal node says where the session lives', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({
      clock,
      lookup: () =>
        moved ? { kind: 'moved', publicKey: identityKey, hint: 'wss://node-2.example/tunnel' } : undefined,
    });
    pair.link.cut();
    moved = true;
    const met = await pair.dial();
    moved = false;
    expect(met.gateway).toEqual({ kind: 'moved', hint: 'wss://node-2.example/tunnel' });
    expect(pair.gateway.state.kind).toBe('detached');
    const fresh = await (async () => {
      moved = true;
      const outcome = await pair.dial(undefined, undefined);
      moved = false;
      return outcome;
    })();
    expect(fresh.gateway).toEqual({ kind: 'moved', hint: 'wss://node-2.example/tunnel' });
  });

  it('#38: a peer that resumes at an impossible point loses the session, not the process', async () => {
    const clock = new ManualClock();
    const init = (role: 'gateway' | 'portal') => ({
      id: 's',
      role,
      clock,
      graceMs: 120_000,
      local: defaultSettings(role),
      peer: defaultSettings(role === 'gateway' ? 'portal' : 'gateway'),
      handlers: { target: echo, sync: async () => {} },
    });
    await using session = new Session(init('portal'));
    const link = new MemoryLink();
    expect(session.attach(link.b, 1, 1)).toBe(false);
    expect(session.canResumeFrom(1)).toBe(false);
    expect(session.attach(link.b, 1, 0)).toBe(true);
  });

  it('#39: sequence numbers go on beyond 32 bits, over a resume', async () => {
    const clock = new ManualClock();
    const first = 2 ** 32 - 3;
    const make = (role: 'gateway' | 'portal') =>
      new Session({
        id: 's',
        role,
        clock,
        graceMs: 120_000,
        local: defaultSettings(role),
        peer: defaultSettings(role === 'gateway' ? 'portal' : 'gateway'),
        handlers: { target: echo, sync: async () => {} },
        first: { sequence: first, peerSequence: first },
      });
    await using gateway = make('gateway');
    await using portal = make('portal');
    const connect = (epoch: number): MemoryLink => {
      const link = new MemoryLink();
      gateway.attach(link.a, epoch, portal.nextExpected);
      portal.attach(link.b, epoch, gateway.nextExpected);
      return link;
    };
    let link = connect(1);
    const opening = portal.open({ target: 'agent' });
    await clock.settle(10);
    const stream = await opening;
    const data = randomBytes(200_000);
    const read = collect(stream);
    stream.end(data);
    for (let epoch = 2; epoch < 6; epoch += 1) {
      await clock.settle(1);
      link.cut();
      link = connect(epoch);
    }
    for (let round = 0; round < 50; round += 1) await clock.advance(30);
    expect(sha(await read)).toBe(sha(data));
    expect(gateway.nextExpected).toBeGreaterThan(2 ** 32);
  });

  it('#39: when the last stream id is used the session ends in order', async () => {
    const clock = new ManualClock();
    const make = (role: 'gateway' | 'portal', streamId: number) =>
      new Session({
        id: 's',
        role,
        clock,
        graceMs: 120_000,
        local: defaultSettings(role),
        peer: defaultSettings(role === 'gateway' ? 'portal' : 'gateway'),
        handlers: { target: echo, sync: async () => {} },
        first: { streamId },
      });
    await using gateway = make('gateway', 1);
    await using portal = make('portal', 0xffff_fffe);
    const link = new MemoryLink();
    gateway.attach(link.a, 1, 0);
    portal.attach(link.b, 1, 0);
    const opening = portal.open({ target: 'agent' });
    await clock.settle(10);
    await opening;
    await expect(portal.open({ target: 'agent' })).rejects.toMatchObject({ streamCode: STREAM.SESSION_LOST });
    await clock.settle(10);
    expect(await gateway.closed).toMatchObject({ closeCode: CLOSE.NORMAL });
  });

  it('#40: resumes after 119 s, not after 121 s', async () => {
    for (const [seconds, kind] of [
      [119, 'resumed'],
      [121, 'established'],
    ] as const) {
      const clock = new ManualClock();
      await using pair = await SessionPair.connected({ clock, gatewayTarget: echo });
      pair.link.cut();
      await clock.advance(seconds * 1000);
      expect((await pair.connect()).gateway.kind).toBe(kind);
    }
  });
});

let moved = false;
const { pairIdentities } = await import('../support/session-pair.ts');
const identityKey = pairIdentities.gateway.publicKey;
