/**
 * docs/tunnel-vectors.json: what another implementation of `pcg.tunnel.v1` can check itself against. It is made from
 * fixed keys by this code (`vitest -u` writes it), so a change of any byte on the wire fails here.
 */
import { describe, expect, it } from 'vitest';
import { encodeFrame, FLAG_FIN, outFrame, readFrames, TYPE } from '../../src/tunnel/frame.ts';
import { parseIdentity } from '../../src/tunnel/identity.ts';
import { generateCode, parseCode } from '../../src/tunnel/pair-code.ts';
import {
  writeAck,
  writeCredit,
  writeDrain,
  writeGoAway,
  writeOpen,
  writePing,
  writePong,
  writeReason,
} from '../../src/tunnel/payload.ts';
import { Transcript } from '../../src/tunnel/transcript.ts';
import { comparisonWords } from '../../src/tunnel/words.ts';

const key = (fill: number): string => Buffer.alloc(32, fill).toString('base64');
const identity = (fill: number) =>
  parseIdentity(JSON.stringify({ version: 1, signing: key(fill), sealing: key(fill + 1) }));
const gateway = identity(1);
const portal = identity(3);

const ping = { opaque: 0x1_0000_0002, sentMs: 1234.5 };
const FRAMES = [
  ['PING', outFrame(TYPE.PING, 0, writePing(ping)), 0],
  ['PONG with 7 ms of lag', outFrame(TYPE.PONG, 0, writePong(writePing(ping), 7)), 0],
  [
    'ACK of 2^32 + 5 frames, 2^33 bytes, 250 us',
    outFrame(TYPE.ACK, 0, writeAck({ sequence: 2 ** 32 + 5, bytes: 2 ** 33, delayUs: 250 })),
    0,
  ],
  [
    'DRAIN',
    outFrame(
      TYPE.DRAIN,
      0,
      writeDrain({ reason: 'update', deadlineMs: 30_000, reconnectAfterMs: 1000, spreadMs: 5000 }),
    ),
    9,
  ],
  ['GOAWAY', outFrame(TYPE.GOAWAY, 0, writeGoAway({ closeCode: 4400, lastStream: 7, message: 'credit' })), 0],
  [
    'OPEN',
    outFrame(
      TYPE.OPEN,
      2,
      writeOpen({
        target: 'kube:one',
        class: 2,
        credit: 262_144,
        deadlineMs: 10_000,
        principal: { user: 'ann', groups: ['ops'] },
      }),
    ),
    1,
  ],
  ['OPEN_OK', outFrame(TYPE.OPEN_OK, 2, writeCredit(262_144)), 1],
  ['OPEN_ERR', outFrame(TYPE.OPEN_ERR, 2, writeReason(4, 'refused')), 2],
  ['DATA with FIN, sequence 2^32 + 1', outFrame(TYPE.DATA, 2, Buffer.from('hello'), FLAG_FIN), 2 ** 32 + 1],
  ['CREDIT', outFrame(TYPE.CREDIT, 2, writeCredit(65_536)), 3],
  ['FIN', outFrame(TYPE.FIN, 2), 4],
  ['RESET', outFrame(TYPE.RESET, 2, writeReason(15)), 5],
  ['STOP', outFrame(TYPE.STOP, 2, writeReason(1)), 6],
] as const;

function vectors(): object {
  const portalSide = new Transcript();
  const greeting = { role: 'portal', nonce: key(9) };
  const first = portalSide.open(TYPE.HELLO, greeting);
  const gatewaySide = new Transcript();
  gatewaySide.open(TYPE.HELLO, greeting);
  const answer = { role: 'gateway', nonce: key(10), gatewayId: 'gw-1' };
  const second = gatewaySide.seal(TYPE.HELLO, gateway, answer);
  if (!portalSide.verify(TYPE.HELLO, second, gateway.publicKey)) throw new Error('the chain is broken');
  const third = portalSide.seal(TYPE.WELCOME, portal, { sessionId: 's-1' });
  if (!gatewaySide.verify(TYPE.WELCOME, third, portal.publicKey)) throw new Error('the chain is broken');
  const code = generateCode((bytes) => Buffer.from(Array.from({ length: bytes }, (_, at) => at)));
  return {
    protocol: 'pcg.tunnel.v1',
    frames: FRAMES.map(([name, frame, sequence]) => ({
      name,
      type: frame.type,
      flags: frame.flags,
      streamId: frame.streamId,
      sequence,
      payload: frame.payload.toString('hex'),
      wire: encodeFrame(frame, sequence).toString('hex'),
    })),
    handshake: {
      gatewayPrivateKey: key(1),
      gatewayPublicKey: gateway.publicKey,
      portalPrivateKey: key(3),
      portalPublicKey: portal.publicKey,
      payloads: [
        { from: 'portal', type: TYPE.HELLO, payload: first.toString('hex') },
        { from: 'gateway', type: TYPE.HELLO, payload: second.toString('hex') },
        { from: 'portal', type: TYPE.WELCOME, payload: third.toString('hex') },
      ],
    },
    pairing: {
      code: code.code.reveal(),
      codeId: code.codeId,
      secret: code.secret.reveal(),
      portalKey: portal.publicKey,
      gatewayKey: gateway.publicKey,
      sealingKey: gateway.sealingKey,
      words: comparisonWords({
        portalKey: portal.publicKey,
        gatewayKey: gateway.publicKey,
        sealingKey: gateway.sealingKey,
      }),
    },
  };
}

describe('test vectors', () => {
  it('are what this code puts on the wire', async () => {
    await expect(`${JSON.stringify(vectors(), null, 2)}\n`).toMatchFileSnapshot(
      '../../docs/tunnel-vectors.json',
    );
  });

  it('are read back as what they say', () => {
    for (const [name, frame, sequence] of FRAMES) {
      const seen: unknown[] = [];
      readFrames(encodeFrame(frame, sequence), 16_384, (type, flags, streamId, low, payload) => {
        seen.push([type, flags, streamId, low, payload.toString('hex')]);
        return true;
      });
      expect(seen, name).toEqual([
        [frame.type, frame.flags, frame.streamId, sequence >>> 0, frame.payload.toString('hex')],
      ]);
    }
    const code = generateCode((bytes) => Buffer.from(Array.from({ length: bytes }, (_, at) => at)));
    expect(parseCode(code.code.reveal()).codeId).toBe(code.codeId);
  });
});
