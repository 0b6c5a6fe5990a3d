import { describe, expect, it } from 'vitest';
import { serverCertificateExpiry } from '../../src/kube/server-certificate.ts';
import { ownPort } from '../support/own-port.ts';
import { patientClock } from '../support/patient-clock.ts';
import { sendJson, startConnectProxy, startTlsServer, testPki } from '../support/tls-server.ts';

const signal = new AbortController().signal;
const options = { clock: patientClock };

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
    const still = { clock: { ...patientClock, now: () => nowMs } };
    expect(await serverCertificateExpiry(server.target, still, signal)).toBe(nowMs);
  });

  it('is unknown when nobody answers', async () => {
    const { ca } = await testPki();
    const target = { server: `https://127.0.0.1:${await ownPort()}`, caPem: ca.certPem };
    await expect(serverCertificateExpiry(target, options, signal)).rejects.toMatchObject({
      code: 'KUBE_UNREACHABLE',
    });
  });
});
