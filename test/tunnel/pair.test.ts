import { describe, expect, it } from 'vitest';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { PcgError, toProblem } from '../../src/base/errors.ts';
import { ERROR_CODES } from '../../src/contract/errors.ts';
import { PairConfirmSchema, PairHelloSchema, PairResultSchema } from '../../src/contract/pairing.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { normalisePortalUrl, pairWithPortal } from '../../src/tunnel/pair-client.ts';
import { generateCode, parseCode } from '../../src/tunnel/pair-code.ts';
import {
  answerChallenge,
  beginPairing,
  checkResult,
  confirmPairing,
  createPairingCode,
  forgetExpiredKey,
  PAIRING_CODE_LIFE_MS,
  type PairingRecord,
  type PortalSide,
  revokePairing,
  startAttempt,
} from '../../src/tunnel/pair.ts';
import { connectProxy, httpServer } from '../support/wire.ts';

const NOW = Date.parse('2026-11-21T12:00:00Z');
const portalIdentity = generateIdentity();
const portal: PortalSide = { publicKey: portalIdentity.publicKey, tunnelUrl: 'wss://portal.test/tunnel/v1' };
const URL_USED = 'https://portal.test';

function newCode(now = NOW) {
  return createPairingCode({ gatewayId: 'gw-1', gatewayName: 'rack-west', now });
}

function attemptWith(code: string, gateway = generateIdentity(), extra: { gatewayName?: string } = {}) {
  return startAttempt({
    ...parseCode(code),
    gatewayKey: gateway.publicKey,
    sealingKey: gateway.sealingKey,
    portalUrl: URL_USED,
    ...extra,
  });
}

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return error instanceof PcgError ? error.code : String(error);
  }
  return 'no error';
};

describe('pairing code', () => {
  it('is six groups of five with 105 secret bits, and reads back however people write it', () => {
    const { code, codeId, secret } = generateCode();
    const text = code.reveal();
    expect(text).toMatch(/^([0-9A-HJKMNP-TV-Z]{5}-){5}[0-9A-HJKMNP-TV-Z]{5}$/);
    expect(codeId).toMatch(/^pc-[0-9a-hjkmnp-tv-z]{7}$/);
    expect(secret.reveal()).toHaveLength(21);
    const spellings = [
      text.toLowerCase(),
      text.replaceAll('-', ''),
      text.replaceAll('-', ' '),
      ` ${text}\n`,
      text.replaceAll('-', '–'),
      text.replaceAll('0', 'O').replaceAll('1', 'l'),
      text.replaceAll('0', 'o').replaceAll('1', 'I'),
    ];
    for (const spelling of spellings) {
      expect(parseCode(spelling)).toMatchObject({ codeId });
      expect(parseCode(spelling).secret.reveal()).toBe(secret.reveal());
    }
  });

  it('catches every single wrong character and names its group, and every swap of neighbours', () => {
    const text = generateCode().code.reveal().replaceAll('-', '');
    for (let at = 0; at < text.length; at += 1) {
      for (const other of '0123456789ABCDEFGHJKMNPQRSTVWXYZ') {
        if (other === text[at]) continue;
        const typo = text.slice(0, at) + other + text.slice(at + 1);
        const error = (() => {
          try {
            parseCode(typo);
          } catch (thrown) {
            return thrown as PcgError;
          }
        })();
        expect(error?.code).toBe('PAIRING_CODE_MALFORMED');
        expect(error?.message).toContain(`group ${Math.floor(at / 5) + 1}`);
      }
      if (at > 0 && text[at] !== text[at - 1]) {
        const swapped = text.slice(0, at - 1) + text[at] + text[at - 1] + text.slice(at + 1);
        expect(codeOf(() => parseCode(swapped))).toBe('PAIRING_CODE_MALFORMED');
      }
    }
  });

  it('catches every pair of wrong characters in a sample', () => {
    const text = generateCode().code.reveal().replaceAll('-', '');
    const next = (char: string): string => (char === 'Z' ? 'Y' : 'Z');
    for (let a = 0; a < text.length; a += 1) {
      for (let b = a + 1; b < text.length; b += 1) {
        const chars = Array.from(text);
        chars[a] = next(chars[a]!);
        chars[b] = next(chars[b]!);
        expect(codeOf(() => parseCode(chars.join('')))).toBe('PAIRING_CODE_MALFORMED');
      }
    }
  });

  it('calls other text malformed, without limits being reached', () => {
    for (const text of ['', 'hello', 'U'.repeat(30), '0'.repeat(31), 'x'.repeat(100_000), '💥'.repeat(30)]) {
      expect(codeOf(() => parseCode(text))).toBe('PAIRING_CODE_MALFORMED');
    }
  });
});

