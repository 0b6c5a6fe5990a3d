import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createTcpTarget, isForbidden, parseTarget } from '../../src/tunnel/tcp-target.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { closedPort, tcpServer } from '../support/wire.ts';

const clock = systemClock;
const DENIED = { code: 'ERR_TUNNEL_DENIED' };
const signal = new AbortController().signal;

describe('what is a target (66)', () => {
  it.each([
    ['tcp:web.site:80', 'web.site', 80],
    ['tcp:WEB.site.:443', 'web.site', 443],
    ['tcp:10.0.0.7:22', '10.0.0.7', 22],
    ['tcp:[fd00::7]:65535', 'fd00::7', 65_535],
  ])('%s', (target, host, port) => {
    expect(parseTarget(target)).toEqual({ host, port });
  });

  it.each([
    'tcp:',
    'tcp:host',
    'tcp:host:',
    'tcp:host:0',
    'tcp:host:65536',
    'tcp:host:-1',
    'tcp:host:80x',
    'tcp::80',
    'tcp:2130706433:80',
    'tcp:0x7f000001:80',
    'tcp:0x7f.1:80',
    'tcp:127.1:80',
    'tcp:0177.0.0.1:80',
    'tcp:1.2.3.4.:80x',
    'tcp:/var/run/docker.sock:80',
    'tcp:..:80',
    'tcp:host:80\r\nX: y',
    'tcp:ho\0st:80',
    'tcp:[::1%25eth0]:80',
    'tcp:[10.0.0.1]:80',
    'tcp:fd00::7:80',
    'udp:host:80',
    `tcp:${'a'.repeat(260)}:80`,
    'tcp:user@host:80',
    'tcp:hоst:80', // a Cyrillic о
  ])('%j is none', (target) => {
    expect(() => parseTarget(target)).toThrow(expect.objectContaining(DENIED));
  });

  it('calls every address of the machine itself, its neighbours and metadata services forbidden', () => {
    for (const address of [
      '127.0.0.1',
      '127.255.0.3',
      '0.0.0.0',
      '0.1.2.3',
      '169.254.169.254',
      '169.254.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '100.100.100.200',
      '::1',
      '::',
      'fe80::1',
      'ff02::1',
      'fd00:ec2::254',
      '::ffff:127.0.0.1',
      '::ffff:a9fe:a9fe',
      '::127.0.0.1',
      '64:ff9b::7f00:1',
      '2002:7f00:1::',
      'nonsense',
      '',
    ]) {
      expect([address, isForbidden(address)]).toEqual([address, true]);
    }
    for (const address of [
      '10.0.0.1',
      '192.168.1.1',
      '8.8.8.8',
      'fd00::1',
      '2001:db8::1',
      '::ffff:10.0.0.1',
    ]) {
      expect([address, isForbidden(address)]).toEqual([address, false]);
    }
  });
});

