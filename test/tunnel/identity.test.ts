import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/base/log.ts';
import {
  fingerprint,
  generateIdentity,
  isPublicKey,
  parseIdentity,
  seal,
  verifySignature,
} from '../../src/tunnel/identity.ts';
import { beginPairing, createPairingCode, startAttempt } from '../../src/tunnel/pair.ts';
import { parseCode } from '../../src/tunnel/pair-code.ts';

describe('identity', () => {
  it('signs so that only its own public key verifies, over exactly these bytes', () => {
    const [ours, other] = [generateIdentity(), generateIdentity()];
    const signature = ours.sign(Buffer.from('transcript'));
    expect(verifySignature(ours.publicKey, Buffer.from('transcript'), signature)).toBe(true);
    expect(verifySignature(ours.publicKey, Buffer.from('transcripT'), signature)).toBe(false);
    expect(verifySignature(other.publicKey, Buffer.from('transcript'), signature)).toBe(false);
    expect(verifySignature('garbage', Buffer.from('transcript'), signature)).toBe(false);
    expect(verifySignature(ours.publicKey, Buffer.from('transcript'), Buffer.alloc(3))).toBe(false);
  });

  it('survives a restart through its serialised form, which never shows itself in logs (70)', () => {
    const before = generateIdentity();
    const stored = before.serialize();
    expect(`${stored.toString()} ${JSON.stringify({ stored })}`).not.toContain(
      JSON.parse(stored.reveal()).signing,
    );
    const after = parseIdentity(stored);
    expect(after.publicKey).toBe(before.publicKey);
    expect(after.sealingKey).toBe(before.sealingKey);
    expect(verifySignature(before.publicKey, Buffer.from('x'), after.sign(Buffer.from('x')))).toBe(true);
    expect(after.open(seal(before.sealingKey, 'k', 'c'), 'c').toString()).toBe('k');
  });

  it('refuses a damaged store instead of making a new identity, and does not quote it (70)', () => {
    const text = generateIdentity().serialize().reveal();
    for (const damaged of ['', '{}', text.slice(0, -9), text.replace('"version":1', '"version":2'), 'null']) {
      const error = caught(() => parseIdentity(new Secret(damaged)));
      expect(error).toMatchObject({ code: 'BAD_CONFIG' });
      expect(String(error)).not.toContain(JSON.parse(text).signing);
    }
  });

  it('makes fresh keys every time (71)', () => {
    const keys = Array.from({ length: 50 }, () => generateIdentity());
    expect(new Set(keys.flatMap((key) => [key.publicKey, key.sealingKey])).size).toBe(100);
    expect(fingerprint(keys[0]!.publicKey)).toMatch(/^[0-9a-f]{16}$/);
  });

  it('71: nothing secret or fresh comes twice: codes, their keys, nonces of both ends, sealed texts', () => {
    const seen = new Map<string, Set<string>>();
    const note = (what: string, value: string): void => {
      const known = seen.get(what) ?? new Set();
      seen.set(what, known.add(value));
    };
    const ROUNDS = 50;
    const [gateway, portal] = [generateIdentity(), generateIdentity()];
    for (let round = 0; round < ROUNDS; round += 1) {
      const made = createPairingCode({ gatewayId: 'gw-1', gatewayName: 'dc1', now: 0 });
      const { codeId, secret } = parseCode(made.code.reveal());
      note('code id', codeId);
      note('secret', secret.reveal());
      note('MAC key', String(made.record.macKey));
      const attempt = startAttempt({
        codeId,
        secret,
        gatewayKey: gateway.publicKey,
        sealingKey: gateway.sealingKey,
        portalUrl: 'https://portal.test',
      });
      const challenge = beginPairing(
        made.record,
        attempt.hello,
        { publicKey: portal.publicKey, tunnelUrl: 'wss://portal.test' },
        0,
      );
      note("gateway's nonce", attempt.hello.nonce);
      note("portal's nonce", challenge.nonce);
      note('sealed', seal(gateway.sealingKey, 'the same', 'the same'));
    }
    expect(seen.size).toBe(6);
    for (const [what, values] of seen) expect([what, values.size]).toEqual([what, ROUNDS]);
  });

  it('71: no source of a program holds a key', () => {
    const root = new URL('../../src/', import.meta.url);
    const sources = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.ts'),
    );
    expect(sources.length).toBeGreaterThan(100);
    // 32 bytes as hexadecimal digits or base64 between quotes, and what PEM makes of a key
    const keys =
      /['"`](?:[0-9a-f]{64}|[A-Za-z0-9+/]{43}=)['"`]|-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/]{20}/;
    const holding = sources.filter((name) => keys.test(readFileSync(new URL(name, root), 'utf8')));
    expect(holding).toEqual([]);
  });

  it('accepts one spelling of a public key only', () => {
    const { publicKey } = generateIdentity();
    expect(isPublicKey(publicKey)).toBe(true);
    for (const text of [publicKey.slice(0, -1), `${publicKey}\n`, ` ${publicKey}`, publicKey.slice(4), '']) {
      expect(isPublicKey(text)).toBe(false);
    }
  });
});

describe('sealing', () => {
  const gateway = generateIdentity();
  const key = 'a'.repeat(18) + ':' + 'b'.repeat(18) + ':' + 'c'.repeat(32);

  it('opens with the right gateway and context, and the text differs each time', () => {
    const first = seal(gateway.sealingKey, key, 'maas-key:acc-1');
    const second = seal(gateway.sealingKey, key, 'maas-key:acc-1');
    expect(first).not.toBe(second);
    expect(first).not.toContain('aaaa');
    expect(gateway.open(first, 'maas-key:acc-1').toString()).toBe(key);
    expect(gateway.open(second, 'maas-key:acc-1').toString()).toBe(key);
  });

  it('opens for nobody else, for no other purpose, and not after any change of any byte', () => {
    const sealed = seal(gateway.sealingKey, key, 'maas-key:acc-1');
    expect(caught(() => generateIdentity().open(sealed, 'maas-key:acc-1'))).toMatchObject({
      code: 'INVALID_INPUT',
    });
    expect(caught(() => gateway.open(sealed, 'maas-key:acc-2'))).toMatchObject({ code: 'INVALID_INPUT' });
    const raw = Buffer.from(sealed.slice(5), 'base64url');
    for (let at = 0; at < raw.length; at += 1) {
      const changed = Buffer.from(raw);
      changed[at] = changed[at]! ^ 0x01;
      expect(
        caught(() => gateway.open(`pcg1.${changed.toString('base64url')}`, 'maas-key:acc-1')),
      ).toMatchObject({
        code: 'INVALID_INPUT',
      });
    }
    for (const text of ['', 'pcg1.', 'pcg2.AAAA', `pcg1.${'A'.repeat(40)}`, `pcg1.${'A'.repeat(300)}`]) {
      expect(caught(() => gateway.open(text, 'maas-key:acc-1'))).toMatchObject({ code: 'INVALID_INPUT' });
    }
  });

  it('refuses low-order keys, to which everybody would know the secret', () => {
    expect(() => seal(Buffer.alloc(32).toString('base64'), key, 'c')).toThrow();
  });
});

function caught(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('did not throw');
}
