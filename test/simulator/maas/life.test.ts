/** The life of machines behind the API, on a clock that the test owns. */
import { describe, expect, it } from 'vitest';
import type { BootedMachine, MachineConsole } from '../../../src/simulator/ports.ts';
import { defaultScenario } from '../../../src/simulator/scenario.ts';
import { startSimulator, type SimulatorOptions } from '../../../src/simulator/simulator.ts';
import { maasCaller, passUntilDone, type Called } from '../../support/maas-caller.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const MINUTE = 60_000;

async function startSite(options: SimulatorOptions = {}) {
  const clock = new ManualClock();
  const booted: BootedMachine[] = [];
  const consoles: MachineConsole[] = [];
  const stopped: string[] = [];
  const simulator = await startSimulator({
    scenario: defaultScenario({ machines: 12 }),
    clock,
    runtime: {
      boot: (machine, machineConsole) => {
        booted.push(machine);
        consoles.push(machineConsole);
      },
      stop: (systemId) => stopped.push(systemId),
    },
    ...options,
  });
  const send = maasCaller(simulator.maasUrl, simulator.adminKey, () => clock.now());
  /** Calls while time passes: MAAS waits for BMCs inside requests. */
  const call = (...args: Parameters<typeof send>): Promise<Called> =>
    passUntilDone({ clock, simulator }, send(...args));
  const allocate = async (form: Record<string, string> = {}): Promise<string> =>
    (await call('POST', 'machines/?op=allocate', form)).json.system_id;
  const read = async (id: string) => (await call('GET', `machines/${id}/`)).json;
  const deploy = (id: string, form: Record<string, string> = {}) =>
    call('POST', `machines/${id}/?op=deploy`, { distro_series: 'noble', ...form });
  const release = (id: string, form: Record<string, string> = {}) =>
    call('POST', `machines/${id}/?op=release`, form);
  const events = async (id: string, level = 'INFO'): Promise<string[]> => {
    const { json } = await call('GET', `events/?op=query&level=${level}&limit=1000&id=${id}`);
    return json.events
      .reverse()
      .map((event: { type: string; description: string }) =>
        [event.type, event.description].filter(Boolean).join(': '),
      );
  };
  return {
    clock,
    booted,
    consoles,
    stopped,
    simulator,
    call,
    allocate,
    read,
    deploy,
    release,
    events,
    [Symbol.asyncDispose]: () => simulator[Symbol.asyncDispose](),
  };
}

