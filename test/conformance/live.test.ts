/** The suite for a MAAS of flesh and blood, tried on simulators whose sites are not the recorded one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { parseFault } from '../../src/simulator/maas/faults.ts';
import { defaultScenario } from '../../src/simulator/scenario.ts';
import { type Simulator, startSimulator } from '../../src/simulator/simulator.ts';
import { MARK, noneLeft } from '../support/processes.ts';
import { ownPort } from '../support/own-port.ts';
import { steadyClock } from '../support/steady-clock.ts';
import { startTlsFront } from '../support/tls-front.ts';
import { driveLifecycle } from './live-lifecycle.ts';
import { driveReadOnly } from './live-read-only.ts';
import { LiveSite } from './live-site.ts';

const LATE_MS = 2_000;
/** MAAS and whoever is impatient with it are one process here: that it stands still is not the fault of either. */
const QUICK = { clock: steadyClock, patienceMs: 30_000, pollMs: 50, lateMs: LATE_MS };
/** The life that is repeated is in the middle of a deployment for some requests: that must not end by itself meanwhile. */
const NOT_AT_ONCE = ['deploy-stuck'];

/** Every process that is started here has it, and none may stay behind. */
const mark = randomUUID();
vi.stubEnv(MARK, mark);
afterAll(async () => expect(await noneLeft(mark)).toEqual([]));

const keysOf = (simulator: Simulator) => ({ url: simulator.maasUrl, apiKey: simulator.adminKey });
/** The suite as somebody runs it, in processes of its own. */
function liveRun(
  part: string,
  { url, apiKey, ...env }: { url: string; apiKey: string; [variable: string]: string },
): ChildProcess {
  return spawn(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.live.config.ts', part],
    {
      detached: true,
      stdio: 'ignore',
      env: { ...process.env, PCG_MAAS_URL: url, PCG_MAAS_API_KEY: apiKey, ...env },
    },
  );
}

const statusesOf = ({ region }: Simulator) => [...region.machines.values()].map(({ status }) => status);

/** Another process has to start, and MAAS takes its time. */
const soon = (check: () => void) => vi.waitFor(check, { timeout: 90_000, interval: 100 });

