/** What differs between the releases of MAAS: fields, waiting for BMCs, words for images, deadlines, releases. */
import { describe, expect, it } from 'vitest';
import { defaultScenario } from '../../../src/simulator/scenario.ts';
import { startSimulator, type SimulatorOptions } from '../../../src/simulator/simulator.ts';
import { maasCaller, passUntilDone, type Called } from '../../support/maas-caller.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const MINUTE = 60_000;
const VERSIONS = ['3.3', '3.4', '3.5', '3.6', '3.7'] as const;
const minorOf = (version: string): number => Number(version.slice(2));

async function startSite(options: SimulatorOptions) {
  const clock = new ManualClock();
  const simulator = await startSimulator({
    scenario: defaultScenario({ machines: 12 }),
    clock,
    ...options,
  });
  const send = maasCaller(simulator.maasUrl, simulator.adminKey, () => clock.now());
  /** Calls while time passes: MAAS waits for BMCs inside requests. */
  const call = (...args: Parameters<typeof send>): Promise<Called> =>
    passUntilDone({ clock, simulator }, send(...args));
  return {
    clock,
    simulator,
    call,
    allocate: async (): Promise<string> => (await call('POST', 'machines/?op=allocate')).json.system_id,
    read: async (id: string) => (await call('GET', `machines/${id}/`)).json,
    deploy: (id: string, series = 'noble') =>
      call('POST', `machines/${id}/?op=deploy`, { distro_series: series }),
    [Symbol.asyncDispose]: () => simulator[Symbol.asyncDispose](),
  };
}

describe.each(VERSIONS)('MAAS %s', (version) => {
  const minor = minorOf(version);

  it('deploys and has the fields of its time', async () => {
    await using site = await startSite({ version });
    expect((await site.call('GET', 'version/')).json.version).toBe(`${version}.0`);
    const id = await site.allocate();
    const before = site.clock.monotonic();
    await site.deploy(id);
    const waited = site.clock.monotonic() - before;
    expect(waited >= 3000).toBe(version === '3.5');
    await site.clock.advance(10 * MINUTE);
    const machine = await site.read(id);
    expect(machine.status_name).toBe('Deployed');
    expect('error_description' in machine).toBe(minor >= 5);
    expect('enable_kernel_crash_dump' in machine).toBe(minor >= 6);
    expect('is_dpu' in machine).toBe(minor >= 7);
  });

  it('knows series by number, filters by target and scripts of a release from the release that brought them', async () => {
    await using site = await startSite({ version });
    const id = await site.allocate();
    const targets = await site.call('GET', 'machines/?deployment_target=disk');
    expect(targets.status).toBe(minor >= 5 ? 200 : 400);
    const byNumber = await site.deploy(id, '24.04');
    expect([byNumber.status, byNumber.json.distro_series]).toEqual(
      minor >= 6 ? [200, 'noble'] : [400, [expect.stringContaining("'24.04' is not a valid distro_series")]],
    );
    const released = await site.call('POST', `machines/${id}/?op=release`, { scripts: 'nonsense' });
    expect(released.status).toBe(minor >= 5 ? 400 : 200);
  });

  it('gives a deployment up after its own time', async () => {
    await using site = await startSite({ version, faults: ['deploy-timeout:1'] });
    const id = await site.allocate();
    await site.deploy(id);
    // It got stuck about a minute and a half after it was switched on.
    const limit = minor >= 6 ? 70 : 30;
    await site.clock.advance((limit + 1) * MINUTE);
    expect((await site.read(id)).status_name).toBe('Deploying');
    await site.clock.advance(MINUTE);
    expect((await site.read(id)).status_name).toBe('Failed deployment');
  });

  it('releases a machine that never was commissioned to New from 3.5 on', async () => {
    await using site = await startSite({ version });
    const id = await site.allocate();
    const machine = site.simulator.region.machines.get(id);
    if (machine) machine.commissioned = false;
    await site.call('POST', `machines/${id}/?op=release`);
    expect((await site.read(id)).status_name).toBe(minor >= 5 ? 'New' : 'Ready');
  });
});

describe('a BMC that does not obey', () => {
  it.each([
    ['3.4.2', 'Power on for the node failed', 1],
    ['3.6.5', '', 0],
    ['3.7.1', 'Power on for the node failed', 1],
  ])('%s: the answer is 200, the failure shows later, told as "%s"', async (version, text, told) => {
    await using site = await startSite({ version, faults: ['power-failure:1'] });
    const id = await site.allocate();
    expect((await site.deploy(id)).status).toBe(200);
    await site.clock.advance(MINUTE);
    const machine = await site.read(id);
    expect([machine.status, machine.status_name]).toEqual([11, 'Failed deployment']);
    const { json } = await site.call('GET', `events/?op=query&level=ERROR&id=${id}`);
    expect(json.events).toHaveLength(told);
    const words: unknown = machine.error_description ?? json.events[0].description;
    if (text === '') expect([words, machine.status_message]).toEqual(['', 'Deploying']);
    else expect(words).toContain(text);
  });

  it('3.5: the answer itself says so', async () => {
    await using site = await startSite({ version: '3.5', faults: ['power-failure:1'] });
    expect((await site.deploy(await site.allocate())).status).toBe(500);
  });
});

it('a version that the simulator does not know is refused', async () => {
  await expect(startSimulator({ version: '2.9.2' })).rejects.toThrow('3.3 to 3.7');
});
