import { once } from 'node:events';
import { connect as tcpConnect } from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { ProxyAgent, request } from 'undici';
import { createServer } from 'node:http';
import { describe, expect, it } from 'vitest';
import { startMachineProxy } from '../../src/simulator/machine-proxy.ts';
import { createSiteNetwork } from '../../src/simulator/network.ts';

const IP = '10.20.0.200';

function siteWith(accept: (socket: Duplex, from: string) => void, port = 6443) {
  const network = createSiteNetwork();
  network.setAddressUp(IP, true);
  const listener = network.listen(IP, port, accept);
  return { network, listener };
}

describe('site network', () => {
  it('tells a closed port from an absent machine', async () => {
    const { network, listener } = siteWith(() => {});
    await expect(network.connect(IP, 22)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect(network.connect('10.20.0.9', 22)).rejects.toMatchObject({ code: 'EHOSTUNREACH' });
    listener[Symbol.dispose]();
    await expect(network.connect(IP, 6443)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('refuses a second listener on one port and frees it afterwards', () => {
    const { network, listener } = siteWith(() => {});
    expect(() => network.listen(IP, 6443, () => {})).toThrow(/EADDRINUSE/);
    listener[Symbol.dispose]();
    network.listen(IP, 6443, () => {})[Symbol.dispose]();
  });

  it('half-closes: an answer still flows after the asker has ended its side', async () => {
    const { network } = siteWith((socket) => {
      let asked = '';
      socket.on('data', (chunk) => {
        asked += chunk;
      });
      socket.on('end', () => socket.end(`you said ${asked}`));
    });
    const socket = await network.connect(IP, 6443);
    socket.end('hello');
    expect(await text(socket)).toBe('you said hello');
  });

  it('stops a writer whose reader does not read', async () => {
    let far: Duplex | undefined;
    const { network } = siteWith((socket) => {
      far = socket;
    });
    const near = await network.connect(IP, 6443);
    let written = 0;
    while (near.write(Buffer.alloc(16_384))) written += 16_384;
    expect(written).toBeLessThan(1_000_000);
    let drained = false;
    near.once('drain', () => {
      drained = true;
    });
    await new Promise(setImmediate);
    expect(drained).toBe(false);
    far?.resume();
    await once(near, 'drain');
    near.end();
    await once(near, 'finish');
  });

  it('resets connections of an address that goes down and lets the next owner take it', async () => {
    const { network, listener } = siteWith((socket) => socket.write('first'));
    const socket = await network.connect(IP, 6443);
    const error = once(socket, 'error');
    network.setAddressUp(IP, false);
    expect((await error)[0]).toMatchObject({ code: 'ECONNRESET' });
    listener[Symbol.dispose]();
    network.listen(IP, 6443, (next) => next.end('second'));
    network.setAddressUp(IP, true);
    expect(await text(await network.connect(IP, 6443))).toBe('second');
  });

  it('shows a destroyed end as end of stream, never as a hang', async () => {
    const { network } = siteWith((socket) => socket.destroy());
    const socket = await network.connect(IP, 6443);
    expect((await buffer(socket)).length).toBe(0);
  });
});

describe('machine network proxy', () => {
  async function connectStatus(url: string, authority: string): Promise<string> {
    const { hostname, port } = new URL(url);
    const socket = tcpConnect(Number(port), hostname);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n`);
    const [first] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return first.toString().split('\r\n')[0] ?? '';
  }

  it('carries HTTP of a real client to a simulated address', async () => {
    const web = createServer((_request, response) => response.end('from the machine'));
    const { network } = siteWith((socket) => web.emit('connection', socket), 80);
    await using proxy = await startMachineProxy(network, { host: '127.0.0.1', port: 0 });
    const dispatcher = new ProxyAgent({ uri: proxy.url, proxyTunnel: true });
    const { statusCode, body } = await request(`http://${IP}/`, { dispatcher });
    expect([statusCode, await body.text(), proxy.tunnels()]).toEqual([200, 'from the machine', 1]);
    await dispatcher.close();
  });

  it('hangs up on a client whose target hung up at once', async () => {
    const { network } = siteWith((socket) =>
      socket.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' })),
    );
    await using proxy = await startMachineProxy(network, { host: '127.0.0.1', port: 0 });
    const socket = tcpConnect(Number(new URL(proxy.url).port), '127.0.0.1');
    socket.write(`CONNECT ${IP}:6443 HTTP/1.1\r\nhost: x\r\n\r\n`);
    socket.resume();
    await once(socket, 'close');
  });

  it('answers 502 for a closed port, 504 for an absent machine, 400 for nonsense', async () => {
    const { network } = siteWith(() => {});
    await using proxy = await startMachineProxy(network, { host: '127.0.0.1', port: 0 });
    expect(await connectStatus(proxy.url, `${IP}:1`)).toBe('HTTP/1.1 502 Bad Gateway');
    expect(await connectStatus(proxy.url, '10.9.9.9:6443')).toBe('HTTP/1.1 504 Gateway Timeout');
    expect(await connectStatus(proxy.url, 'example.com:443')).toBe('HTTP/1.1 400 Bad Request');
    expect(await connectStatus(proxy.url, `${IP}:99999`)).toBe('HTTP/1.1 400 Bad Request');
  });
});
