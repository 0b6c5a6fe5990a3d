/**
 * The door from real sockets into the simulated machine network: an HTTP proxy that knows CONNECT only.
 * `CONNECT 10.20.0.200:6443` gives that address's stream; 502 says the port is closed, 504 that the
 * address is down, as a real forward proxy in the data centre would.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { listenError } from '../base/listen-error.ts';
import type { SiteNetwork } from './ports.ts';

export interface MachineProxy extends AsyncDisposable {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** Tunnels opened since the start. */
  readonly tunnels: () => number;
}

const ANSWERS: Record<string, string> = {
  ECONNREFUSED: '502 Bad Gateway',
  EHOSTUNREACH: '504 Gateway Timeout',
};

/** Splits `10.20.0.5:6443`; undefined for anything that is not an address and a port. */
function parseAuthority(authority: string | undefined): { ip: string; port: number } | undefined {
  const match = /^(\d{1,3}(?:\.\d{1,3}){3}):(\d{1,5})$/.exec(authority ?? '');
  if (!match?.[1]) return undefined;
  const port = Number(match[2]);
  return port > 0 && port < 65_536 ? { ip: match[1], port } : undefined;
}

function splice(left: Duplex, right: Duplex): void {
  left.pipe(right);
  right.pipe(left);
  for (const [one, other] of [
    [left, right],
    [right, left],
  ] as const) {
    one.on('error', (error) => other.destroy(error));
    one.on('close', () => {
      if (!one.readableEnded || !one.writableFinished) other.destroy();
    });
  }
}

export async function startMachineProxy(
  network: SiteNetwork,
  options: { readonly host: string; readonly port: number },
): Promise<MachineProxy> {
  let tunnels = 0;
  const open = new Set<Duplex>();
  const server = createServer((_request, response) => {
    response.writeHead(405, { allow: 'CONNECT', 'content-type': 'text/plain' });
    response.end('This proxy reaches simulated machines, by CONNECT address:port only.\n');
  });
  server.on('connect', async (request, socket: Duplex, head: Buffer) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    const target = parseAuthority(request.url);
    if (!target) return void socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n');
    try {
      const far = await network.connect(target.ip, target.port);
      // Whoever hung up at once has said so already: nobody would hear of it any more.
      if (far.destroyed) return void socket.destroy();
      tunnels += 1;
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (head.length > 0) socket.unshift(head);
      splice(socket, far);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      const status = ANSWERS[code] ?? '502 Bad Gateway';
      socket.end(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\nx-reason: ${code}\r\n\r\n`);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(listenError(`${options.host}:${options.port}`, 'proxy-port', cause)),
    );
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${options.host}:${port}`,
    tunnels: () => tunnels,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