describe('pairing, both ends', () => {
  it('ends with both keys pinned and the same words, and the secret is in no message (R30-R36)', () => {
    const { code, record } = newCode();
    const gateway = generateIdentity();
    const attempt = attemptWith(code.reveal(), gateway);
    const challenge = beginPairing(record, attempt.hello, portal, NOW);
    const confirm = answerChallenge(attempt, challenge);
    const outcome = confirmPairing(record, confirm, portal, NOW + 1000);
    if (outcome.kind !== 'paired') throw new Error(outcome.kind);
    checkResult(attempt, challenge, outcome.result);
    expect(outcome.gateway).toMatchObject({
      id: 'gw-1',
      publicKey: gateway.publicKey,
      sealingKey: gateway.sealingKey,
    });
    expect(outcome.result.words).toMatch(/^[a-z]+(-[a-z]+){3}$/);
    expect(outcome.result.words).toBe(outcome.gateway.words);
    expect(PairHelloSchema.safeParse(attempt.hello).success).toBe(true);
    expect(PairConfirmSchema.safeParse(confirm).success).toBe(true);
    const wire = JSON.stringify([attempt.hello, challenge, confirm, outcome.result]);
    const { secret } = parseCode(code.reveal());
    expect(wire).not.toContain(secret.reveal());
    expect(wire).not.toContain(record.macKey);
    expect(JSON.stringify(record)).not.toContain(secret.reveal());
  });

  it('48: repeats for the same key until it expires, whichever end crashed, and refuses another key as used', () => {
    const { code, record } = newCode();
    const gateway = generateIdentity();
    const pairOnce = (from: PairingRecord, at: number, who = gateway) => {
      const attempt = attemptWith(code.reveal(), who);
      return confirmPairing(
        from,
        answerChallenge(attempt, beginPairing(from, attempt.hello, portal, at)),
        portal,
        at,
      );
    };
    // the portal died before it saved: the old record, again
    expect(pairOnce(record, NOW).kind).toBe('paired');
    const first = pairOnce(record, NOW);
    if (first.kind !== 'paired') throw new Error(first.kind);
    // the gateway died before it saved: the new record, again
    const again = pairOnce(first.record, NOW + PAIRING_CODE_LIFE_MS - 1);
    if (again.kind !== 'repeat') throw new Error(again.kind);
    expect(again.result).toMatchObject({ gatewayId: first.result.gatewayId, words: first.result.words });
    expect(again.record).toEqual(first.record);
    expect(codeOf(() => pairOnce(first.record, NOW, generateIdentity()))).toBe('PAIRING_CODE_USED');
    expect(codeOf(() => pairOnce(first.record, NOW + PAIRING_CODE_LIFE_MS))).toBe('PAIRING_CODE_EXPIRED');
  });

  it('48: two gateways that race with one code: the second to confirm is refused', () => {
    const { code, record } = newCode();
    const [one, two] = [attemptWith(code.reveal()), attemptWith(code.reveal())];
    const confirmOne = answerChallenge(one, beginPairing(record, one.hello, portal, NOW));
    const confirmTwo = answerChallenge(two, beginPairing(record, two.hello, portal, NOW));
    const first = confirmPairing(record, confirmOne, portal, NOW);
    expect(first.kind).toBe('paired');
    const second = confirmPairing(first.record, confirmTwo, portal, NOW);
    expect(second).toMatchObject({ kind: 'refused', error: { code: 'PAIRING_CODE_USED' } });
    expect(second.record).toEqual(first.record);
  });

  it('48: five wrong proofs lock the code, for the right one too', () => {
    const { code, record } = newCode();
    const attempt = attemptWith(code.reveal());
    const right = answerChallenge(attempt, beginPairing(record, attempt.hello, portal, NOW));
    let current: PairingRecord | undefined = record;
    const codes: string[] = [];
    for (let tries = 0; tries < 5; tries += 1) {
      const outcome = confirmPairing(
        current,
        { ...right, proof: Buffer.alloc(32, tries).toString('base64') },
        portal,
        NOW,
      );
      if (outcome.kind !== 'refused') throw new Error(outcome.kind);
      codes.push(outcome.error.code);
      current = outcome.record;
    }
    expect(codes).toEqual([...Array(4).fill('PAIRING_PROOF_FAILED'), 'PAIRING_TOO_MANY_TRIES']);
    expect(current).toMatchObject({ macKey: null, state: { kind: 'locked' } });
    expect(confirmPairing(current, right, portal, NOW)).toMatchObject({
      error: { code: 'PAIRING_TOO_MANY_TRIES' },
    });
  });

  it('48: the portal clock alone decides the 24 hours; unknown, revoked and expired have their own reason', () => {
    const { code, record } = newCode();
    const { hello } = attemptWith(code.reveal());
    const begin = (from: PairingRecord | undefined, at: number) =>
      codeOf(() => beginPairing(from, hello, portal, at));
    expect(begin(record, NOW + PAIRING_CODE_LIFE_MS - 1)).toBe('no error');
    expect(begin(record, NOW + PAIRING_CODE_LIFE_MS)).toBe('PAIRING_CODE_EXPIRED');
    expect(begin(undefined, NOW)).toBe('PAIRING_CODE_UNKNOWN');
    expect(begin(revokePairing(record), NOW)).toBe('PAIRING_CODE_REVOKED');
    expect(begin(revokePairing(record), NOW + PAIRING_CODE_LIFE_MS)).toBe('PAIRING_CODE_REVOKED');
    expect(forgetExpiredKey(record, NOW)).toBe(record);
    expect(forgetExpiredKey(record, NOW + PAIRING_CODE_LIFE_MS).macKey).toBeNull();
  });

  it('60: whoever changes any one field on the way is found out, by the end that it lies to', () => {
    const { code, record } = newCode();
    const attacker = generateIdentity();
    const attempt = attemptWith(code.reveal());
    const challenge = beginPairing(record, attempt.hello, portal, NOW);
    // towards the gateway
    for (const lie of [
      { portalKey: attacker.publicKey },
      { nonce: attacker.publicKey },
      { gatewayName: 'evil' },
      { proof: challenge.nonce },
    ]) {
      expect(codeOf(() => answerChallenge(attempt, { ...challenge, ...lie }))).toBe('PAIRING_PROOF_FAILED');
    }
    // towards the portal
    const confirm = answerChallenge(attempt, challenge);
    for (const lie of [
      { gatewayKey: attacker.publicKey },
      { sealingKey: attacker.sealingKey },
      { nonce: attacker.publicKey },
      { portalNonce: attacker.publicKey },
      { portalNonce: '' },
      { portalUrl: 'https://evil.test' },
      { proof: challenge.proof },
      { proof: '' },
    ]) {
      expect(confirmPairing(record, { ...confirm, ...lie }, portal, NOW)).toMatchObject({
        kind: 'refused',
        error: { code: 'PAIRING_PROOF_FAILED' },
      });
    }
    // the last word
    const outcome = confirmPairing(record, confirm, portal, NOW);
    if (outcome.kind !== 'paired') throw new Error(outcome.kind);
    for (const lie of [
      { tunnelUrl: 'wss://evil.test' },
      { gatewayId: 'gw-2' },
      { words: 'a-b-c-d' },
      { proof: '' },
    ]) {
      expect(codeOf(() => checkResult(attempt, challenge, { ...outcome.result, ...lie }))).toBe(
        'PAIRING_PROOF_FAILED',
      );
    }
  });

  it('60: a stranger who relays under another name is refused when the portal knows its own', () => {
    const { code, record } = newCode();
    const { hello } = attemptWith(code.reveal());
    const knowing = { ...portal, isOwnUrl: (url: string) => url === 'https://real.test' };
    expect(codeOf(() => beginPairing(record, hello, knowing, NOW))).toBe('PAIRING_PROOF_FAILED');
    expect(
      codeOf(() => beginPairing(record, { ...hello, portalUrl: 'https://real.test' }, knowing, NOW)),
    ).toBe('no error');
  });

  it("refuses keys that are no keys and a name that is not the code's, naming the field", () => {
    const { code, record } = newCode();
    const { hello } = attemptWith(code.reveal());
    for (const field of ['gatewayKey', 'sealingKey', 'nonce'] as const) {
      expect(() => beginPairing(record, { ...hello, [field]: 'AAAA' }, portal, NOW)).toThrow(
        expect.objectContaining({ code: 'INVALID_INPUT', field }),
      );
    }
    expect(() => beginPairing(record, { ...hello, gatewayName: 'rack-east' }, portal, NOW)).toThrow(
      expect.objectContaining({
        code: 'INVALID_INPUT',
        field: 'gatewayName',
        fix: expect.stringContaining('rack-west'),
      }),
    );
  });
});

