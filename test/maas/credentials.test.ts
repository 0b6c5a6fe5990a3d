/** What users paste (endpoint, key) and what goes out signed. */
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/base/log.ts';
import { parseApiKey } from '../../src/maas/api-key.ts';
import { normaliseEndpoint } from '../../src/maas/endpoint.ts';
import { createRedact } from '../../src/maas/redact.ts';
import { createSigner } from '../../src/maas/sign.ts';
import { parseVersion, supportOf } from '../../src/maas/version.ts';
import { KEY, SECRET, TOKEN } from '../support/maas-wire.ts';

describe('endpoint', () => {
  it.each([
    ['http://h:5240/MAAS', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240/MAAS/', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240/MAAS/api/2.0', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240/MAAS/api/2.0/', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240//MAAS//api/2.0/', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240/MAAS/r/machines?x=1#y', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240/MAAS/api/1.0/', 'http://h:5240/MAAS/api/2.0/'],
    ['http://h:5240', 'http://h:5240/MAAS/api/2.0/'],
    ['  https://maas.example.com/MAAS \n', 'https://maas.example.com/MAAS/api/2.0/'],
    ['10.1.2.3', 'http://10.1.2.3:5240/MAAS/api/2.0/'],
    ['10.1.2.3:8080/MAAS', 'http://10.1.2.3:8080/MAAS/api/2.0/'],
    ['maas.internal', 'http://maas.internal:5240/MAAS/api/2.0/'],
    ['http://[fd00::1]:5240/MAAS', 'http://[fd00::1]:5240/MAAS/api/2.0/'],
    ['https://proxy/site-a/MAAS/r/', 'https://proxy/site-a/MAAS/api/2.0/'],
    ['HTTP://H:5240/MAAS', 'http://h:5240/MAAS/api/2.0/'],
  ])('%s becomes %s', (input, expected) => {
    expect(normaliseEndpoint(input)).toBe(expected);
    expect(normaliseEndpoint(expected)).toBe(expected);
  });

  it.each(['', 'ftp://h/MAAS', 'http://', 'http://user:pw@h/MAAS', 'http://h:99999/MAAS', 'a b c'])(
    '%s is refused',
    (input) => {
      expect(() => normaliseEndpoint(input)).toThrow(
        expect.objectContaining({ code: 'MAAS_URL_INVALID', field: 'endpoint' }),
      );
    },
  );
});

describe('API key', () => {
  it('takes the three parts and warns of unusual lengths', () => {
    expect(parseApiKey(new Secret(` ${KEY}\n`)).warnings).toEqual([]);
    expect(parseApiKey(new Secret('a:b:c')).warnings).toHaveLength(3);
  });

  it.each(['', 'a', 'a:b', 'a::c', 'a:b:c:d', 'a:b:c d', 'a:b:c"'])(
    'refuses %j without repeating it',
    (text) => {
      let thrown: unknown;
      try {
        parseApiKey(new Secret(text));
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toMatchObject({ code: 'MAAS_KEY_INVALID' });
      if (text.length > 3) expect(String(thrown)).not.toContain(text);
    },
  );

  it('is unloggable once parsed', () => {
    expect(JSON.stringify(parseApiKey(new Secret(KEY)))).not.toContain(SECRET);
  });
});

describe('signature', () => {
  const signer = createSigner(parseApiKey(new Secret(KEY)));
  const partsOf = (header: string) =>
    Object.fromEntries(
      [...header.matchAll(/(oauth_\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]),
    );

  it('is PLAINTEXT with an empty consumer secret, as MAAS compares it', () => {
    const header = signer.authorization(1_764_000_000_999);
    expect(header.startsWith('OAuth ')).toBe(true);
    expect(partsOf(header)).toMatchObject({
      oauth_signature_method: 'PLAINTEXT',
      oauth_signature: `%26${SECRET}`,
      oauth_token: TOKEN,
      oauth_timestamp: '1764000000',
      oauth_version: '1.0',
    });
  });

  it('never repeats a nonce and never has one that contains "realm", which MAAS would skip', () => {
    const nonces = new Set(
      Array.from({ length: 2000 }, () => partsOf(signer.authorization(0))['oauth_nonce']),
    );
    expect(nonces.size).toBe(2000);
    for (const nonce of nonces) expect(nonce).toMatch(/^[0-9a-f]{32}$/);
  });
});

describe('redaction', () => {
  it('blanks every part of the key, foreign signatures and line breaks, and bounds the length', () => {
    const redact = createRedact(parseApiKey(new Secret(KEY)));
    const clean = redact(
      `base string: &${SECRET}\n ${TOKEN} \u0007 %26${'x'.repeat(32)} ${'long '.repeat(500)}`,
    );
    for (const secret of [SECRET, TOKEN, 'x'.repeat(32), '\n', '\u0007']) expect(clean).not.toContain(secret);
    expect(clean.length).toBeLessThan(420);
  });
});

describe('version', () => {
  it.each([
    ['3.5.13', 3, 5, 'supported'],
    ['3.6.0~rc1', 3, 6, 'supported'],
    ['3.3.0 from source', 3, 3, 'supported'],
    ['2.9.2', 2, 9, 'too-old'],
    ['3.8.0', 3, 8, 'newer'],
    ['4.0.1', 4, 0, 'newer'],
  ] as const)('%s', (text, major, minor, support) => {
    const version = parseVersion(text);
    expect(version).toEqual({ version: text, major, minor });
    expect(supportOf(version)).toBe(support);
  });

  it('is asked for in vain where there is none', () => {
    expect(() => parseVersion('latest')).toThrow(expect.objectContaining({ code: 'MAAS_PROTOCOL' }));
  });
});