describe('a deployment', () => {
  it('answers with old addresses, claims its own after that, and is Deployed when user-data is fetched', async () => {
    await using site = await startSite();
    const id = await site.allocate({ agent_name: 'gw.c1.cp-0', zone: 'rack-a' });
    const before = (await site.read(id)).ip_addresses;
    const answer = await site.deploy(id, {
      user_data: Buffer.from('#cloud-config\nfoo: 1\n').toString('base64'),
    });
    expect([answer.status, answer.json.status_name, answer.json.power_state]).toEqual([
      200,
      'Deploying',
      'off',
    ]);
    expect(answer.json.ip_addresses).toEqual(before);
    const during = await site.read(id);
    expect([during.status_name, during.power_state, during.netboot]).toEqual(['Deploying', 'on', true]);
    expect(during.ip_addresses).not.toEqual(before);
    expect(site.booted).toEqual([]);
    await site.clock.advance(10 * MINUTE);
    const after = await site.read(id);
    expect([after.status_name, after.status_message, after.netboot]).toEqual(['Deployed', 'Deployed', false]);
    expect(site.booted).toMatchObject([
      {
        systemId: id,
        zone: 'rack-a',
        ip: after.ip_addresses[0],
        image: 'ubuntu/noble',
        userData: '#cloud-config\nfoo: 1\n',
      },
    ]);
    expect(site.simulator.network.isUp(after.ip_addresses[0])).toBe(true);
  });

  it('shows the milestones in order, and the details at level DEBUG', async () => {
    await using site = await startSite();
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    expect(await site.events(id)).toEqual([
      'Deploying',
      'Performing PXE boot',
      'Loading ephemeral',
      'Configuring storage',
      'Installing OS',
      'Configuring OS',
      'Rebooting',
      'Image Deployed: deployed ubuntu/noble/amd64/generic',
      'Deployed',
    ]);
    const details = await site.events(id, 'DEBUG');
    expect(details.slice(0, 4)).toEqual([
      'User acquiring node: (admin)',
      "Node changed status: From 'Ready' to 'Allocated' (to admin)",
      'User starting deployment: (admin)',
      "Node changed status: From 'Allocated' to 'Deploying'",
    ]);
  });

  it('late-events: the worker of MAAS writes down what it was told only every minute, with newer ids and older times', async () => {
    await using site = await startSite({ faults: ['late-events:1'] });
    const id = await site.allocate();
    await site.deploy(id);
    const seen: { at: number; id: number; type: string; created: number }[] = [];
    const look = async () => {
      const after = seen.at(-1)?.id ?? 0;
      const { json } = await site.call(
        'GET',
        `events/?op=query&level=DEBUG&limit=1000&id=${id}&after=${after}`,
      );
      for (const event of json.events.reverse())
        seen.push({ ...event, at: site.clock.now(), created: Date.parse(event.created) });
    };
    for (let second = 0; second < 600; second += 5) {
      await look();
      await site.clock.advance(5_000);
    }
    const told = ['Loading ephemeral', 'Configuring storage', 'Installing OS', 'Configuring OS', 'Rebooting'];
    const late = seen.filter(({ type }) => told.includes(type));
    expect(late.map(({ type }) => type)).toEqual(told);
    const delays = late.map(({ at, created }) => at - created);
    expect(Math.max(...delays)).toBeGreaterThan(20_000);
    expect(Math.max(...delays)).toBeLessThan(80_000);
    const atOnce = seen.filter(({ type }) => type === 'Performing PXE boot' || type === 'Deployed');
    expect(atOnce.map(({ type, at, created }) => [type, at - created < 10_000])).toEqual([
      ['Performing PXE boot', true],
      ['Deployed', true],
    ]);
    expect(seen.map((event) => event.id)).toEqual(seen.map((event) => event.id).toSorted((a, b) => a - b));
    expect(new Set(seen.map((event) => event.id)).size).toBe(seen.length);
  });

  it('late-events: the failure comes before what led to it, and a release loses the rest', async () => {
    await using site = await startSite({ faults: ['late-events=600:2', 'deploy-failed:1'] });
    const failing = await site.allocate();
    await site.deploy(failing);
    await site.clock.advance(11 * MINUTE);
    const types = await site.events(failing);
    const failed = types.findIndex((text) => text.startsWith('Marking node failed'));
    expect(failed).toBeGreaterThan(-1);
    expect(types.indexOf('Installing OS')).toBeGreaterThan(failed);
    expect((await site.read(failing)).status_name).toBe('Failed deployment');
    const released = await site.allocate();
    await site.deploy(released);
    await site.clock.advance(5 * MINUTE);
    await site.release(released);
    await site.clock.advance(20 * MINUTE);
    expect(await site.events(released)).not.toContain('Loading ephemeral');
    expect((await site.read(released)).status_message).toBe('Released');
  });

  it('passes events of the booted machine on, but none of its past life', async () => {
    await using site = await startSite();
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    site.consoles[0]?.event(
      'ERROR',
      'Node post-installation failure',
      "'cloudinit' running modules for final",
    );
    expect((await site.read(id)).status_message).toMatch(/^Node post-installation failure/);
    expect((await site.read(id)).status_name).toBe('Deployed');
    await site.release(id);
    site.consoles[0]?.event('INFO', 'ghost', '');
    expect((await site.read(id)).status_message).toBe('Released');
  });

  it('serves the log of the installation', async () => {
    await using site = await startSite({ faults: ['deploy-failed:1'] });
    const id = await site.allocate();
    const path = `nodes/${id}/results/current-installation/?op=download&output=combined&filetype=txt`;
    expect((await site.call('GET', path)).text).toBe(
      'No current installation script set exists for this node.',
    );
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    expect((await site.call('GET', path)).text).toContain('Installation failed with exception');
    const results = (await site.call('GET', `nodes/${id}/results/?type=installation`)).json;
    expect(results).toMatchObject([{ status_name: 'Failed', type_name: 'Installation' }]);
  });
});

