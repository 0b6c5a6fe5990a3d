/** The lifecycle calls against a scripted region: happy paths first, then what can go wrong on the way. */
import { describe, expect, it } from 'vitest';
import type { ServerResponse } from 'node:http';
import {
  clientOf,
  html,
  json,
  never,
  type Seen,
  serveScript,
  text,
  wireMachine,
} from '../support/maas-wire.ts';

const READY = 4;
const DEPLOYED = 6;
const DEPLOYING = 9;
const ALLOCATED = 10;
const RELEASING = 12;

const isOp = (seen: Seen, op: string) => seen.query.get('op') === op;
const stamp = { agentName: 'gw.c1.node-1.op', comment: 'test' };

describe('allocate', () => {
  it('sends a form with constraints, stamp and the guard against composed VMs', async () => {
    await using region = await serveScript((_seen, out) => json(out, wireMachine('abc123', ALLOCATED)));
    await using client = clientOf(region);
    const outcome = await client.machines.allocate(
      {
        ...stamp,
        pool: 'p',
        zones: ['a', 'b'],
        minCpu: 4,
        minMemoryMiB: 8192,
        minDiskGb: 60,
        tags: ['x', 'y'],
      },
      never(),
    );
    expect(outcome).toMatchObject({
      kind: 'allocated',
      machine: { systemId: 'abc123', status: 'allocated' },
    });
    const [seen] = region.seen;
    expect(seen?.headers['content-type']).toBe('application/x-www-form-urlencoded');
    expect([...(seen?.form ?? [])]).toEqual([
      ['pool', 'p'],
      ['zone', 'a'],
      ['zone', 'b'],
      ['cpu_count', '4'],
      ['mem', '8192'],
      ['tags', 'x'],
      ['tags', 'y'],
      ['storage', 'root:60'],
      ['not_pod_type', 'lxd'],
      ['not_pod_type', 'virsh'],
      ['agent_name', 'gw.c1.node-1.op'],
      ['comment', 'test'],
    ]);
  });

  it('resolves a lost reply by the agent name', async () => {
    await using region = await serveScript((seen, out) => {
      if (isOp(seen, 'allocate')) return void out.destroy();
      json(out, seen.query.get('agent_name') === stamp.agentName ? [wireMachine('abc123', ALLOCATED)] : []);
    });
    await using client = clientOf(region);
    expect(await client.machines.allocate({ ...stamp, pool: 'p' }, never())).toMatchObject({
      kind: 'allocated',
      machine: { systemId: 'abc123' },
    });
    expect(region.seen.filter((seen) => isOp(seen, 'allocate'))).toHaveLength(1);
  });

  it('says unknown and never sends twice when a lost allocate cannot be found', async () => {
    await using region = await serveScript((seen, out) =>
      isOp(seen, 'allocate') ? html(out, 504, '504') : json(out, []),
    );
    await using client = clientOf(region);
    expect((await client.machines.allocate({ ...stamp, pool: 'p' }, never())).kind).toBe('unknown');
    expect(region.seen.filter((seen) => isOp(seen, 'allocate'))).toHaveLength(1);
  });

  it('repeats a lost allocate of a named machine, since MAAS refuses the second one', async () => {
    await using region = await serveScript((seen, out, index) => {
      if (!isOp(seen, 'allocate')) return json(out, []);
      return index === 0 ? void out.destroy() : json(out, wireMachine('abc123', ALLOCATED));
    });
    await using client = clientOf(region);
    expect((await client.machines.allocate({ ...stamp, systemId: 'abc123' }, never())).kind).toBe(
      'allocated',
    );
  });

  it('takes a 409 for its own machine as success and for another one as taken', async () => {
    let mine = true;
    await using region = await serveScript((seen, out) => {
      if (isOp(seen, 'allocate')) return text(out, 409, 'No machine with system ID abc123 available.');
      return json(out, mine ? [wireMachine('abc123', ALLOCATED)] : []);
    });
    await using client = clientOf(region);
    expect((await client.machines.allocate({ ...stamp, systemId: 'abc123' }, never())).kind).toBe(
      'allocated',
    );
    mine = false;
    expect(await client.machines.allocate({ ...stamp, systemId: 'abc123' }, never())).toEqual({
      kind: 'taken',
      systemId: 'abc123',
      doubtful: false,
    });
  });

  it('does not ask again when a lost answer left another machine under the name', async () => {
    await using region = await serveScript((seen, out) => {
      if (isOp(seen, 'allocate')) return void out.destroy();
      return json(out, [wireMachine('other1', ALLOCATED)]);
    });
    await using client = clientOf(region);
    expect(await client.machines.allocate({ ...stamp, systemId: 'abc123' }, never())).toMatchObject({
      kind: 'allocated',
      machine: { systemId: 'other1' },
      doubtful: true,
    });
    expect(region.seen.filter((seen) => isOp(seen, 'allocate'))).toHaveLength(1);
  });

  it('tells no match from a transaction conflict, which it repeats', async () => {
    await using region = await serveScript((_seen, out, index) =>
      index < 2
        ? html(out, 409, 'Error: Conflict Error', { 'retry-after': '5' })
        : text(out, 409, "No available machine matches constraints: [('pool', ['p'])]"),
    );
    await using client = clientOf(region);
    expect((await client.machines.allocate({ ...stamp, pool: 'p' }, never())).kind).toBe('none');
    expect(region.seen).toHaveLength(3);
  });

  it('reads back an allocate whose answer is cut in mid-body', async () => {
    await using region = await serveScript((seen, out) => {
      if (!isOp(seen, 'allocate')) return json(out, [wireMachine('abc123', ALLOCATED)]);
      out.writeHead(200, { 'content-type': 'application/json', 'content-length': '5000' });
      out.write('{"system_id": "abc1');
      setImmediate(() => out.destroy());
    });
    await using client = clientOf(region);
    expect((await client.machines.allocate({ ...stamp, pool: 'p' }, never())).kind).toBe('allocated');
  });
});

