/** Ends TLS under a private CA in front of something that speaks plain TCP, as sites do in front of MAAS. */
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { createClusterPki, issueServerCertificate } from '../../src/kube/pki.ts';

export interface TlsFront extends AsyncDisposable {
  readonly origin: string;
  readonly caPem: string;
  /** Connections whose client trusted the certificate. */
  readonly taken: () => number;
}

/** Passes every byte on to `upstream`, an origin of plain HTTP. */
export async function startTlsFront(upstream: string): Promise<TlsFront> {
  const nowMs = Date.now();
  const pki = await createClusterPki({ nowMs, keyAlgorithm: 'ecdsa-p256' });
  const { certPem, keyPem } = await issueServerCertificate(pki.ca, {
    commonName: 'maas',
    dnsNames: ['localhost'],
    ipAddresses: ['127.0.0.1'],
    nowMs,
    validityMs: 3_600_000,
  });
  const { hostname, port } = new URL(upstream);
  const open = new Set<TLSSocket>();
  let taken = 0;
  const server = createServer({ cert: certPem, key: keyPem }, (client) => {
    taken += 1;
    open.add(client);
    client.once('close', () => open.delete(client));
    const behind = connect({ host: hostname, port: Number(port) });
    client.pipe(behind).pipe(client);
    for (const [one, other] of [
      [client, behind],
      [behind, client],
    ] as const)
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    caPem: pki.ca.certPem,
    taken: () => taken,
    async [Symbol.asyncDispose]() {
      for (const client of open) client.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
