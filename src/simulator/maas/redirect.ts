/** With TLS on, MAAS's plain port answers 301 to HTTPS, which turns a POST into a GET in clients that follow it. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { nginxPage, SERVER_HEADER } from './reply.ts';

export interface PlainDoor extends AsyncDisposable {
  readonly port: number;
}

export async function startRedirect(host: string, port: number, secureOrigin: string): Promise<PlainDoor> {
  const page = nginxPage(301, '301 Moved Permanently').body;
  const server = createServer((request, response) => {
    response.writeHead(301, {
      Server: SERVER_HEADER,
      'Content-Type': 'text/html',
      Location: `${secureOrigin}${request.url ?? '/'}`,
    });
    response.end(page);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
