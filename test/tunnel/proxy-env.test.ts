import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/base/log.ts';
import { basicCredentials, bypasses, parseProxyUrl, proxyFor } from '../../src/tunnel/proxy-env.ts';

describe('proxy URL', () => {
  it.each([
    ['http://proxy.test:3128', { secure: false, host: 'proxy.test', port: 3128, user: undefined }],
    ['proxy.test:8080', { secure: false, host: 'proxy.test', port: 8080, user: undefined }],
    ['http://proxy.test/', { secure: false, host: 'proxy.test', port: 3128, user: undefined }],
    ['http://proxy.test:80', { secure: false, host: 'proxy.test', port: 80, user: undefined }],
    ['https://proxy.test', { secure: true, host: 'proxy.test', port: 443, user: undefined }],
    ['https://[fd00::1]:3129', { secure: true, host: 'fd00::1', port: 3129, user: undefined }],
    ['http://me@proxy.test:1', { secure: false, host: 'proxy.test', port: 1, user: 'me', password: '' }],
  ])('reads %s', (text, wanted) => {
    const { credentials, ...rest } = parseProxyUrl(text);
    const { user, password, ...expected } = { password: undefined, ...wanted };
    expect(rest).toEqual(expected);
    expect(credentials?.user).toBe(user);
    expect(credentials?.password.reveal()).toBe(password);
  });

  it.each([
    ['http://u:p@proxy:1', 'u', 'p'],
    ['http://u%40corp:p%3A%40%2F%25@proxy:1', 'u@corp', 'p:@/%'],
    ['http://u:p@ss:w/rd%@proxy:1', 'u', 'p@ss:w/rd%'],
    ['http://DOM%5Cu:100%25@proxy:1', 'DOM\\u', '100%'],
    ['http://u:p%zz%C3%BC@proxy:1', 'u', 'p%zzü'],
    ['http://u:a#b?c@proxy:1', 'u', 'a#b?c'],
    ['u:p@proxy:1', 'u', 'p'],
  ])('59: takes difficult credentials from %s', (text, user, password) => {
    const { credentials, host, port } = parseProxyUrl(text);
    expect([host, port, credentials?.user, credentials?.password.reveal()]).toEqual([
      'proxy',
      1,
      user,
      password,
    ]);
    expect(Buffer.from(basicCredentials(credentials!).slice(6), 'base64').toString()).toBe(
      `${user}:${password}`,
    );
  });

  it('70: refuses what is no proxy URL, without quoting the password in it', () => {
    for (const text of [
      'socks5://u:hunter2@h:1',
      'http://u:hunter2@',
      'http://u:hunter2@h:99999',
      'http://u:hunter2@h h',
      'http://u:hunter2@h:0',
      '://',
    ]) {
      let error: unknown;
      try {
        parseProxyUrl(text, 'httpsProxy');
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toMatchObject({ code: 'BAD_CONFIG', field: 'httpsProxy' });
      expect(JSON.stringify(error) + String(error)).not.toContain('hunter2');
    }
  });
});

describe('choice of proxy', () => {
  it('takes the proxy of the scheme, and none when it is blank or bypassed', () => {
    const settings = {
      httpsProxy: new Secret('http://s:1'),
      httpProxy: ' http://p:2 ',
      noProxy: 'inside.test',
    };
    expect(proxyFor(new URL('wss://portal.test/x'), settings)?.host).toBe('s');
    expect(proxyFor(new URL('https://portal.test/x'), settings)?.host).toBe('s');
    expect(proxyFor(new URL('ws://portal.test/x'), settings)?.host).toBe('p');
    expect(proxyFor(new URL('https://maas.inside.test/x'), settings)).toBeUndefined();
    expect(proxyFor(new URL('https://portal.test'), { httpsProxy: '  ' })).toBeUndefined();
    expect(proxyFor(new URL('https://portal.test'), { httpProxy: 'http://p:2' })).toBeUndefined();
  });

  it.each([
    ['*', 'anything.test', 443, true],
    ['', 'portal.test', 443, false],
    ['portal.test', 'portal.test', 443, true],
    ['portal.test', 'PORTAL.test.', 443, true],
    ['portal.test', 'a.portal.test', 443, true],
    ['portal.test', 'notportal.test', 443, false],
    ['.portal.test', 'a.portal.test', 443, true],
    ['.portal.test', 'portal.test', 443, true],
    ['*.portal.test', 'a.b.portal.test', 443, true],
    ['.test', 'portal.test', 443, true],
    ['portal.test:443', 'portal.test', 443, true],
    ['portal.test:8443', 'portal.test', 443, false],
    ['10.0.0.1', '10.0.0.1', 443, true],
    ['10.0.0.1', '10.0.0.10', 443, false],
    ['10.0.0.1:80', '10.0.0.1', 443, false],
    ['10.0.0.0/8', '10.200.3.4', 443, true],
    ['10.0.0.0/8', '11.0.0.1', 443, false],
    ['10.0.0.0/8', 'ten.test', 443, false],
    ['10.0.0.0/33', '10.0.0.1', 443, false],
    ['10.0.0.0/', '10.0.0.1', 443, false],
    ['fd00::/8', '[fd12::5]', 443, true],
    ['fd00::/8', '10.0.0.1', 443, false],
    ['[::1]:8080', '[::1]', 8080, true],
    ['::1', '[0:0:0:0:0:0:0:1]', 443, true],
    ['0.1', '10.0.0.1', 443, false],
    ['localhost, 127.0.0.1  ,  .maas', 'node.maas', 443, true],
    ['a.test b.test', 'b.test', 1, true],
  ])('59: NO_PROXY "%s" and %s:%d -> %s', (list, host, port, bypassed) => {
    expect(bypasses(host, port, list)).toBe(bypassed);
    expect(bypasses(host, port, list.split(','))).toBe(
      list.includes(' ') && !list.includes(',') ? false : bypassed,
    );
  });
});