/** The portal's two routes, as thin as they can be. */
async function pairingPortal(record: PairingRecord | undefined) {
  const state = { record, requests: [] as string[], loseAnswers: 0 };
  const listening = await httpServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    state.requests.push(text);
    const answer = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    try {
      if (request.url === '/api/v1/pair/hello') {
        return answer(200, beginPairing(state.record, PairHelloSchema.parse(JSON.parse(text)), portal, NOW));
      }
      const outcome = confirmPairing(state.record, PairConfirmSchema.parse(JSON.parse(text)), portal, NOW);
      state.record = outcome.record;
      if (outcome.kind === 'refused') throw outcome.error;
      if (state.loseAnswers-- > 0) return void request.socket.destroy();
      answer(200, PairResultSchema.parse(outcome.result));
    } catch (error) {
      const problem = toProblem(error);
      answer(ERROR_CODES[problem.code].http, problem);
    }
  });
  return { ...listening, state, url: `http://127.0.0.1:${listening.port}` };
}

describe('pairing over HTTP', () => {
  const identity = generateIdentity();
  const clock = unhurriedClock;

  it('pairs, directly and through a proxy with difficult credentials (59)', async () => {
    const { code, record } = newCode();
    await using server = await pairingPortal(record);
    await using proxy = await connectProxy();
    const direct = await pairWithPortal({
      portalUrl: server.url,
      code,
      identity,
      clock,
      gatewayName: 'rack-west',
    });
    expect(direct).toEqual({
      gatewayId: 'gw-1',
      gatewayName: 'rack-west',
      tunnelUrl: portal.tunnelUrl,
      portalKey: portal.publicKey,
      words: expect.stringMatching(/^[a-z-]+$/),
    });
    const httpProxy = proxy.url.replace('://', '://us%40er:p@ss:w/r%25d@');
    const proxied = await pairWithPortal({
      portalUrl: server.url,
      code: code.reveal(),
      identity,
      clock,
      proxy: { httpProxy },
    });
    expect(proxied).toEqual(direct);
    expect(proxy.seen).toHaveLength(2);
    expect(Buffer.from(proxy.seen[0]!.authorization!.slice(6), 'base64').toString()).toBe('us@er:p@ss:w/r%d');
  });

  it('48: an answer lost after the portal saved is repaired by calling again', async () => {
    const { code, record } = newCode();
    await using server = await pairingPortal(record);
    server.state.loseAnswers = 1;
    await expect(pairWithPortal({ portalUrl: server.url, code, identity, clock })).rejects.toMatchObject({
      code: 'PORTAL_UNREACHABLE',
      retryable: true,
    });
    expect(server.state.record?.state.kind).toBe('paired');
    await expect(pairWithPortal({ portalUrl: server.url, code, identity, clock })).resolves.toMatchObject({
      gatewayId: 'gw-1',
    });
    await expect(
      pairWithPortal({ portalUrl: server.url, code, identity: generateIdentity(), clock }),
    ).rejects.toMatchObject({
      code: 'PAIRING_CODE_USED',
    });
  });

  it('does not touch the network for a code with a typing error', async () => {
    const { code, record } = newCode();
    await using server = await pairingPortal(record);
    const text = code.reveal();
    const typo = (text[0] === 'A' ? 'B' : 'A') + text.slice(1);
    await expect(
      pairWithPortal({ portalUrl: server.url, code: typo, identity, clock }),
    ).rejects.toMatchObject({
      code: 'PAIRING_CODE_MALFORMED',
    });
    expect(server.state.requests).toEqual([]);
  });

  it('tells a portal that does not know the code, and one that cannot prove it', async () => {
    const { code } = newCode();
    await using without = await pairingPortal(undefined);
    await expect(pairWithPortal({ portalUrl: without.url, code, identity, clock })).rejects.toMatchObject({
      code: 'PAIRING_CODE_UNKNOWN',
    });
    const impostor = { ...newCode().record, codeId: parseCode(code.reveal()).codeId };
    await using lying = await pairingPortal(impostor);
    await expect(pairWithPortal({ portalUrl: lying.url, code, identity, clock })).rejects.toMatchObject({
      code: 'PAIRING_PROOF_FAILED',
    });
    expect(lying.state.requests).toHaveLength(1); // our proof was not given to it
  });

  it('53: another web server, a captive portal and an endless answer are "not a portal"', async () => {
    const { code } = newCode();
    for (const answer of ['<html>please sign in</html>', '{"a":1}', 'x'.repeat(1_000_000)]) {
      for (const status of [200, 302, 404, 502]) {
        await using server = await httpServer((request, response) => {
          request.resume();
          response.writeHead(status, { location: 'http://login.test/' }).end(answer);
        });
        await expect(
          pairWithPortal({ portalUrl: `http://127.0.0.1:${server.port}`, code, identity, clock }),
        ).rejects.toMatchObject({ code: 'PORTAL_UNREACHABLE', details: { reason: 'not-a-portal' } });
      }
    }
  });

  it('stops at once when it is cancelled', async () => {
    const { code } = newCode();
    await using server = await httpServer(() => {});
    const stop = new AbortController();
    const pairing = pairWithPortal({
      portalUrl: `http://127.0.0.1:${server.port}`,
      code,
      identity,
      clock,
      signal: stop.signal,
    });
    stop.abort(new Error('enough'));
    await expect(pairing).rejects.toThrow('enough');
  });

  it('normalises what people type as portal URL and refuses what is none', () => {
    expect(normalisePortalUrl(' Portal.Example/ ')).toBe('https://portal.example');
    expect(normalisePortalUrl('https://portal.example:443/base/')).toBe('https://portal.example/base');
    for (const text of ['', 'ftp://x', 'https://u:p@x', 'https://']) {
      expect(() => normalisePortalUrl(text)).toThrow(
        expect.objectContaining({ code: 'INVALID_INPUT', field: 'portalUrl' }),
      );
    }
  });
});
