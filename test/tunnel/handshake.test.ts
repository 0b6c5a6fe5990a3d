/** Who is let in, and what everybody else learns. */
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { CLOSE } from '../../src/tunnel/codes.ts';
import { encodeFrame, outFrame, readFrames, TYPE } from '../../src/tunnel/frame.ts';
import { type GatewayLookup, greetPortal } from '../../src/tunnel/handshake.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { tunnelMetrics } from '../../src/tunnel/metrics.ts';
import { Transcript } from '../../src/tunnel/transcript.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryLink } from '../support/memory-carrier.ts';
import { RawPeer } from '../support/raw-peer.ts';
import { pairIdentities, SessionPair } from '../support/session-pair.ts';

const mallory = generateIdentity();

/** One refused handshake of a gateway that is not what it says. */
async function refused(options: Omit<Parameters<RawPeer['greet']>[0], 'clock'>) {
  const clock = new ManualClock();
  const peer = new RawPeer();
  const greeting = peer.greet({ clock, ...options });
  await clock.settle(20);
  await clock.advance(6_000);
  const outcome = await greeting;
  if (outcome.kind !== 'refused') await outcome.session[Symbol.asyncDispose]();
  expect(clock.pending).toBe(0);
  return { outcome, peer };
}

describe('handshake, portal', () => {
  it('#37: a signature by another key is 4401, and names nothing but that', async () => {
    const { outcome, peer } = await refused({ identity: mallory });
    expect(outcome).toMatchObject({ kind: 'refused', closeCode: CLOSE.UNAUTHENTICATED });
    expect(peer.closed?.code).toBe(CLOSE.UNAUTHENTICATED);
    expect(peer.of(TYPE.WELCOME)).toHaveLength(0);
  });

  it('an unknown gateway is 4401, a revoked one 4403', async () => {
    const unknown = await refused({ lookup: async () => ({ kind: 'unknown' }) });
    expect(unknown.outcome).toMatchObject({ closeCode: CLOSE.UNAUTHENTICATED });
    const revoked = await refused({ lookup: async () => ({ kind: 'revoked' }) });
    expect(revoked.outcome).toMatchObject({ closeCode: CLOSE.REVOKED });
  });

  it('#37: no common version is 4426, whichever end is older', async () => {
    for (const protocol of [
      { min: 2, max: 3 },
      { min: 1, max: 1, extra: 1 },
    ]) {
      const { outcome } = await refused({ hello: { protocol } });
      expect(outcome).toMatchObject(
        protocol.min === 2 ? { kind: 'refused', closeCode: CLOSE.TOO_OLD } : { kind: 'established' },
      );
    }
  });

  for (const [what, hello] of [
    ['no gateway id', { gatewayId: '' }],
    ['an endless gateway id', { gatewayId: 'x'.repeat(5000) }],
    ['an object for an id', { gatewayId: { $ne: null } }],
    [
      'a frame size of zero',
      { settings: { maxFrameBytes: 0, openCredit: 1, syncCredit: 1 << 21, maxStreams: 1 } },
    ],
    [
      'negative credit',
      { settings: { maxFrameBytes: 16384, openCredit: -1, syncCredit: 1 << 21, maxStreams: 1 } },
    ],
    ['no settings', { settings: undefined }],
    ['a role that is ours', { role: 'portal' }],
    ['a short nonce', { nonce: 'AA==' }],
    ['capabilities without end', { capabilities: Array.from({ length: 1000 }, () => 'c') }],
  ] as const)
    it(`#68: HELLO with ${what} is PROTOCOL`, async () => {
      const { outcome } = await refused({ hello });
      expect(outcome).toMatchObject({ kind: 'refused', closeCode: CLOSE.PROTOCOL });
    });

  it('#58 #69: a look-up that never ends is cut off after 5 s; one that fails is 4500', async () => {
    const slow = await refused({ lookup: () => new Promise(() => {}) });
    expect(slow.outcome).toMatchObject({ closeCode: CLOSE.HANDSHAKE_TIMEOUT });
    const broken = await refused({ lookup: () => Promise.reject(new Error('no database')) });
    expect(broken.outcome).toMatchObject({ closeCode: CLOSE.INTERNAL });
  });

  it('#58 #69: a look-up that ends after the handshake did begins no session', async () => {
    const clock = new ManualClock();
    const found = Promise.withResolvers<GatewayLookup>();
    const peer = new RawPeer();
    let publicKey = '';
    const greeting = peer.greet({
      clock,
      lookup: (key) => {
        publicKey = key;
        return found.promise;
      },
    });
    await clock.settle(10);
    await clock.advance(6_000);
    expect(await greeting).toMatchObject({ closeCode: CLOSE.HANDSHAKE_TIMEOUT });
    found.resolve({ kind: 'known', publicKey });
    await clock.settle(10);
    // a session without a carrier would wait for one, for the grace time
    expect(clock.pending).toBe(0);
  });

  it('#58: a look-up that ends after the handshake did resumes no session', async () => {
    const clock = new ManualClock();
    const found = Promise.withResolvers<GatewayLookup>();
    const registry = new Registry();
    let slow = false;
    await using pair = await SessionPair.connected({
      clock,
      metrics: tunnelMetrics(registry),
      lookup: () => (slow ? found.promise : undefined),
    });
    pair.link.cut();
    slow = true;
    const dialling = pair.dial();
    await clock.settle(10);
    await clock.advance(6_000);
    expect((await dialling).portal).toMatchObject({ closeCode: CLOSE.HANDSHAKE_TIMEOUT });
    found.resolve({ kind: 'known', publicKey: pairIdentities.gateway.publicKey });
    await clock.settle(10);
    expect(await registry.metrics()).not.toContain('pcg_tunnel_resumes{result="ok"}');
    expect(pair.portal.acceptAttempt(1)).toBe(true);
  });

  it('#69: a stranger is told the same about a gateway that exists and one that does not', async () => {
    const unknown = await refused({ lookup: async () => ({ kind: 'unknown' }) });
    const foreign = await refused({ identity: mallory });
    expect(unknown.peer.closed).toEqual(foreign.peer.closed);
    // the portal's own log says which
    expect(unknown.outcome).not.toEqual(foreign.outcome);
  });

  it('whoever speaks before WELCOME is refused', async () => {
    const clock = new ManualClock();
    const peer = new RawPeer();
    const greeting = peer.greet({ clock, lookup: () => new Promise(() => {}) });
    await clock.settle(4);
    peer.raw(encodeFrame(outFrame(TYPE.OPEN, 1, Buffer.from('{}'))));
    await clock.settle(4);
    expect(await greeting).toMatchObject({ kind: 'refused', closeCode: CLOSE.PROTOCOL });
  });

  it('a cancelled handshake rejects with the reason and hangs up', async () => {
    const clock = new ManualClock();
    const link = new MemoryLink();
    const controller = new AbortController();
    const greeting = greetPortal(
      link.a,
      {
        clock,
        identity: mallory,
        gatewayId: 'g',
        instanceId: 'i',
        portalKey: mallory.publicKey,
        software: 's',
        handlers: { target: () => Promise.reject(new Error('none')), sync: async () => {} },
      },
      controller.signal,
    );
    controller.abort(new Error('enough'));
    await expect(greeting).rejects.toThrow('enough');
    await clock.settle();
    expect(link.a.open).toBe(false);
    expect(clock.pending).toBe(0);
  });
});