describe('the live suite', () => {
  it.each(['3.3', '3.4', '3.5.13', '3.6', '3.7'])(
    'finds nothing to object to in a simulated MAAS %s, and leaves nothing behind',
    async (version) => {
      await using simulator = await startSimulator({
        scenario: defaultScenario(),
        speed: 600,
        version,
        faults: NOT_AT_ONCE,
      });
      const before = statusesOf(simulator);
      const options = { ...keysOf(simulator), userKey: simulator.userKey };
      const site = await LiveSite.look(options);
      const read = await driveReadOnly(site);
      expect(simulator.ledger.entries()).toEqual([]);
      // MAAS keeps every nonce that it has seen: asking it all again must not repeat one.
      const again = await driveReadOnly(await LiveSite.look(options));
      const life = await driveLifecycle(site, QUICK);
      const differing = [...read.findings, ...again.findings, ...life].filter(
        (finding) => finding.differences.length > 0,
      );
      expect(differing).toEqual([]);
      expect([...read.leftOut]).toEqual([]);
      expect(read.findings.length).toBeGreaterThan(200);
      expect(life.length).toBeGreaterThan(30);
      expect(simulator.ledger.leaked()).toEqual([]);
      expect(statusesOf(simulator)).toEqual(before);
    },
  );

  it('says what is wrong with a MAAS that answers otherwise, or not at all', async () => {
    await using simulator = await startSimulator({
      faults: ['http-500@machine get_curtin_config', 'refused@get /maas/api/2.0/spaces/'],
    });
    const site = await LiveSite.look(keysOf(simulator));
    const { findings } = await driveReadOnly(site);
    const differing = findings.filter((finding) => finding.differences.length > 0);
    expect(differing.map(({ name, differences }) => [name, differences[0]?.aspect])).toEqual([
      ['spaces list', 'exchange'],
      ['get_curtin_config Ready', 'status'],
    ]);
  });

  it('leaves out what a site without a free machine cannot show, and says so', async () => {
    await using simulator = await startSimulator({ scenario: defaultScenario() });
    for (const machine of simulator.region.machines.values()) machine.status = 'broken';
    const site = await LiveSite.look(keysOf(simulator));
    const { findings, leftOut } = await driveReadOnly(site);
    expect(findings.filter(({ differences }) => differences.length > 0)).toEqual([]);
    expect(findings.length).toBeGreaterThan(150);
    expect([...leftOut.keys()]).toContain('ay7beq');
    await expect(driveLifecycle(site, QUICK)).rejects.toThrow('this MAAS has no Ready machine');
  });

  it('reads a site of another architecture with one zone, and deploys nothing that has no image', async () => {
    const scenario = defaultScenario({ machines: 6 });
    const [zone] = scenario.zones;
    await using simulator = await startSimulator({
      scenario: {
        ...scenario,
        zones: zone ? [zone] : [],
        images: scenario.images.filter(({ architecture }) => !architecture.startsWith('arm64')),
        machines: scenario.machines.map((machine) => ({
          ...machine,
          zone: zone?.name ?? 'default',
          architecture: 'arm64/generic',
        })),
      },
    });
    const site = await LiveSite.look(keysOf(simulator));
    const { findings } = await driveReadOnly(site);
    expect(findings.filter(({ differences }) => differences.length > 0)).toEqual([]);
    await expect(driveLifecycle(site, QUICK)).rejects.toThrow('no Ubuntu for arm64/generic');
    expect(simulator.ledger.entries()).toEqual([]);
  });

  it.each([
    ['the address of the web interface', (url: string) => `${url}/r/machines`],
    ['the API itself', (url: string) => `${url}/api/2.0/`],
    ['the host alone', (url: string) => url.replace(/\/MAAS$/, '')],
  ])('takes %s for the address', async (_what, form) => {
    await using simulator = await startSimulator({ scenario: defaultScenario({ machines: 3 }) });
    const site = await LiveSite.look({ ...keysOf(simulator), url: form(simulator.maasUrl) });
    expect(site.door.maasUrl).toBe(simulator.maasUrl);
    expect(site.stock.ready).toHaveLength(3);
  });

  it('explains a wrong address, a wrong key and keys of the wrong users', async () => {
    await using simulator = await startSimulator();
    const { url, apiKey } = keysOf(simulator);
    const { userKey } = simulator;
    const look = (changes: object) => LiveSite.look({ url, apiKey, ...changes });
    const nowhere = `http://127.0.0.1:${await ownPort()}/MAAS`;
    await expect(look({ url: nowhere })).rejects.toThrow(/^GET http:.*version\/: .*ECONNREFUSED/);
    await expect(look({ url: simulator.machineProxyUrl })).rejects.toThrow('not the version of a MAAS');
    await expect(look({ apiKey: 'one:two' })).rejects.toThrow(
      'PCG_MAAS_API_KEY must be consumer:token:secret',
    );
    await expect(look({ apiKey: `${apiKey}x` })).rejects.toThrow(
      'MAAS does not accept PCG_MAAS_API_KEY: 401',
    );
    await expect(look({ apiKey: userKey })).rejects.toThrow('who is no administrator');
    await expect(look({ userKey: apiKey })).rejects.toThrow('give the key of a user without rights');
  });
});

