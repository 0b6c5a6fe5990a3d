/** The composition: what the machines' side gets, TLS, and that nothing stays behind. */
import { request } from 'node:https';
import { describe, expect, it } from 'vitest';
import { issueServerCertificate } from '../../src/kube/pki.ts';
import type { MachineRuntime } from '../../src/simulator/ports.ts';
import { defaultScenario } from '../../src/simulator/scenario.ts';
import { type RuntimeSite, startSimulator } from '../../src/simulator/simulator.ts';
import { maasCaller, passUntilDone } from '../support/maas-caller.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { testPki } from '../support/tls-server.ts';

describe('the simulator', () => {
  it('gives the machines names, faults and chance, and disposes what it made', async () => {
    let site: RuntimeSite | undefined;
    let disposed = false;
    const runtime: MachineRuntime & AsyncDisposable = {
      boot() {},
      stop() {},
      async [Symbol.asyncDispose]() {
        disposed = true;
      },
    };
    {
      await using simulator = await startSimulator({
        scenario: defaultScenario({ machines: 6 }),
        faults: ['join-hangs:1@rack-a'],
        runtime: (given) => {
          site = given;
          return runtime;
        },
      });
      const call = maasCaller(simulator.maasUrl, simulator.adminKey);
      await call('POST', 'dnsresources/', { fqdn: 'api.dc1.example.com', ip_addresses: '10.20.0.60' });
      expect(site?.resolve('API.dc1.example.com.')).toEqual(['10.20.0.60']);
      expect(site?.resolve('nowhere.example.com')).toEqual([]);
      const machines = [...simulator.region.machines.values()];
      const inRackB = machines.find((one) => simulator.region.zone(one.zoneId).name === 'rack-b');
      const inRackA = machines.find((one) => simulator.region.zone(one.zoneId).name === 'rack-a');
      if (!inRackA || !inRackB) throw new Error('the scenario has machines in both racks');
      expect(site?.resolve(simulator.region.fqdn(inRackA))).toEqual(simulator.region.machineIps(inRackA));
      expect(site?.faults.take('join-hangs', inRackB)).toBe(false);
      expect(site?.faults.take('join-hangs', inRackA)).toBe(true);
      expect(site?.faults.take('join-hangs', inRackA)).toBe(false);
    }
    expect(disposed).toBe(true);
  });

  it('is the same site for the same seed', async () => {
    const names = async (seed: number) => {
      await using simulator = await startSimulator({ scenario: defaultScenario({ seed }) });
      return [
        simulator.adminKey,
        ...[...simulator.region.machines.values()].map((one) => `${one.systemId} ${one.hostname}`),
      ];
    };
    expect(await names(4)).toEqual(await names(4));
    expect(await names(4)).not.toEqual(await names(5));
  });

  it('has the default site: 30 machines, 3 racks, 2 pools, 2 domains, 2 subnets, some not Ready', async () => {
    await using simulator = await startSimulator();
    const { region } = simulator;
    const machines = [...region.machines.values()];
    expect([
      machines.length,
      region.zones.length,
      region.pools.length,
      region.domains.length,
      region.subnets.length,
    ]).toEqual([30, 4, 2, 2, 2]);
    const ready = machines.filter((one) => one.status === 'ready').length;
    expect(ready).toBeGreaterThanOrEqual(24);
    expect(ready).toBeLessThan(30);
    expect(new Set(machines.map((one) => one.hostname)).size).toBe(30);
    expect(new Set(machines.map((one) => one.cpuCount)).size).toBeGreaterThan(3);
  });

  it('speaks TLS with its own certificate, and redirects from the plain port', async () => {
    const pki = await testPki();
    const pair = await issueServerCertificate(pki.ca, {
      commonName: 'maas',
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
      nowMs: Date.now(),
      validityMs: 3_600_000,
    });
    await using simulator = await startSimulator({ tls: { cert: pair.certPem, key: pair.keyPem } });
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const options = { ca: pki.ca.certPem, servername: 'localhost' };
      request(`${simulator.maasUrl}/api/2.0/version/`, options, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });
    expect(status).toBe(200);
    const plain = await fetch(`${simulator.plainMaasUrl}/api/2.0/zones/`, {
      method: 'POST',
      redirect: 'manual',
    });
    expect([plain.status, plain.headers.get('location')]).toEqual([
      301,
      `${simulator.maasUrl}/api/2.0/zones/`,
    ]);
  });

  it('stops at once in the middle of everything', async () => {
    const clock = new ManualClock(Date.now());
    const simulator = await startSimulator({ scenario: defaultScenario({ machines: 6 }), clock });
    const call = maasCaller(simulator.maasUrl, simulator.adminKey);
    const allocated = await passUntilDone({ clock, simulator }, call('POST', 'machines/?op=allocate'));
    const { system_id: id } = allocated.json;
    const deploying = call('POST', `machines/${id}/?op=deploy`).catch(() => 'cut');
    while ((simulator.stats().byRoute['POST machine deploy'] ?? 0) === 0) await new Promise(setImmediate);
    const before = clock.monotonic();
    await simulator[Symbol.asyncDispose]();
    expect(clock.monotonic()).toBe(before);
    expect(await deploying).toBe('cut');
  });

  it('refuses faults, versions and speeds that make no sense before it opens a port', async () => {
    await expect(startSimulator({ faults: ['lots-of-replies'] })).rejects.toThrow('unknown fault');
    await expect(startSimulator({ version: '4.0' })).rejects.toThrow('3.3 to 3.7');
    await expect(startSimulator({ speed: 0 })).rejects.toThrow('positive');
  });
});