describe('actions', () => {
  const script = (actionAnswer: (out: ServerResponse, seen: Seen) => void, status: number) =>
    serveScript((seen, out) => {
      if (seen.method === 'POST') return actionAnswer(out, seen);
      return json(out, wireMachine('abc123', status));
    });
  const image = { image: 'ubuntu/noble', userData: '#cloud-config\n' };

  it('deploys with the series and base64 user-data', async () => {
    await using region = await script((out) => json(out, wireMachine('abc123', DEPLOYING)), DEPLOYING);
    await using client = clientOf(region);
    expect((await client.machines.deploy('abc123', image, never())).kind).toBe('accepted');
    const form = region.seen[0]?.form;
    expect(form?.get('distro_series')).toBe('ubuntu/noble');
    expect(Buffer.from(form?.get('user_data') ?? '', 'base64').toString()).toBe('#cloud-config\n');
  });

  it('reads the machine after a 504 and reports the deploy that went through', async () => {
    await using region = await script((out) => html(out, 504, '504 Gateway Time-out'), DEPLOYING);
    await using client = clientOf(region);
    expect((await client.machines.deploy('abc123', image, never())).kind).toBe('accepted');
    expect(region.seen).toHaveLength(2);
  });

  it('says unknown after a lost reply whose effect is not visible, and sends nothing again', async () => {
    await using region = await script((out) => void out.destroy(), DEPLOYED);
    await using client = clientOf(region);
    const outcome = await client.machines.release('abc123', { erase: 'none', comment: '' }, never());
    expect(outcome.kind).toBe('unknown');
    expect(region.seen.filter((seen) => seen.method === 'POST')).toHaveLength(1);
  });

  it('takes release of a released machine as done and of a busy one as wrong state', async () => {
    await using region = await script((out) => text(out, 409, 'Machine cannot be released'), 1);
    await using client = clientOf(region);
    const options = { erase: 'none', comment: '' } as const;
    expect((await client.machines.release('abc123', options, never())).kind).toBe('wrong-state');
    await using again = await script((out) => json(out, wireMachine('abc123', READY)), READY);
    await using other = clientOf(again);
    expect((await other.machines.release('abc123', options, never())).kind).toBe('accepted');
  });

  it('erases with `erase`, also for quick and secure', async () => {
    await using region = await script((out) => json(out, wireMachine('abc123', RELEASING)), RELEASING);
    await using client = clientOf(region);
    for (const erase of ['full', 'quick', 'secure'] as const) {
      await client.machines.release('abc123', { erase, comment: '' }, never());
    }
    expect(region.seen.map((seen) => seen.form.toString())).toEqual([
      'erase=true',
      'erase=true&quick_erase=true',
      'erase=true&secure_erase=true',
    ]);
  });

  it('reports a vanished machine as gone', async () => {
    await using region = await serveScript((_seen, out) =>
      text(out, 404, 'No Machine matches the given query.'),
    );
    await using client = clientOf(region);
    expect((await client.machines.abort('abc123', '', never())).kind).toBe('gone');
    expect(await client.machines.get('abc123', never())).toBeUndefined();
  });
});