describe('a release', () => {
  it('stops the machine inside the request and gives owner, annotations and address back at the end', async () => {
    await using site = await startSite();
    const id = await site.allocate({ agent_name: 'gw' });
    await site.call('POST', `machines/${id}/?op=set_workload_annotations`, { cluster: 'c1' });
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    const [ip] = (await site.read(id)).ip_addresses;
    const answer = await site.release(id);
    expect([answer.json.status_name, answer.json.owner, answer.json.owner_data]).toEqual([
      'Releasing',
      'admin',
      { cluster: 'c1' },
    ]);
    expect((await site.call('GET', 'machines/?agent_name=gw')).json).toEqual([]);
    const after = await site.read(id);
    expect([after.status_name, after.owner, after.owner_data, after.osystem]).toEqual([
      'Ready',
      null,
      {},
      '',
    ]);
    expect(after.ip_addresses).not.toContain(ip);
    expect([site.stopped, site.simulator.network.isUp(ip)]).toEqual([[id], false]);
    expect(site.simulator.ledger.leaked()).toEqual([]);
  });

  it('with erase goes through Disk erasing, and takes its time', async () => {
    await using site = await startSite();
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    expect((await site.release(id, { erase: 'true', quick_erase: 'true' })).json.status_name).toBe(
      'Disk erasing',
    );
    expect((await site.release(id)).status).toBe(409);
    await site.clock.advance(5 * MINUTE);
    expect((await site.read(id)).status_name).toBe('Ready');
  });

  it('of a machine that is being installed ends the installation for good', async () => {
    await using site = await startSite();
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(2 * MINUTE);
    await site.release(id);
    await site.clock.advance(20 * MINUTE);
    expect((await site.read(id)).status_name).toBe('Ready');
    expect(site.booted).toEqual([]);
  });
});