describe('handshake, gateway', () => {
  /** A portal that answers HELLO as `answer` says. */
  async function against(
    answer: (transcript: Transcript, hello: Buffer) => Buffer,
    type: number = TYPE.WELCOME,
  ) {
    const clock = new ManualClock();
    const link = new MemoryLink();
    const transcript = new Transcript();
    const say = (frame: Buffer): void => link.b.send([Buffer.concat([Buffer.alloc(14), frame])]);
    const greeted = transcript.open(TYPE.HELLO, {
      role: 'portal',
      protocol: { min: 1, max: 1 },
      serverId: 'p',
      nonce: Buffer.alloc(32, 2).toString('base64'),
      time: 0,
    });
    link.b.bind({
      message: (message) => {
        readFrames(message, 0xffff, (_type, _flags, _id, _sequence, payload) => {
          say(encodeFrame(outFrame(type, 0, answer(transcript, payload))));
          return true;
        });
      },
      closed() {},
      drained() {},
    });
    say(encodeFrame(outFrame(TYPE.HELLO, 0, greeted)));
    const portal = generateIdentity();
    const greeting = greetPortal(
      link.a,
      {
        clock,
        identity: mallory,
        gatewayId: 'g',
        instanceId: 'i',
        portalKey: portal.publicKey,
        software: 's',
        handlers: { target: () => Promise.reject(new Error('none')), sync: async () => {} },
      },
      new AbortController().signal,
    );
    await clock.settle(10);
    return { outcome: await greeting, link };
  }

  const welcome = {
    protocol: 1,
    sessionId: 's',
    epoch: 1,
    graceMs: 1000,
    serverId: 'p',
    software: 's',
    capabilities: [],
    settings: { maxFrameBytes: 16_384, openCredit: 4096, syncCredit: 1 << 21, maxStreams: 1024 },
    time: 0,
  };

  it('#60: a WELCOME signed by another key is untrusted, however good it looks', async () => {
    const { outcome, link } = await against((transcript) =>
      transcript.seal(TYPE.WELCOME, generateIdentity(), welcome),
    );
    expect(outcome.kind).toBe('untrusted');
    expect(link.a.open).toBe(false);
  });

  it('#37: nonsense, an empty answer, and RESUMED to a HELLO are untrusted', async () => {
    expect((await against(() => Buffer.alloc(0))).outcome.kind).toBe('untrusted');
    expect((await against(() => Buffer.alloc(100, 0x7b))).outcome.kind).toBe('untrusted');
    expect((await against(() => Buffer.alloc(100), TYPE.RESUMED)).outcome.kind).toBe('untrusted');
    expect((await against(() => Buffer.alloc(100), TYPE.DATA)).outcome.kind).toBe('untrusted');
  });
});

