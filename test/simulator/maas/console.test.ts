/** The simulator's own door: ledger, faults at run time, the page, and things that happen to hardware. */
import { describe, expect, it } from 'vitest';
import { defaultScenario } from '../../../src/simulator/scenario.ts';
import { startSimulator } from '../../../src/simulator/simulator.ts';
import { maasCaller } from '../../support/maas-caller.ts';

async function startSite() {
  const simulator = await startSimulator({ scenario: defaultScenario({ machines: 6 }), speed: 100_000 });
  const call = maasCaller(simulator.maasUrl, simulator.adminKey);
  const origin = simulator.maasUrl.replace('/MAAS', '');
  const door = async (path: string, method = 'GET', body?: string) => {
    const response = await fetch(`${origin}/simulator${path}`, {
      method,
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    return { status: response.status, text, json: text.startsWith('{') ? JSON.parse(text) : undefined };
  };
  return { simulator, call, door, [Symbol.asyncDispose]: () => simulator[Symbol.asyncDispose]() };
}

describe("the simulator's console", () => {
  it('tells who holds what and who held it', async () => {
    await using site = await startSite();
    const { system_id: id } = (await site.call('POST', 'machines/?op=allocate', { agent_name: 'gw.c1' }))
      .json;
    await site.call('POST', 'ipaddresses/?op=reserve', { subnet: 'machines' });
    const held = (await site.door('/ledger')).json;
    expect(held.entries[0]).toMatchObject({
      action: 'allocate',
      user: 'admin',
      agentName: 'gw.c1',
      systemId: id,
    });
    expect(Math.abs(held.entries[0].at - Date.now())).toBeLessThan(60_000);
    const { text: page } = await site.door('/');
    const when = new Date(held.entries[0].at).toISOString().slice(11, 23);
    expect(page).toMatch(
      new RegExp(`<td>${when}</td><td>allocate</td><td>[^<]+</td><td>admin</td><td>gw\\.c1</td>`),
    );
    expect(held.leaked).toMatchObject([{ systemId: id, user: 'admin', agentName: 'gw.c1' }]);
    expect(held.leakedAddresses).toHaveLength(1);
    await site.call('POST', `machines/${id}/?op=release`);
    const after = (await site.door('/ledger')).json;
    expect([after.leaked, after.doublyAllocated]).toEqual([[], []]);
    expect(after.entries.map((entry: { action: string }) => entry.action)).toEqual([
      'allocate',
      'reserve-ip',
      'release',
      'released',
    ]);
  });

  it('shows a page of machines and faults that survives hostile names', async () => {
    await using site = await startSite();
    await site.call('POST', 'machines/?op=allocate', { agent_name: '<script>alert(1)</script>' });
    await site.door('/faults', 'POST', 'slow=1:0.5');
    const { status, text } = await site.door('/');
    expect(status).toBe(200);
    expect(text).toContain('slow=1:0.5');
    expect(text).not.toContain('<script>');
    expect(text).toContain('&#60;script&#62;');
  });

  it('changes faults while it runs, and refuses nonsense', async () => {
    await using site = await startSite();
    expect((await site.door('/faults', 'POST', 'http-503:1\nslow=1:2')).json.rules).toHaveLength(2);
    expect((await site.call('GET', 'zones/')).status).toBe(503);
    expect((await site.door('/faults')).json.rules[0]).toMatchObject({
      text: 'http-503:1',
      left: 0,
      struck: 1,
    });
    expect((await site.door('/faults', 'PUT', '["lost-reply:0.5"]')).json.rules).toHaveLength(1);
    expect((await site.door('/faults', 'DELETE')).json.rules).toEqual([]);
    const wrong = await site.door('/faults', 'POST', 'lost-reploy');
    expect([wrong.status, wrong.json.error]).toEqual([
      400,
      expect.stringContaining('did you mean lost-reply'),
    ]);
    expect((await site.door('/faults', 'POST', '[bad')).status).toBe(400);
  });

  it('makes things happen to machines', async () => {
    await using site = await startSite();
    const { system_id: id } = (await site.call('POST', 'machines/?op=allocate')).json;
    await site.call('POST', `machines/${id}/?op=deploy`);
    expect((await site.door(`/machines/${id}/fail`, 'POST')).json.status).toMatch(
      /Failed deployment|Deployed/,
    );
    expect((await site.door(`/machines/${id}/vanish`, 'POST')).status).toBe(200);
    expect((await site.call('GET', `machines/${id}/`)).status).toBe(404);
    expect((await site.door(`/machines/${id}/vanish`, 'POST')).status).toBe(404);
    expect((await site.door('/machines/nope/fail', 'POST')).status).toBe(404);
  });

  it('forces states, but only known ones', async () => {
    await using site = await startSite();
    const [machine] = (await site.call('GET', 'machines/')).json;
    const force = (body: string) => site.door(`/machines/${machine.hostname}/force`, 'POST', body);
    expect((await force('{"status":"rescue_mode"}')).json).toMatchObject({ owner: 'admin', power: 'on' });
    expect((await site.call('GET', `machines/${machine.system_id}/`)).json.status_name).toBe('Rescue mode');
    expect((await force('{"status":"sleepy"}')).status).toBe(400);
    expect((await force('not json')).status).toBe(400);
  });

  it('answers 404 elsewhere', async () => {
    await using site = await startSite();
    expect((await site.door('/nothing')).status).toBe(404);
    expect((await site.door('/machines/x')).status).toBe(404);
  });
});
