import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { serverCertificateExpiry } from '../../src/kube/server-certificate.ts';
import { sendJson, startConnectProxy, startTlsServer } from '../support/tls-server.ts';

const signal = new AbortController().signal;
const options = { clock: systemClock };

describe("the end of a server's certificate", () => {
  it('is read from its handshake, straight or through the machine network proxy', async () => {
    await using server = await startTlsServer((_request, response) => sendJson(response, 401, {}));
    const inAnHour = Date.now() + 3_600_000;
    const direct = await serverCertificateExpiry(server.target, options, signal);
    expect(Math.abs(direct - inAnHour)).toBeLessThan(60_000);
    await using proxy = await startConnectProxy(() => server.port);
    const target = { ...server.target, server: 'https://localhost:6443', proxyUrl: proxy.url };
    expect(await serverCertificateExpiry(target, options, signal)).toBe(direct);
  });

  it('is the present when it is over already', async () => {
    const issuedAtMs = Date.now() - 7_200_000;
    await using server = await startTlsServer((_request, response) => sendJson(response, 200, {}), {
      issuedAtMs,
    });
    const nowMs = Date.now();
    const still = { clock: { ...systemClock, now: () => nowMs } };
    expect(await serverCertificateExpiry(server.target, still, signal)).toBe(nowMs);
  });

  it('is unknown when nobody answers', async () => {
    const { target } = await startTlsServer(() => {}).then(async (server) => {
      await server[Symbol.asyncDispose]();
      return server;
    });
    await expect(serverCertificateExpiry(target, options, signal)).rejects.toMatchObject({
      code: 'KUBE_UNREACHABLE',
    });
  });
});
