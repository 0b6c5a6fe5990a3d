import { once } from 'node:events';
import { request } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { createTcpTarget, isForbidden, parseTarget } from '../../src/tunnel/tcp-target.ts';
import { upstreamAgent } from '../../src/tunnel/upstream-agent.ts';
import { hurriedClock } from '../support/hurried-clock.ts';
import { readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { probesInMs } from '../support/tcp-timer.ts';
import { closedPort, listen, tcpServer } from '../support/wire.ts';

const clock = unhurriedClock;
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
      '168.63.129.16',
      'fec0::1',
      'fd20:ce::254',
      'fd00:42::42',
      '64:ff9b:1::7f00:1',
      '64:ff9b:1:fffe:1::a9fe:a9fe',
      '::ffff:0:127.0.0.1',
      '::ffff:0:a9fe:a9fe',
      '2001:0:4136:e378:8000:63bf:80ff:fffe',
      'FE80::1',
      '0:0:0:0:0:0:0:1',
      '0:0:0:0:0:ffff:7f00:1',
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

  it('26: through the tunnel: no such name, a name that nobody answers for, nobody home, an address of IPv6 alone', async () => {
    await using six = await listen(
      createServer((socket) => void socket.end('six')),
      '::1',
    );
    const closed = await closedPort();
    const dials = (on: Clock) =>
      createTcpTarget({
        allow: ['*.site:*'],
        allowAddressesForTests: ['127.0.0.1', '::1'],
        clock: on,
        resolve: async (host) => {
          if (host === 'gone.site') throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
          if (host === 'hole.site') return await new Promise<never>(() => {});
          const address = { 'six.site': '::1', 'meta.site': '169.254.169.254' }[host] ?? '127.0.0.1';
          return [{ address }];
        },
      });
    // the deadline of 10 s comes in half a second for the one that has to wait for it
    const [dial, impatient] = [dials(clock), dials(hurriedClock(20))];
    await using portal = await startPortal();
    await using gateway = startGateway(portal, {
      targets: ({ target }, stop) => (target.includes('hole') ? impatient : dial)(target, stop),
    });
    await gateway.connected();
    const tunnel = portal.server.roster.tunnel('gw-1');
    const outcomes = await Promise.all(
      [`gone.site:80`, `hole.site:80`, `here.site:${closed}`, `meta.site:80`, `six.site:${six.port}`].map(
        (name) =>
          tunnel.open({ target: `tcp:${name}` }).then(
            async (stream) => (await readAll(stream)).toString(),
            ({ code }: { code: string }) => code,
          ),
      ),
    );
    expect(outcomes).toEqual([
      'ERR_TUNNEL_DNS_FAILED',
      'ERR_TUNNEL_CONN_TIMEOUT',
      'ERR_TUNNEL_CONN_REFUSED',
      'ERR_TUNNEL_DENIED',
      'six',
    ]);
    await until(() => portal.server.roster.get('gw-1')?.streams === 0);
    expect(portal.server.roster.get('gw-1')).toMatchObject({ attached: true, epoch: 1 });
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
  it('1: a target that vanishes is noticed: the system probes after half a minute of silence, for HTTP targets as well', async () => {
    const asked: Socket[] = [];
    await using quiet = await tcpServer((socket) => void socket.once('data', () => asked.push(socket)));
    const open = createTcpTarget({ allow: ['127.0.0.1:*'], allowAddressesForTests: ['127.0.0.1'], clock });
    const socket = await open(`tcp:127.0.0.1:${quiet.port}`, signal);
    const url = new URL(`http://127.0.0.1:${quiet.port}`);
    const agent = upstreamAgent({ url, clock });
    const asking = request({ agent, path: '/', headers: ['Host', 'x'] as never }).on('error', () => {});
    asking.end();
    await until(() => asked.length === 1);
    const accepted = asked[0] as Socket;
    await until(() =>
      [socket.localPort, accepted.remotePort].every((port) => probesInMs(port as number) !== undefined),
    );
    for (const port of [socket.localPort, accepted.remotePort]) {
      const due = probesInMs(port as number) as number;
      expect(due).toBeGreaterThan(1_000);
      expect(due).toBeLessThanOrEqual(30_000);
    }
    asking.destroy();
    agent.destroy();
    socket.destroy();
  });

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
    await until(() => portal.server.roster.get('gw-1')?.streams === 0);
  });
});