describe('the allow-list (67)', () => {
  const resolver = (addresses: Record<string, string[]>) => {
    const asked: string[] = [];
    const resolve = async (host: string) => {
      asked.push(host);
      const found = addresses[host];
      if (!found) throw Object.assign(new Error('not found'), { code: 'ENOTFOUND' });
      return found.map((address) => ({ address }));
    };
    return { asked, resolve };
  };

  it('denies everything that it does not name, before anything is resolved', async () => {
    const { asked, resolve } = resolver({});
    const open = createTcpTarget({ allow: ['web.site:80', '*.lab.site:1000-2000'], clock, resolve });
    for (const target of [
      'tcp:other.site:80',
      'tcp:web.site:81',
      'tcp:lab.site:1500',
      'tcp:a.lab.site:2001',
      'tcp:evilweb.site:80',
    ]) {
      await expect(open(target, signal)).rejects.toMatchObject(DENIED);
    }
    expect(asked).toEqual([]);
  });

  it('66: a name that resolves to a forbidden address is denied, whatever the list says', async () => {
    const { resolve } = resolver({
      'meta.site': ['169.254.169.254'],
      'loop.site': ['127.0.0.1', '::1'],
      'map.site': ['::ffff:127.0.0.1'],
    });
    const open = createTcpTarget({
      allow: ['*.site:80', '169.254.169.254:80', '0.0.0.0/0:80', '[::/0]:80'],
      clock,
      resolve,
    });
    for (const target of [
      'tcp:meta.site:80',
      'tcp:loop.site:80',
      'tcp:map.site:80',
      'tcp:169.254.169.254:80',
      'tcp:127.0.0.1:80',
      'tcp:[::1]:80',
    ]) {
      await expect(open(target, signal)).rejects.toMatchObject(DENIED);
    }
  });

  it('66: dials the address that it checked, though the name changes between check and connect', async () => {
    await using server = await tcpServer((socket) => void socket.end('right'));
    let lookups = 0;
    const open = createTcpTarget({
      allow: [`flip.site:${server.port}`],
      allowAddressesForTests: ['127.0.0.1'],
      clock,
      resolve: async () => [{ address: lookups++ === 0 ? '127.0.0.1' : '169.254.169.254' }],
    });
    const socket = await open(`tcp:flip.site:${server.port}`, signal);
    expect((await readAll(socket)).toString()).toBe('right');
    expect(lookups).toBe(1);
    // 67: checked at each open, not once
    await expect(open(`tcp:flip.site:${server.port}`, signal)).rejects.toMatchObject(DENIED);
  });

  it('a CIDR admits a name only by its address; the first address that answers is taken', async () => {
    await using server = await tcpServer((socket) => void socket.end('second'));
    const { resolve } = resolver({ 'two.site': ['127.0.0.2', '127.0.0.1'], 'out.site': ['10.9.9.9'] });
    const open = createTcpTarget({
      allow: [`127.0.0.0/8:${server.port}`],
      allowAddressesForTests: ['127.0.0.1', '127.0.0.2'],
      clock,
      resolve,
    });
    expect((await readAll(await open(`tcp:two.site:${server.port}`, signal))).toString()).toBe('second');
    await expect(open(`tcp:out.site:${server.port}`, signal)).rejects.toMatchObject(DENIED);
  });

  it('26: refused, unknown and slow targets have their own codes', async () => {
    const port = await closedPort();
    const open = createTcpTarget({
      allow: [`*.site:${port}`, `10.0.0.0/8:${port}`],
      allowAddressesForTests: ['127.0.0.1'],
      clock,
      resolve: async (host) => {
        if (host === 'gone.site') throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
        return [{ address: '127.0.0.1' }];
      },
    });
    await expect(open(`tcp:gone.site:${port}`, signal)).rejects.toMatchObject({
      code: 'ERR_TUNNEL_DNS_FAILED',
    });
    await expect(open(`tcp:here.site:${port}`, signal)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    const stop = new AbortController();
    const opening = open(`tcp:10.255.255.1:${port}`, stop.signal);
    stop.abort(new Error('cancelled'));
    await expect(opening).rejects.toThrow('cancelled');
  });

  it.each([
    'host',
    'host:0',
    'host:70000',
    'host:9-1',
    '*:80',
    '10.0.0.0/33:80',
    '*',
    ':80',
    'ho st:80',
    'a*b.site:80',
  ])('stops the start at the wrong rule %j', (rule) => {
    expect(() => createTcpTarget({ allow: [rule], clock })).toThrow(TypeError);
  });
});

describe('through the tunnel', () => {
  it('24, 25, 26: bytes, half-close, reset and refusal reach the other end as what they are', async () => {
    await using echo = await tcpServer((socket) => void socket.pipe(socket));
    await using resetting = await tcpServer(
      (socket) => void socket.once('data', () => socket.resetAndDestroy()),
    );
    const closed = await closedPort();
    const target = createTcpTarget({
      allow: ['127.0.0.1:*'],
      allowAddressesForTests: ['127.0.0.1'],
      clock,
    });
    await using portal = await startPortal();
    await using gateway = startGateway(portal, { targets: (open, stop) => target(open.target, stop) });
    await gateway.connected();
    const tunnel = portal.server.roster.tunnel('gw-1');
    const stream = await tunnel.open({ target: `tcp:127.0.0.1:${echo.port}` });
    stream.end('half-closed');
    expect((await readAll(stream)).toString()).toBe('half-closed');
    await until(() => echo.sockets.size === 0);
    const reset = await tunnel.open({ target: `tcp:127.0.0.1:${resetting.port}` });
    reset.write('x');
    const [error] = await once(reset, 'error');
    expect(error).toMatchObject({ code: 'ERR_TUNNEL_PEER_RESET' });
    await expect(tunnel.open({ target: `tcp:127.0.0.1:${closed}` })).rejects.toMatchObject({
      code: 'ERR_TUNNEL_CONN_REFUSED',
    });
    await expect(tunnel.open({ target: 'tcp:169.254.169.254:80' })).rejects.toMatchObject(DENIED);
    expect(portal.server.roster.get('gw-1')?.streams).toBe(0);
  });
});