describe('resuming', () => {
  it('#37: a captured RESUME is worth nothing on another connection', async () => {
    const clock = new ManualClock();
    const captured: Buffer[] = [];
    await using pair = await SessionPair.connected({ clock });
    pair.link.cut();
    await pair.connect({
      cutBefore: (to, message) => {
        if (to === 'b' && message[0] === TYPE.RESUME) captured.push(Buffer.from(message));
        return false;
      },
    });
    expect(captured).toHaveLength(1);
    const { epoch } = pair.portal;
    // the thief dials as the gateway and repeats what it saw
    const portalView = pair.portal;
    const met = pair.dialRaw((say) => say(captured[0] as Buffer));
    await clock.settle(20);
    expect((await met).kind).toBe('refused');
    expect(portalView.epoch).toBe(epoch);
    expect(portalView.state.kind).toBe('attached');
  });

  it('#37: a RESUME that comes late, behind a newer one, is superseded and gets a new session', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock });
    pair.gateway.nextAttempt();
    pair.portal.acceptAttempt(5);
    pair.link.cut();
    const met = await pair.dial();
    expect(met.gateway.kind).toBe('established');
  });

  it('#37: the session of another gateway is unknown', async () => {
    const clock = new ManualClock();
    await using one = await SessionPair.connected({ clock });
    await using two = await SessionPair.connected({ clock, gatewayId: 'gateway-2' });
    // whatever id it names, it would get the other's session
    two.sessions.set(two.gateway.id, one.portal);
    const own = two.portal;
    two.link.cut();
    const met = await two.dial();
    expect(met.gateway.kind).toBe('established');
    expect(one.portal.state.kind).toBe('attached');
    expect(one.portal.epoch).toBe(1);
    await own[Symbol.asyncDispose]();
  });
});
