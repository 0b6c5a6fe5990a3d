/** Faults on the way of a request, and what nginx and the region's limits do to one. */
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { defaultScenario } from '../../../src/simulator/scenario.ts';
import { startSimulator, type SimulatorOptions } from '../../../src/simulator/simulator.ts';
import { maasCaller, sideBySide } from '../../support/maas-caller.ts';
import { ManualClock } from '../../support/manual-clock.ts';

async function startSite(options: SimulatorOptions = {}) {
  const simulator = await startSimulator({
    scenario: defaultScenario({ machines: 6 }),
    speed: 10_000,
    ...options,
  });
  const call = maasCaller(simulator.maasUrl, simulator.adminKey);
  const allocated = () =>
    [...simulator.region.machines.values()].filter((one) => one.status === 'allocated').length;
  return { simulator, call, allocated, [Symbol.asyncDispose]: () => simulator[Symbol.asyncDispose]() };
}

describe('named faults of requests', () => {
  it('lost-reply: the work is done, nobody is told', async () => {
    await using site = await startSite({ faults: ['lost-reply:1@allocate'] });
    await expect(site.call('POST', 'machines/?op=allocate')).rejects.toThrow();
    expect(site.allocated()).toBe(1);
    expect((await site.call('GET', 'machines/?op=list_allocated')).json).toHaveLength(1);
  });

  it('reset-mid-body: half an answer and a reset', async () => {
    await using site = await startSite({ faults: ['reset-mid-body:1@machines'] });
    await expect(site.call('GET', 'machines/')).rejects.toThrow();
    expect((await site.call('GET', 'machines/')).json).toHaveLength(6);
  });

  it('http-504-after-success: the work is done, the proxy gave up', async () => {
    await using site = await startSite({ faults: ['http-504-after-success:1@allocate'] });
    const answer = await site.call('POST', 'machines/?op=allocate');
    expect([answer.status, answer.headers.get('content-type'), site.allocated()]).toEqual([
      504,
      'text/html',
      1,
    ]);
  });

  it.each([
    ['http-409-retry-after', 409, '5', 'text/html; charset=utf-8'],
    ['http-503', 503, '10', 'text/plain; charset=utf-8'],
    ['http-502', 502, null, 'text/html'],
    ['http-500', 500, null, 'text/plain; charset=utf-8'],
  ])('%s: nothing was done', async (fault, status, retryAfter, contentType) => {
    await using site = await startSite({ faults: [`${fault}:1`] });
    const answer = await site.call('POST', 'machines/?op=allocate');
    expect([answer.status, answer.headers.get('retry-after'), answer.headers.get('content-type')]).toEqual([
      status,
      retryAfter,
      contentType,
    ]);
    expect(site.allocated()).toBe(0);
    expect((await site.call('GET', 'zones/')).status).toBe(200);
  });

  it('hang: no answer until the client gives up, then all is well', async () => {
    await using site = await startSite({ faults: ['hang:1@zones'] });
    const controller = new AbortController();
    const waiting = site.call('GET', 'zones/', undefined, controller.signal);
    await site.call('GET', 'version/');
    controller.abort();
    await expect(waiting).rejects.toThrow();
  });

  it('refused and down: the client sees no MAAS while the rule stands', async () => {
    await using site = await startSite({ faults: ['refused:1'] });
    await expect(site.call('GET', 'zones/')).rejects.toThrow();
    const door = site.simulator.maasUrl.replace('/MAAS', '/simulator/faults');
    await fetch(door, { method: 'PUT', body: 'down' });
    expect((await site.call('GET', 'zones/')).status).toBe(502);
    await fetch(door, { method: 'DELETE' });
    expect((await site.call('GET', 'zones/')).status).toBe(200);
  });

  it('lands-late: the connection is gone at once, the work is done when nobody waits for it any more', async () => {
    const clock = new ManualClock(Date.now());
    await using site = await startSite({ faults: ['lands-late=90000:1@allocate'], clock });
    await expect(site.call('POST', 'machines/?op=allocate', { agent_name: 'late' })).rejects.toThrow();
    await clock.advance(89_000);
    expect(site.allocated()).toBe(0);
    await clock.advance(1_000);
    expect(site.allocated()).toBe(1);
    expect((await site.call('GET', 'machines/?agent_name=late')).json).toHaveLength(1);
  });

  it('slow: the answer is the right one, and late', async () => {
    await using site = await startSite({ faults: ['slow=120:1@zones'] });
    const timed = async () => {
      const began = performance.now();
      expect((await site.call('GET', 'zones/')).json.length).toBeGreaterThan(1);
      return performance.now() - began;
    };
    expect(await timed()).toBeGreaterThan(115);
    await timed();
    expect(site.simulator.faults.rules()[0]).toMatchObject({ struck: 1, left: 0 });
  });

  it('clock-skew: a good key is refused, and Date tells why', async () => {
    await using site = await startSite({ faults: ['clock-skew=3600'] });
    const asked = Date.now();
    const answer = await site.call('GET', 'users/?op=whoami');
    expect([answer.status, answer.text]).toEqual([401, expect.stringContaining('Expired timestamp')]);
    expect(Date.parse(answer.headers.get('date') ?? '') - asked).toBeGreaterThan(3_598_000); // whole seconds
    const ahead = maasCaller(site.simulator.maasUrl, site.simulator.adminKey, () => Date.now() + 3_600_000);
    expect((await ahead('GET', 'users/?op=whoami')).status).toBe(200);
  });

  it('preseed-conflict: the 400 that really is a conflict', async () => {
    await using site = await startSite({ faults: ['preseed-conflict:1'] });
    const id = (await site.call('POST', 'machines/?op=allocate')).json.system_id;
    const failed = await site.call('POST', `machines/${id}/?op=deploy`);
    expect([failed.status, failed.text]).toEqual([
      400,
      expect.stringMatching(/^Failed to render preseed: could not serialize/),
    ]);
    expect((await site.call('POST', `machines/${id}/?op=deploy`)).status).toBe(200);
  });
});

