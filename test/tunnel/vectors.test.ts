/**
 * docs/tunnel-vectors.json: what another implementation of `pcg.tunnel.v1` can check itself against. It is made from
 * fixed keys by this code (`vitest -u` writes it), so a change of any byte on the wire fails here.
 */
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { encodeFrame, FLAG_FIN, outFrame, readFrames, TYPE } from '../../src/tunnel/frame.ts';
import {
  gatewayHelloSchema,
  portalHelloSchema,
  PROTOCOL,
  resumedSchema,
  resumeFailSchema,
  resumeSchema,
  welcomeSchema,
} from '../../src/tunnel/greetings.ts';
import { parseIdentity } from '../../src/tunnel/identity.ts';
import {
  answerChallenge,
  beginPairing,
  checkResult,
  confirmPairing,
  createPairingCode,
  startAttempt,
} from '../../src/tunnel/pair.ts';
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

/** One message of a handshake: who says it, its type, its body, and how the other end checks it. */
type Line = readonly ['portal' | 'gateway', number, object, z.ZodType];

const settings = { maxFrameBytes: 16_384, openCredit: 262_144, syncCredit: 2_097_152, maxStreams: 1024 };
const who = { gatewayId: 'gw-1', instanceId: 'node-1' };
const greeting: Line = [
  'portal',
  TYPE.HELLO,
  { role: 'portal', protocol: PROTOCOL, serverId: 'portal-1', nonce: key(9), time: 1_700_000_000_000 },
  portalHelloSchema,
];
const hello: Line = [
  'gateway',
  TYPE.HELLO,
  {
    role: 'gateway',
    protocol: PROTOCOL,
    software: 'other/1',
    ...who,
    capabilities: [],
    settings,
    nonce: key(10),
    time: 1_700_000_000_500,
  },
  gatewayHelloSchema,
];
const welcome: Line = [
  'portal',
  TYPE.WELCOME,
  {
    protocol: 1,
    sessionId: 's-1',
    epoch: 1,
    graceMs: 120_000,
    serverId: 'portal-1',
    software: 'pcg',
    capabilities: [],
    settings,
    time: 1_700_000_000_001,
  },
  welcomeSchema,
];
const resume: Line = [
  'gateway',
  TYPE.RESUME,
  {
    sessionId: 's-1',
    epoch: 1,
    attempt: 1,
    nextExpected: 2 ** 32 + 5,
    ...who,
    nonce: key(10),
    time: 1_700_000_000_500,
  },
  resumeSchema,
];
const resumed: Line = ['portal', TYPE.RESUMED, { epoch: 2, nextExpected: 17 }, resumedSchema];
const failed: Line = ['portal', TYPE.RESUME_FAIL, { reason: 'expired' }, resumeFailSchema];
const moved: Line = [
  'portal',
  TYPE.RESUME_FAIL,
  { reason: 'moved', hint: 'wss://node-2.example/tunnel/v1' },
  resumeFailSchema,
];
const HANDSHAKES: readonly [string, readonly Line[]][] = [
  ['a new session', [greeting, hello, welcome]],
  ['a session that goes on', [greeting, resume, resumed]],
  ['a session that is lost, and a new one on the same carrier', [greeting, resume, failed, hello, welcome]],
  ['a session that lives on another portal node', [greeting, resume, moved]],
];

/** Says every line at one end and checks it at the other, as both ends do. */
function handshake(lines: readonly Line[]): object[] {
  const ends = { portal: new Transcript(), gateway: new Transcript() };
  const identities = { portal, gateway };
  return lines.map(([from, type, body, schema], at) => {
    const first = at === 0;
    const payload = first ? ends[from].open(type, body) : ends[from].seal(type, identities[from], body);
    const heard = ends[from === 'portal' ? 'gateway' : 'portal'].read(
      type,
      payload,
      schema,
      first ? undefined : identities[from].publicKey,
    );
    expect(heard).toEqual({ kind: 'ok', body });
    return { from, type, payload: payload.toString('hex') };
  });
}

/** Counts up: the same bytes at every run. */
const counting = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, (_, at) => at));

/** The four messages of pairing, each checked by the end that it is for. */
function pairing(): object {
  const now = 1_700_000_000_000;
  const { code, record } = createPairingCode({
    gatewayId: 'gw-1',
    gatewayName: 'dc1',
    now,
    random: counting,
  });
  const parsed = parseCode(code.reveal());
  const side = { publicKey: portal.publicKey, tunnelUrl: 'wss://portal.example/tunnel/v1' };
  const attempt = startAttempt({
    ...parsed,
    gatewayKey: gateway.publicKey,
    sealingKey: gateway.sealingKey,
    portalUrl: 'https://portal.example',
    gatewayName: 'dc1',
    random: counting,
  });
  const challenge = beginPairing(record, attempt.hello, side, now, counting);
  const confirm = answerChallenge(attempt, challenge);
  const outcome = confirmPairing(record, confirm, side, now);
  if (outcome.kind !== 'paired') throw new Error(`pairing came to ${outcome.kind}`);
  checkResult(attempt, challenge, outcome.result);
  return {
    code: code.reveal(),
    codeId: parsed.codeId,
    secret: parsed.secret.reveal(),
    macKey: attempt.macKey.toString('base64'),
    hello: attempt.hello,
    challenge,
    confirm,
    result: outcome.result,
  };
}

function vectors(): object {
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
      conversations: HANDSHAKES.map(([name, lines]) => ({ name, payloads: handshake(lines) })),
    },
    pairing: pairing(),
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
    const code = generateCode(counting);
    expect(parseCode(code.code.reveal()).codeId).toBe(code.codeId);
  });
});
