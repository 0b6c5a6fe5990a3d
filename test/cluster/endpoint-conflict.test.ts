/** Addresses that MAAS calls free and that somebody uses all the same; certificates that end. */
import { describe, expect, it } from 'vitest';
import { isAddressTaken } from '../../src/kube/probe.ts';
import { startMachineProxy } from '../../src/simulator/machine-proxy.ts';
import { createSiteNetwork } from '../../src/simulator/network.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { clusterSpec } from '../support/node-input.ts';
import { patientClock } from '../support/patient-clock.ts';

const never = new AbortController().signal;

const DAY = 24 * 3600 * 1000;

describe('an endpoint address at which a host answers', () => {
  it('is passed over for the next one', async () => {
    const site = new FakeSite(8);
    for (let last = 200; last < 250; last += 1) if (last % 2 === 0) site.answering.add(`10.20.0.${last}`);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const status = await harness.until('endpoint', ({ endpoint }) => endpoint !== undefined);
    expect(Number(status.endpoint?.split(':')[0]?.split('.')[3]) % 2).toBe(1);
    expect([...site.reserved.keys()]).toEqual([status.endpoint?.split(':')[0]]);
  });

  it('is refused by name when the user chose it, and nothing is reserved', async () => {
    const site = new FakeSite(8);
    site.answering.add('10.20.0.210');
    await using harness = new EngineHarness(site);
    const network = { endpoint: { kind: 'kube-vip' as const, address: '10.20.0.210' } };
    await harness.want(document({ spec: clusterSpec({ network }) }));
    const failed = await harness.phase('Failed');
    expect(failed.error).toMatchObject({ code: 'VIP_UNAVAILABLE', details: { answering: ['10.20.0.210'] } });
    expect(site.reserved.size).toBe(0);
  });

  it('is found by a connection through the machine proxy, whatever is behind the port', async () => {
    const network = createSiteNetwork();
    await using proxy = await startMachineProxy(network, { host: '127.0.0.1', port: 0 });
    network.setAddressUp('10.20.0.210', true);
    using _listener = network.listen('10.20.0.210', 6443, (socket) => {
      socket.on('error', () => {});
      socket.end('SSH-2.0-OpenSSH_9.6\r\n');
    });
    // Both ends are in this process: a moment in which it stands still is no silence of the host.
    const ask = (host: string) =>
      isAddressTaken(host, 6443, { clock: patientClock, proxyUrl: proxy.url }, never);
    expect(await ask('10.20.0.210')).toBe(true);
    expect(await ask('10.20.0.211')).toBe(false);
  });
});

describe('certificates', () => {
  const certificates = (status: { conditions: readonly { type: string }[] } | undefined) =>
    status?.conditions.find(({ type }) => type === 'CertificatesValid');

  it('are shown with the end of the first one, warned of a month ahead, and renewed on request', async () => {
    const site = new FakeSite(8);
    site.certificateEnd = Date.now() + 20 * DAY;
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const status = await harness.until(
      'seen',
      ({ certificatesExpireAt }) => certificatesExpireAt !== undefined,
    );
    expect(Date.parse(status.certificatesExpireAt ?? '')).toBe(site.certificateEnd);
    expect(certificates(status)).toMatchObject({ status: 'True', reason: 'Expiring' });
    site.certificateEnd = Date.now() + 365 * DAY;
    await harness.want(document({ actions: [{ id: 'ac-rotate', kind: 'rotate-certificates' }] }));
    const renewed = await harness.until(
      'renewed',
      (now) =>
        now.phase === 'Running' &&
        certificates(now)?.type !== undefined &&
        now.certificatesExpireAt === new Date(site.certificateEnd).toISOString(),
    );
    expect(certificates(renewed)).toMatchObject({ status: 'True', reason: 'Succeeded' });
    expect(site.violations).toEqual([]);
  });
});
