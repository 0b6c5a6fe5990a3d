/** Gateways and portals of other versions, N-2 to N+1: those that can speak do, the others are told that they are too old. */
import { describe, expect, it } from 'vitest';
import { CLOSE } from '../../src/tunnel/codes.ts';
import { encodeFrame, outFrame, readFrames, TYPE } from '../../src/tunnel/frame.ts';
import { PROTOCOL } from '../../src/tunnel/greetings.ts';
import { type GatewayHandshakeOutcome, greetPortal } from '../../src/tunnel/handshake.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { defaultSettings } from '../../src/tunnel/session.ts';
import { Transcript } from '../../src/tunnel/transcript.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryLink } from '../support/memory-carrier.ts';
import { RawPeer } from '../support/raw-peer.ts';

/** This program's version. */
const N = PROTOCOL.max;
const VERSIONS = [
  ['N-2', { min: N - 3, max: N - 2 }, false],
  ['N-1 that does not know N', { min: N - 2, max: N - 1 }, false],
  ['N', { min: N, max: N }, true],
  ['N that still speaks N-2', { min: N - 2, max: N }, true],
  ['N+1 that still speaks N', { min: N, max: N + 1 }, true],
  ['N+1 that does not', { min: N + 1, max: N + 1 }, false],
] as const;

/** Our gateway against a portal that says `protocol`, and more members than we know. */
async function meetPortal(
  clock: ManualClock,
  protocol: { min: number; max: number },
): Promise<{ outcome: GatewayHandshakeOutcome; closed: number | undefined }> {
  const link = new MemoryLink();
  const portal = generateIdentity();
  const gateway = generateIdentity();
  const transcript = new Transcript();
  const say = (type: number, payload: Buffer): void =>
    link.b.send([Buffer.concat([Buffer.alloc(link.b.headroom), encodeFrame(outFrame(type, 0, payload))])]);
  let closed: number | undefined;
  link.b.bind({
    message: (message) => {
      readFrames(message, 0xffff, (type, _flags, _stream, _sequence, payload) => {
        if (type !== TYPE.HELLO) return true; // of the session that began
        expect(transcript.verify(type, payload, gateway.publicKey)).toBe(true);
        const welcome = {
          protocol: N,
          sessionId: 's-1',
          epoch: 1,
          graceMs: 120_000,
          serverId: 'portal-1',
          software: 'another version',
          capabilities: ['a-newer-one'],
          settings: defaultSettings('portal'),
          time: 0,
          unknownMember: { of: 'a newer version' },
        };
        say(TYPE.WELCOME, transcript.seal(TYPE.WELCOME, portal, welcome));
        return true;
      });
    },
    closed: (code) => {
      closed = code;
    },
    drained() {},
  });
  const greeting = greetPortal(
    link.a,
    {
      clock,
      identity: gateway,
      gatewayId: 'gw-1',
      instanceId: 'node-1',
      portalKey: portal.publicKey,
      software: 'test',
      handlers: { target: () => Promise.reject(new Error('none')), sync: async () => {} },
    },
    new AbortController().signal,
  );
  const nonce = Buffer.alloc(32, 9).toString('base64');
  const hello = { role: 'portal', protocol, serverId: 'portal-1', nonce, time: 0, unknownMember: true };
  say(TYPE.HELLO, transcript.open(TYPE.HELLO, hello));
  await clock.settle(20);
  return { outcome: await greeting, closed };
}

describe('versions side by side (64)', () => {
  for (const [name, protocol, fits] of VERSIONS) {
    it(`64: a gateway of version ${name} ${fits ? 'connects' : 'hears 4426'}`, async () => {
      const clock = new ManualClock();
      const peer = new RawPeer();
      const greeting = peer.greet({
        clock,
        hello: { protocol, unknownMember: 'of a newer version' },
        target: async () => (stream) => void stream.on('error', () => {}).pipe(stream),
      });
      await clock.settle(20);
      const outcome = await greeting;
      if (fits) {
        expect(outcome.kind).toBe('established');
        // it says what only a newer one knows, and is served all the same
        peer.send(0xf0, 0, Buffer.from('a frame of a newer version'));
        peer.open(1, { target: 'agent' });
        peer.send(TYPE.DATA, 1, Buffer.from('hello'));
        await clock.settle(20);
        const data = peer.of(TYPE.DATA).map(({ payload }) => payload);
        expect(Buffer.concat(data).toString()).toBe('hello');
        if (outcome.kind === 'established') await outcome.session[Symbol.asyncDispose]();
      } else {
        expect(outcome).toMatchObject({ kind: 'refused', closeCode: CLOSE.TOO_OLD });
        expect(peer.closed?.code).toBe(4426);
      }
    });

    it(`64: a portal of version ${name} is ${fits ? 'taken' : 'left with 4426'}`, async () => {
      const clock = new ManualClock();
      const { outcome, closed } = await meetPortal(clock, protocol);
      if (fits) {
        expect(outcome.kind).toBe('established');
        if (outcome.kind === 'established') await outcome.session[Symbol.asyncDispose]();
      } else {
        expect(outcome).toMatchObject({ kind: 'refused', closeCode: CLOSE.TOO_OLD });
        expect(closed).toBe(4426);
      }
    });
  }
});