describe('the lifecycle part', () => {
  it.each<[what: string, faults: string[], patienceMs?: number]>([
    ['whose BMC does not obey', ['power-failure:1']],
    ['that takes its time, as the network does', ['slow-bmc=300', 'slow=300:0.3']],
    ['while answers are lost', ['lost-reply:0.2', 'http-502:0.1']],
    ['whose allocation got no answer', ['lost-reply:1@op=allocate']],
    // It waits in vain until it gives the machine back.
    ['whose release fails at first', ['http-500:2@op=release'], 10_000],
  ])('gives a machine back %s', async (_what, faults, patienceMs = QUICK.patienceMs) => {
    await using simulator = await startSimulator({ scenario: defaultScenario(), speed: 600, seed: 5 });
    const site = await LiveSite.look(keysOf(simulator));
    const before = statusesOf(simulator);
    for (const fault of faults) simulator.faults.add(parseFault(fault));
    await driveLifecycle(site, { ...QUICK, patienceMs }).catch(() => undefined); // what it finds does not matter here
    expect(simulator.ledger.entries().length).toBeGreaterThan(0);
    expect(simulator.ledger.leaked()).toEqual([]);
    expect(statusesOf(simulator)).toEqual(before);
  });

  it('takes the machine that it is told to, and no other that the same user holds', async () => {
    await using simulator = await startSimulator({
      scenario: defaultScenario(),
      speed: 600,
      faults: NOT_AT_ONCE,
    });
    const site = await LiveSite.look(keysOf(simulator));
    const [first, second] = site.stock.ready;
    if (!first || !second) throw new Error('two machines are needed');
    const form = { system_id: first.system_id, agent_name: 'somebody' };
    expect((await site.call('POST', 'machines/?op=allocate', form)).status).toBe(200);
    await expect(driveLifecycle(site, { ...QUICK, machine: first.hostname })).rejects.toThrow(
      'allocate: 409',
    );
    await driveLifecycle(site, { ...QUICK, machine: second.hostname });
    expect(simulator.ledger.leaked().map(({ systemId }) => systemId)).toEqual([first.system_id]);
  });

  it.each(['SIGINT', 'SIGKILL'] as const)('gives its machine back when it is ended by %s', async (signal) => {
    // Its first release gets no answer: it is in the middle of its work until it is ended.
    const faults = ['hang:1@op=release'];
    await using simulator = await startSimulator({ scenario: defaultScenario(), speed: 20, faults });
    const keys = { ...keysOf(simulator), PCG_TEST_LATE_MS: String(LATE_MS) };
    const run = liveRun('test/live/maas/lifecycle.test.ts', keys);
    const ended = new Promise((resolve) => run.once('close', resolve));
    await soon(() => expect(simulator.faults.rules()).toMatchObject([{ struck: 1 }]));
    expect(simulator.ledger.entries().map(({ action }) => action)).toContain('deploy');
    process.kill(-(run.pid ?? Number.NaN), signal); // as the terminal does: to all of them
    await ended;
    await soon(() => expect(simulator.ledger.leaked()).toEqual([]));
    // The one that gave it back as well: it must not look for a simulator that is gone.
    expect(await noneLeft(mark)).toEqual([]);
  });

  it('runs whole over HTTPS with a private CA that Node was told of, and not at all without it', async () => {
    await using simulator = await startSimulator({
      scenario: defaultScenario(),
      speed: 600,
      faults: NOT_AT_ONCE,
    });
    const before = statusesOf(simulator);
    await using front = await startTlsFront(new URL(simulator.maasUrl).origin);
    const keys = { ...keysOf(simulator), url: simulator.maasUrl.replace(/^http:\/\/[^/]+/, front.origin) };
    const folder = await mkdtemp(join(tmpdir(), 'pcg-live-'));
    try {
      const ca = join(folder, 'ca.pem');
      await writeFile(ca, front.caPem);
      expect(await once(liveRun('test/live/maas', keys), 'close')).toEqual([1, null]);
      expect(front.taken()).toBe(0);
      expect(await once(liveRun('test/live/maas', { ...keys, NODE_EXTRA_CA_CERTS: ca }), 'close')).toEqual([
        0,
        null,
      ]);
    } finally {
      await rm(folder, { recursive: true });
    }
    expect(front.taken()).toBeGreaterThan(200);
    expect(simulator.ledger.leaked()).toEqual([]);
    expect(statusesOf(simulator)).toEqual(before);
  });
});