describe('named faults of machines', () => {
  it('power-failure: the deploy fails, the machine stays ours', async () => {
    await using site = await startSite({ faults: ['power-failure:1'] });
    const id = await site.allocate();
    const failed = await site.deploy(id);
    expect([failed.status, failed.headers.get('x-maas-api-hash')]).toEqual([500, null]);
    expect(await site.read(id)).toMatchObject({
      status_name: 'Allocated',
      owner: 'admin',
      power_state: 'off',
    });
    expect((await site.deploy(id)).status).toBe(200);
  });

  it('rack-disconnected: 503 that asks to wait', async () => {
    await using site = await startSite({ faults: ['rack-disconnected:1'] });
    const failed = await site.deploy(await site.allocate());
    expect([failed.status, failed.headers.get('retry-after')]).toEqual([503, '10']);
  });

  it('deploy-stuck never ends by itself, abort brings the machine back', async () => {
    await using site = await startSite({ faults: ['deploy-stuck:1'] });
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(240 * MINUTE);
    expect((await site.read(id)).status_name).toBe('Deploying');
    await site.call('POST', `machines/${id}/?op=abort`);
    expect((await site.read(id)).status_name).toBe('Allocated');
    await site.release(id);
    expect((await site.read(id)).status_name).toBe('Ready');
  });

  it('deploy-timeout and deploy-failed end as Failed deployment with their reasons', async () => {
    await using site = await startSite({ faults: ['deploy-timeout:1', 'deploy-failed:1'] });
    const first = await site.allocate();
    await site.deploy(first);
    const second = await site.allocate();
    await site.deploy(second);
    await site.clock.advance(40 * MINUTE);
    expect(await site.read(first)).toMatchObject({
      status_name: 'Failed deployment',
      error_description: "Node operation 'Deploying' timed out after 30 minutes.",
    });
    expect((await site.read(second)).error_description).toMatch(/^Installation failed/);
  });

  it('cloud-init-failed: Deployed with an error in its message', async () => {
    await using site = await startSite({ faults: ['cloud-init-failed'] });
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    const machine = await site.read(id);
    expect([machine.status_name, machine.status_message]).toEqual([
      'Deployed',
      "Node post-installation failure - 'cloudinit' running modules for final",
    ]);
  });

  it('release-stuck: Releasing failed after five minutes, a second release works', async () => {
    await using site = await startSite({ faults: ['release-stuck:1'] });
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    await site.release(id);
    expect((await site.read(id)).status_name).toBe('Releasing');
    await site.clock.advance(6 * MINUTE);
    expect((await site.read(id)).status_name).toBe('Releasing failed');
    await site.release(id);
    expect((await site.read(id)).status_name).toBe('Ready');
  });

  it('erase-failed and erase-stuck leave their states', async () => {
    await using site = await startSite({ faults: ['erase-failed:1', 'erase-stuck:1'] });
    const first = await site.allocate();
    const second = await site.allocate();
    await site.release(first, { erase: 'true' });
    await site.clock.advance(MINUTE);
    await site.release(second, { erase: 'true' });
    await site.clock.advance(60 * MINUTE);
    const names = [await site.read(first), await site.read(second)].map((machine) =>
      String(machine.status_name),
    );
    expect(names.toSorted((a, b) => a.localeCompare(b))).toEqual(['Disk erasing', 'Failed disk erasing']);
  });

  it('ip-exhausted: 503 without Retry-After, Allocated again', async () => {
    await using site = await startSite({ faults: ['ip-exhausted:1'] });
    const id = await site.allocate();
    const failed = await site.deploy(id);
    expect([failed.status, failed.headers.get('retry-after'), failed.text]).toEqual([
      503,
      null,
      'No more IPs available in subnet: 10.20.0.0/24.',
    ]);
    expect((await site.read(id)).status_name).toBe('Allocated');
  });

  it('image-missing: 400 that lists what there is', async () => {
    await using site = await startSite({ faults: ['image-missing:1'] });
    const failed = await site.deploy(await site.allocate());
    expect(failed.status).toBe(400);
    expect(failed.json.distro_series[0]).toContain("'noble' is not a valid distro_series");
  });

  it('machine-dies: what it ran is gone, MAAS learns it later', async () => {
    await using site = await startSite({ faults: ['machine-dies=30:1'] });
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(15 * MINUTE);
    const machine = await site.read(id);
    expect([site.stopped, machine.status_name, machine.power_state]).toEqual([[id], 'Deployed', 'off']);
  });

  it('slow-bmc keeps the request waiting, and only that', async () => {
    await using site = await startSite({ faults: ['slow-bmc=120:1'] });
    const id = await site.allocate();
    const before = site.clock.monotonic();
    await site.deploy(id);
    expect(site.clock.monotonic() - before).toBeGreaterThan(120_000);
  });
});