describe('requests side by side', () => {
  it('give every machine to one winner', async () => {
    await using site = await startSite({ scenario: defaultScenario({ machines: 6 }) });
    const answers = await Promise.all(
      Array.from({ length: 15 }, () => site.call('POST', 'machines/?op=allocate')),
    );
    const won = answers.filter((answer) => answer.status === 200).map((answer) => answer.json.system_id);
    expect([won.length, new Set(won).size]).toEqual([6, 6]);
    expect(answers.filter((answer) => answer.status === 409)).toHaveLength(9);
    expect(site.simulator.ledger.doublyAllocated()).toEqual([]);
  });

  it('deploy one machine once, release it as often as asked', async () => {
    await using site = await startSite();
    const id = (await site.call('POST', 'machines/?op=allocate')).json.system_id;
    const four = (op: string) =>
      Promise.all(Array.from({ length: 4 }, () => site.call('POST', `machines/${id}/?op=${op}`)));
    expect((await four('deploy')).map((answer) => answer.status).toSorted((a, b) => a - b)).toEqual([
      200, 409, 409, 409,
    ]);
    expect((await four('release')).map((answer) => answer.status)).toEqual([200, 200, 200, 200]);
  });

  it('keep all annotations, but make four DNS names of one', async () => {
    const clock = new ManualClock(Date.now());
    await using site = await startSite({ clock });
    const id = (await site.call('POST', 'machines/?op=allocate')).json.system_id;
    await Promise.all(
      Array.from({ length: 8 }, (_, at) =>
        site.call('POST', `machines/${id}/?op=set_owner_data`, { [`k${at}`]: String(at) }),
      ),
    );
    expect(Object.keys((await site.call('GET', `machines/${id}/`)).json.owner_data)).toHaveLength(8);
    const name = { fqdn: 'api.dc1.example.com', ip_addresses: '10.20.0.60' };
    const created = await sideBySide(
      { clock, simulator: site.simulator },
      Array.from({ length: 4 }, () => site.call('POST', 'dnsresources/', name)),
    );
    expect(created.map((answer) => answer.status)).toEqual([200, 200, 200, 200]);
    expect((await site.call('POST', 'dnsresources/', name)).status).toBe(400);
    expect((await site.call('GET', 'dnsresources/?fqdn=api.dc1.example.com')).json).toHaveLength(4);
  });

  it('get different addresses of a subnet, and one address once', async () => {
    await using site = await startSite();
    const reserve = (form: Record<string, string>, times: number) =>
      Promise.all(Array.from({ length: times }, () => site.call('POST', 'ipaddresses/?op=reserve', form)));
    const some = (await reserve({ subnet: '1' }, 8)).map((answer) => answer.json.ip);
    expect(new Set(some).size).toBe(8);
    const same = await reserve({ ip: '10.20.0.77' }, 4);
    expect(same.map((answer) => answer.status).toSorted((a, b) => a - b)).toEqual([200, 404, 404, 404]);
    expect(site.simulator.ledger.leakedAddresses()).toHaveLength(9);
  });

  it('wait for a slot when the region is busy', async () => {
    const clock = new ManualClock(Date.now());
    await using site = await startSite({ slots: 2, latency: { requestMs: 20 }, clock });
    const began = clock.monotonic();
    const answers = Array.from({ length: 8 }, () => site.call('GET', 'zones/'));
    await sideBySide({ clock, simulator: site.simulator }, answers);
    expect(clock.monotonic() - began).toBe(80);
    expect(site.simulator.stats().peakInFlight).toBe(2);
  });

  it('find 16 slots unless told otherwise, as four workers of MAAS have', async () => {
    const clock = new ManualClock(Date.now());
    await using site = await startSite({ latency: { requestMs: 60 }, clock });
    const answers = Array.from({ length: 26 }, () => site.call('GET', 'zones/'));
    await sideBySide({ clock, simulator: site.simulator }, answers);
    expect(site.simulator.stats()).toMatchObject({ requests: 26, peakInFlight: 16 });
  });
});