describe('named faults of allocation', () => {
  it('wrong-machine: the answer does not fit what was asked', async () => {
    await using site = await startSite({ faults: ['wrong-machine:1'] });
    const first = await site.call('POST', 'machines/?op=allocate', { zone: 'rack-a' });
    const second = await site.call('POST', 'machines/?op=allocate', { zone: 'rack-a' });
    expect(first.json.zone.name).not.toBe('rack-a');
    expect(second.json.zone.name).toBe('rack-a');
  });

  it('compose-vm: nothing fits, so a virtual machine comes, and vanishes when released', async () => {
    await using site = await startSite({ faults: ['compose-vm'] });
    const composed = await site.call('POST', 'machines/?op=allocate', { mem: '999999', pool: 'kubernetes' });
    expect(composed.json).toMatchObject({
      status_name: 'Allocated',
      power_type: 'lxd',
      pool: { name: 'default' },
    });
    const id = composed.json.system_id;
    await site.release(id);
    expect((await site.call('GET', `machines/${id}/`)).status).toBe(404);
    const refused = await site.call('POST', 'machines/?op=allocate', { mem: '999999', not_pod_type: 'lxd' });
    expect(refused.status).toBe(409);
  });

  it('compose-vm: older MAAS does so even for a named machine that is taken, once for every time it is asked', async () => {
    await using site = await startSite({ faults: ['compose-vm'] });
    const taken = await site.allocate();
    const ask = (guard: Record<string, string> = {}) =>
      site.call('POST', 'machines/?op=allocate', { system_id: taken, agent_name: 'gw.c1.cp-0', ...guard });
    const refused = await ask({ not_pod_type: 'lxd' });
    expect([refused.status, refused.text]).toEqual([409, `No machine with system ID ${taken} available.`]);
    const ids = [(await ask()).json.system_id, (await ask()).json.system_id];
    expect(new Set([taken, ...ids]).size).toBe(3);
    expect(site.simulator.ledger.sharedAgentNames()).toMatchObject([{ subject: 'gw.c1.cp-0' }]);
  });

  it('compose-vm=1: a virtual machine comes although none was asked for and a machine fits', async () => {
    await using site = await startSite({ faults: ['compose-vm=1:1'] });
    const ask = () => site.call('POST', 'machines/?op=allocate', { not_pod_type: 'lxd' });
    const composed = (await ask()).json;
    expect(composed).toMatchObject({ status_name: 'Allocated', power_type: 'lxd' });
    const next = (await ask()).json;
    expect(next.status_name).toBe('Allocated');
    expect(next.power_type).not.toBe('lxd');
  });

  it('double-allocation is seen by the ledger', async () => {
    await using site = await startSite({ faults: ['double-allocation:1@second'] });
    const first = await site.allocate({ agent_name: 'first' });
    const second = await site.allocate({ agent_name: 'second' });
    expect(second).toBe(first);
    expect(site.simulator.ledger.doublyAllocated()).toMatchObject([
      { subject: first, holders: ['first', 'second'] },
    ]);
  });
});

describe('maintenance', () => {
  it('commissions a New machine until it is Ready, and can be asked for twice', async () => {
    await using site = await startSite();
    const fresh = (await site.call('GET', 'machines/?status=new')).json;
    const id = fresh[0].system_id;
    expect((await site.call('POST', `machines/${id}/?op=commission`)).json.status_name).toBe('Commissioning');
    expect((await site.call('POST', `machines/${id}/?op=commission`)).status).toBe(400);
    await site.clock.advance(10 * MINUTE);
    expect(await site.read(id)).toMatchObject({ status_name: 'Ready', owner: null, power_state: 'off' });
  });

  it('takes a deployed machine down for a test and for rescue, and back to Deployed', async () => {
    await using site = await startSite();
    const id = await site.allocate();
    await site.deploy(id);
    await site.clock.advance(10 * MINUTE);
    await site.call('POST', `machines/${id}/?op=test`, { testing_scripts: 'smartctl-validate' });
    expect(site.stopped).toEqual([id]);
    await site.clock.advance(10 * MINUTE);
    expect(await site.read(id)).toMatchObject({ status_name: 'Deployed', owner: 'admin' });
    await site.call('POST', `machines/${id}/?op=rescue_mode`);
    await site.clock.advance(5 * MINUTE);
    expect((await site.read(id)).status_name).toBe('Rescue mode');
    await site.call('POST', `machines/${id}/?op=exit_rescue_mode`);
    expect((await site.read(id)).status_name).toBe('Deployed');
  });

  it('lets an owner mark a machine broken, and an admin mend it', async () => {
    await using site = await startSite();
    const id = await site.allocate();
    await site.call('POST', `machines/${id}/?op=mark_broken`, { comment: 'fan' });
    expect(await site.read(id)).toMatchObject({
      status_name: 'Broken',
      error_description: 'fan',
      owner: null,
    });
    expect(site.simulator.ledger.leaked()).toEqual([]);
    expect((await site.call('POST', 'machines/?op=allocate', { system_id: id })).status).toBe(409);
    await site.call('POST', `machines/${id}/?op=mark_fixed`);
    expect((await site.read(id)).status_name).toBe('Ready');
  });
});