describe('the choice of a machine', () => {
  it('takes the smallest first by cores plus GiB', async () => {
    await using site = await startSite();
    const cost = (machine: { cpu_count: number; memory: number }) =>
      machine.cpu_count + machine.memory / 1024;
    const taken: number[] = [];
    for (let index = 0; index < 6; index += 1)
      taken.push(cost((await site.call('POST', 'machines/?op=allocate')).json));
    expect(new Set(taken).size).toBeGreaterThan(1);
    expect(taken).toEqual(taken.toSorted((a, b) => a - b));
  });

  it('skips locked machines, also when one is named', async () => {
    await using site = await startSite();
    const machines = [...site.simulator.region.machines.values()];
    for (const machine of machines.slice(1)) machine.locked = true;
    const [only, locked] = machines;
    expect(
      (await site.call('POST', 'machines/?op=allocate', { system_id: locked?.systemId ?? '' })).status,
    ).toBe(409);
    expect((await site.call('POST', 'machines/?op=allocate')).json.system_id).toBe(only?.systemId);
    expect((await site.call('POST', 'machines/?op=allocate')).status).toBe(409);
  });

  it('keeps the machines of others out of sight of a user without rights', async () => {
    await using site = await startSite();
    const user = maasCaller(site.simulator.maasUrl, site.simulator.userKey);
    const { system_id: id } = (await site.call('POST', 'machines/?op=allocate')).json;
    expect((await user('GET', 'machines/')).json).toHaveLength(5);
    expect((await user('GET', `machines/${id}/`)).status).toBe(403);
    expect((await user('POST', `machines/${id}/?op=release`)).status).toBe(403);
    expect((await user('POST', 'machines/?op=allocate', { system_id: id })).status).toBe(409);
    const own = (await user('POST', 'machines/?op=allocate')).json.system_id;
    expect((await site.call('GET', 'machines/')).json).toHaveLength(6);
    expect((await user('POST', `machines/${own}/?op=release`)).status).toBe(200);
  });
});

describe('clients that leave', () => {
  it('do not stop the work', async () => {
    const clock = new ManualClock(Date.now());
    await using site = await startSite({ latency: { allocateMs: 40 }, clock });
    const controller = new AbortController();
    const leaving = site.call('POST', 'machines/?op=allocate', { agent_name: 'left' }, controller.signal);
    while (site.simulator.stats().inFlight === 0) await clock.settle();
    controller.abort();
    await expect(leaving).rejects.toThrow();
    expect(site.allocated()).toBe(0);
    await clock.advance(40);
    expect((await site.call('GET', 'machines/?agent_name=left')).json).toHaveLength(1);
  });

  it('are cut off when they say nothing for as long as nginx allows', async () => {
    await using site = await startSite({ keepAliveMs: 50 });
    const url = new URL(site.simulator.maasUrl);
    const socket = connect(Number(url.port), url.hostname);
    socket.write(`GET /MAAS/api/2.0/version/ HTTP/1.1\r\nHost: ${url.host}\r\n\r\n`);
    let answer = '';
    socket.on('data', (chunk) => {
      answer += String(chunk);
    });
    await new Promise((resolve) => socket.once('end', resolve));
    expect(answer).toContain('Connection: keep-alive');
    expect(answer).not.toMatch(/^Keep-Alive:/im);
    socket.destroy();
  });
});

describe('a large site', () => {
  it('lists a thousand machines of 30 KB each, as it shows them one by one', async () => {
    await using site = await startSite({ scenario: defaultScenario({ machines: 1000, bigMachines: true }) });
    const first = await site.call('GET', 'machines/');
    expect(first.json).toHaveLength(1000);
    const perMachine = first.text.length / 1000;
    expect(perMachine).toBeGreaterThan(28_000);
    expect(perMachine).toBeLessThan(45_000);
    const one = await site.call('GET', `machines/${first.json[500].system_id}/`);
    expect(one.json).toEqual(first.json[500]);
    expect((await site.call('GET', 'subnets/1/?op=statistics')).json.num_available).toBeGreaterThan(1000);
  });

  it('takes as long per listed machine as it is told', async () => {
    await using site = await startSite({ latency: { listedMachineMs: 20 } });
    const began = performance.now();
    await site.call('GET', 'machines/');
    expect(performance.now() - began).toBeGreaterThan(115);
  });
});
