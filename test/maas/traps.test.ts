/** The traps of a real MAAS, one test each, named after the trap. Those of the wire are in wire.test.ts. */
import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
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
const BROKEN = 8;
const DEPLOYING = 9;
const ALLOCATED = 10;
const RELEASING = 12;
const DISK_ERASING = 14;

const image = { image: 'ubuntu/noble', userData: '#cloud-config\n' };
const stamp = { agentName: 'gw.c1.n1.op1', comment: '' };
const posts = (seen: readonly Seen[]) => seen.filter((one) => one.method === 'POST');
const codeOf = async (promise: Promise<unknown>): Promise<string> =>
  await promise.then(
    (value) => `success ${JSON.stringify(value)}`,
    (error: unknown) => (error instanceof PcgError ? error.code : `not coded: ${String(error)}`),
  );

describe('allocate', () => {
  it('an allocate whose body cannot be parsed takes a random machine: body, type and a constraint always go along', async () => {
    await using region = await serveScript((_seen, out) => json(out, wireMachine('abc123', ALLOCATED)));
    await using client = clientOf(region);
    await client.machines.allocate({ ...stamp }, never());
    const [seen] = region.seen;
    expect(seen?.headers['content-type']).toBe('application/x-www-form-urlencoded');
    expect(Number(seen?.headers['content-length'])).toBeGreaterThan(0);
    expect(seen?.form.getAll('not_pod_type')).toEqual(['lxd', 'virsh']);
    expect(await codeOf(client.machines.allocate({ ...stamp, allowVirtual: true }, never()))).toBe(
      'INVALID_INPUT',
    );
    expect(region.seen).toHaveLength(1);
  });

  it('MAAS composes a VM when nothing is Ready: excluded unless allowed or a machine is named', async () => {
    await using region = await serveScript((_seen, out) => json(out, wireMachine('abc123', ALLOCATED)));
    await using client = clientOf(region);
    await client.machines.allocate({ ...stamp, systemId: 'abc123', minDiskGb: 60 }, never());
    await client.machines.allocate({ ...stamp, pool: 'p', allowVirtual: true }, never());
    expect(region.seen.map((seen) => [...seen.form.keys()])).toEqual([
      ['system_id', 'agent_name'],
      ['pool', 'agent_name'],
    ]);
  });

  it('a later MAAS knows no VM hosts and refuses the guard: sent again without it', async () => {
    await using region = await serveScript((seen, out) =>
      seen.form.has('not_pod_type')
        ? json(out, { not_pod_type: ['No such constraint.'] }, 400)
        : json(out, wireMachine('abc123', ALLOCATED)),
    );
    await using client = clientOf(region);
    expect((await client.machines.allocate({ ...stamp, pool: 'p' }, never())).kind).toBe('allocated');
    expect(region.seen).toHaveLength(2);
    // Without any other constraint it stays refused: it would be a random machine.
    expect(await codeOf(client.machines.allocate(stamp, never()))).toBe('MAAS_BAD_REQUEST');
  });

  it('an agent name that MAAS could not store or filter is refused before it is sent', async () => {
    await using region = await serveScript((_seen, out) => json(out, []));
    await using client = clientOf(region);
    for (const agentName of ['', 'a b', 'ü', 'x'.repeat(256)]) {
      expect(await codeOf(client.machines.allocate({ agentName, comment: '', pool: 'p' }, never()))).toBe(
        'INVALID_INPUT',
      );
    }
    expect(region.seen).toHaveLength(0);
  });

  it('the two kinds of 409: HTML with Retry-After is repeated, text is an answer', async () => {
    await using region = await serveScript((_seen, out, index) =>
      index === 0
        ? html(out, 409, 'Error: Conflict Error', { 'retry-after': '5' })
        : text(out, 409, 'No machine available.'),
    );
    await using client = clientOf(region);
    expect(await client.machines.allocate({ ...stamp, pool: 'p' }, never())).toEqual({
      kind: 'none',
      reason: 'No machine available.',
      // MAAS rolled the conflict back and said so: nothing can land later
      doubtful: false,
    });
    expect(region.seen).toHaveLength(2);
  });

  it('unknown names are coded with the field that is wrong', async () => {
    await using region = await serveScript((seen, out) =>
      json(
        out,
        seen.form.has('zone') ? { zone: ['No such zone(s): nope.'] } : { pool: ['No such pool(s): nope.'] },
        400,
      ),
    );
    await using client = clientOf(region);
    await expect(client.machines.allocate({ ...stamp, zones: ['nope'] }, never())).rejects.toMatchObject({
      code: 'ZONE_UNKNOWN',
      field: 'zone',
      message: expect.stringContaining('nope'),
    });
    await expect(client.machines.allocate({ ...stamp, pool: 'nope' }, never())).rejects.toMatchObject({
      code: 'POOL_UNKNOWN',
    });
  });
});

describe('deploy', () => {
  const region = (
    answer: Parameters<typeof serveScript>[0],
    status: number,
    more: (seen: Seen) => unknown = () => [],
  ) =>
    serveScript((seen, out, index) => {
      if (seen.method === 'POST') return answer(seen, out, index);
      return json(out, /^machines\/\w+\/$/.test(seen.path) ? wireMachine('abc123', status) : more(seen));
    });

  it('JSON bodies are silently ignored by deploy: image and user-data travel in a form', async () => {
    await using maas = await region((_seen, out) => json(out, wireMachine('abc123', DEPLOYING)), DEPLOYING);
    await using client = clientOf(maas);
    await client.machines.deploy('abc123', { ...image, userData: 'a+b/c=ü' }, never());
    expect(Buffer.from(maas.seen[0]?.form.get('user_data') ?? '', 'base64').toString()).toBe('a+b/c=ü');
    expect([...(maas.seen[0]?.form.keys() ?? [])]).toEqual(['distro_series', 'user_data']);
  });

  it('a failed power-on answers 500 and leaves the machine Allocated and ours', async () => {
    await using maas = await region(
      (_seen, out) => text(out, 500, 'Power action failed: IPMI connection timeout'),
      ALLOCATED,
    );
    await using client = clientOf(maas);
    await expect(client.machines.deploy('abc123', image, never())).rejects.toMatchObject({
      code: 'MAAS_POWER_FAILED',
      retryable: true,
      details: { systemId: 'abc123', status: 'allocated' },
    });
    expect(posts(maas.seen)).toHaveLength(1);
  });

  it('a 500 after which the machine is Deploying was a deploy', async () => {
    await using maas = await region((_seen, out) => text(out, 500, 'x'), DEPLOYING);
    await using client = clientOf(maas);
    expect((await client.machines.deploy('abc123', image, never())).kind).toBe('accepted');
  });

  it('400 "Failed to render preseed" is really a conflict: tried again, then a retryable conflict', async () => {
    const preseed = 'Failed to render preseed: duplicate key value violates unique constraint';
    await using healing = await region(
      (_seen, out, index) =>
        index < 2 ? text(out, 400, preseed) : json(out, wireMachine('abc123', DEPLOYING)),
      ALLOCATED,
    );
    await using client = clientOf(healing);
    expect((await client.machines.deploy('abc123', image, never())).kind).toBe('accepted');
    await using stubborn = await region(
      (_seen, out) => text(out, 400, preseed),
      ALLOCATED,
      () => [{ name: 'ubuntu/noble', architecture: 'amd64/ga-24.04' }],
    );
    await using other = clientOf(stubborn);
    await expect(other.machines.deploy('abc123', image, never())).rejects.toMatchObject({
      code: 'MAAS_CONFLICT',
      retryable: true,
    });
    expect(posts(stubborn.seen)).toHaveLength(4);
  });

  it('the same 400 with no such image in MAAS is a missing image, found by looking and not by reading', async () => {
    await using maas = await region(
      (_seen, out) => text(out, 400, 'Deployment operating system x is unavailable'),
      ALLOCATED,
      () => [{ name: 'ubuntu/jammy', architecture: 'amd64/ga-22.04' }],
    );
    await using client = clientOf(maas);
    expect(await codeOf(client.machines.deploy('abc123', image, never()))).toBe('MAAS_IMAGE_MISSING');
  });

  it('an image or kernel that MAAS names in its refusal is a missing image', async () => {
    for (const field of ['distro_series', 'hwe_kernel']) {
      await using maas = await region(
        (_seen, out) => json(out, { [field]: ['not available'] }, 400),
        ALLOCATED,
      );
      await using client = clientOf(maas);
      await expect(client.machines.deploy('abc123', image, never())).rejects.toMatchObject({
        code: 'MAAS_IMAGE_MISSING',
        field,
      });
    }
  });

  it('503 without Retry-After is a full subnet or a machine without power control: looked up, not read', async () => {
    const nic = {
      interface_set: [{ name: 'e0', links: [{ mode: 'auto', subnet: { cidr: '10.0.0.0/24' } }] }],
    };
    for (const [available, code] of [
      [0, 'MAAS_IP_EXHAUSTED'],
      [9, 'MAAS_POWER_FAILED'],
    ] as const) {
      await using maas = await serveScript((seen, out) => {
        if (seen.method === 'POST') return text(out, 503, 'some sentence');
        if (seen.path === 'subnets/') return json(out, [{ id: 3, cidr: '10.0.0.0/24' }]);
        if (seen.path === 'subnets/3/') return json(out, { num_available: available });
        return json(out, wireMachine('abc123', ALLOCATED, nic));
      });
      await using client = clientOf(maas);
      expect(await codeOf(client.machines.deploy('abc123', image, never()))).toBe(code);
    }
  });

  it('503 with Retry-After is a disconnected rack: waited for and tried again', async () => {
    await using maas = await region(
      (_seen, out, index) =>
        index < 2
          ? text(out, 503, 'Unable to connect', { 'retry-after': '10' })
          : json(out, wireMachine('abc123', DEPLOYING)),
      ALLOCATED,
    );
    await using client = clientOf(maas);
    expect((await client.machines.deploy('abc123', image, never())).kind).toBe('accepted');
  });

  it('a second deploy is answered 409 and counts as accepted only while Deploying', async () => {
    for (const [status, kind] of [
      [DEPLOYING, 'accepted'],
      [DEPLOYED, 'wrong-state'],
      [BROKEN, 'wrong-state'],
    ] as const) {
      await using maas = await region(
        (_seen, out) => text(out, 409, "Can't deploy a machine that is in the 'X' state"),
        status,
      );
      await using client = clientOf(maas);
      expect((await client.machines.deploy('abc123', image, never())).kind).toBe(kind);
    }
  });

  it('closing the connection does not stop MAAS: a lost deploy is found, and is not sent again when it is not seen', async () => {
    for (const [status, kind] of [
      [DEPLOYING, 'accepted'],
      [ALLOCATED, 'unknown'],
    ] as const) {
      await using maas = await region((_seen, out) => void out.destroy(), status);
      await using client = clientOf(maas);
      expect((await client.machines.deploy('abc123', image, never())).kind).toBe(kind);
      expect(posts(maas.seen)).toHaveLength(1);
    }
  });

  it('a login page with status 200 is not a deploy, unless the machine shows one', async () => {
    for (const [status, kind] of [
      [ALLOCATED, 'unknown'],
      [DEPLOYING, 'accepted'],
    ] as const) {
      await using maas = await region((_seen, out) => html(out, 200, 'Sign in'), status);
      await using client = clientOf(maas);
      expect((await client.machines.deploy('abc123', image, never())).kind).toBe(kind);
    }
  });

  it('nginx refuses bodies over 10 MiB: too much user-data is refused before it is sent', async () => {
    await using maas = await region((_seen, out) => json(out, wireMachine('abc123', DEPLOYING)), DEPLOYING);
    await using client = clientOf(maas);
    const userData = 'x'.repeat(9 << 20);
    expect(await codeOf(client.machines.deploy('abc123', { ...image, userData }, never()))).toBe(
      'INVALID_INPUT',
    );
    expect(maas.seen).toHaveLength(0);
  });
});

describe('power', () => {
  it('power_on of an Allocated machine deploys it: not sent', async () => {
    for (const status of [ALLOCATED, READY, BROKEN]) {
      await using maas = await serveScript((_seen, out) => json(out, wireMachine('abc123', status)));
      await using client = clientOf(maas);
      expect((await client.machines.powerOn('abc123', never())).kind).toBe('wrong-state');
      expect(posts(maas.seen)).toHaveLength(0);
    }
  });

  it('power_off of a machine without power control answers null', async () => {
    await using maas = await serveScript((seen, out) =>
      json(out, seen.method === 'POST' ? null : wireMachine('abc123', DEPLOYED)),
    );
    await using client = clientOf(maas);
    expect(await client.machines.powerOff('abc123', 'soft', never())).toMatchObject({
      kind: 'accepted',
      machine: { systemId: 'abc123' },
    });
  });

  it('a power query waits for the BMC in a slot of the region: asked once, never repeated', async () => {
    await using maas = await serveScript((_seen, out) => text(out, 500, 'BMC unreachable'));
    await using client = clientOf(maas);
    expect(await codeOf(client.machines.queryPower('abc123', never()))).toBe('MAAS_POWER_FAILED');
    expect(maas.seen).toHaveLength(1);
  });
});

describe('release and abort', () => {
  const quiet = { erase: 'none', comment: '' } as const;

  it('release of a Ready machine is 200', async () => {
    await using maas = await serveScript((_seen, out) => json(out, wireMachine('abc123', READY)));
    await using client = clientOf(maas);
    expect((await client.machines.release('abc123', quiet, never())).kind).toBe('accepted');
  });

  it('release answers only after the BMC: when that fails with 500 the machine is back, and it says power', async () => {
    await using maas = await serveScript((seen, out) =>
      seen.method === 'POST'
        ? text(out, 500, 'bmc down')
        : json(out, wireMachine('abc123', DEPLOYED, { osystem: '' })),
    );
    await using client = clientOf(maas);
    await expect(client.machines.release('abc123', quiet, never())).rejects.toMatchObject({
      code: 'MAAS_POWER_FAILED',
    });
  });

  it('a lost release that shows Releasing, Disk erasing or Ready has happened', async () => {
    for (const status of [RELEASING, DISK_ERASING, READY]) {
      await using maas = await serveScript((seen, out) =>
        seen.method === 'POST' ? void out.destroy() : json(out, wireMachine('abc123', status)),
      );
      await using client = clientOf(maas);
      expect((await client.machines.release('abc123', quiet, never())).kind).toBe('accepted');
    }
  });

  it('a lost release is never sent again: the machine may be somebody else’s by now', async () => {
    await using maas = await serveScript((seen, out) =>
      seen.method === 'POST'
        ? html(out, 504, '504 Gateway Time-out')
        : json(out, wireMachine('abc123', ALLOCATED, { owner: 'other' })),
    );
    await using client = clientOf(maas);
    expect((await client.machines.release('abc123', quiet, never())).kind).toBe('unknown');
    expect(posts(maas.seen)).toHaveLength(1);
  });

  it('a locked machine answers 403 with an empty body: that is its state, and no right that the key lacks', async () => {
    let locked = true;
    await using maas = await serveScript((seen, out) =>
      seen.method === 'POST' ? text(out, 403, '') : json(out, wireMachine('abc123', DEPLOYED, { locked })),
    );
    await using client = clientOf(maas);
    expect(await client.machines.release('abc123', quiet, never())).toMatchObject({
      kind: 'wrong-state',
      machine: { systemId: 'abc123', locked: true },
    });
    locked = false;
    expect(await codeOf(client.machines.release('abc123', quiet, never()))).toBe('MAAS_FORBIDDEN');
  });

  it('the answer of abort shows the state before it: the machine is read again', async () => {
    await using maas = await serveScript((seen, out) =>
      json(out, wireMachine('abc123', seen.method === 'POST' ? DEPLOYING : ALLOCATED)),
    );
    await using client = clientOf(maas);
    expect(await client.machines.abort('abc123', '', never())).toMatchObject({
      kind: 'accepted',
      machine: { status: 'allocated' },
    });
  });

  it('mark_broken drops ownership, so a second one is forbidden and still done', async () => {
    await using maas = await serveScript((seen, out) =>
      seen.method === 'POST' ? text(out, 403, '') : json(out, wireMachine('abc123', BROKEN, { owner: null })),
    );
    await using client = clientOf(maas);
    expect((await client.machines.markBroken('abc123', 'x', never())).kind).toBe('accepted');
  });

  it('a composed VM vanishes when released: gone', async () => {
    await using maas = await serveScript((seen, out) =>
      seen.method === 'POST' ? void out.destroy() : text(out, 404, 'No Machine matches the given query.'),
    );
    await using client = clientOf(maas);
    expect((await client.machines.release('abc123', quiet, never())).kind).toBe('gone');
  });
});

describe('reading', () => {
  it('no filter value would mean the whole fleet: an empty choice asks nothing', async () => {
    await using maas = await serveScript((_seen, out) => json(out, [wireMachine('abc123', READY)]));
    await using client = clientOf(maas);
    for (const filter of [
      { ids: [] },
      { statuses: [] },
      { pools: [] },
      { zones: [] },
      { tags: [] },
      { hostnames: [] },
    ]) {
      expect(await client.machines.list(filter, never())).toEqual([]);
    }
    expect(await client.events({ ids: [], after: 1 }, never())).toEqual([]);
    expect(maas.seen).toHaveLength(0);
  });

  it('request lines over 8 KiB are refused: ids go in chunks of 150', async () => {
    await using maas = await serveScript((seen, out) =>
      json(
        out,
        seen.query.getAll('id').map((id) => wireMachine(id, READY)),
      ),
    );
    await using client = clientOf(maas);
    const ids = Array.from({ length: 400 }, (_, index) => `m${String(index).padStart(5, '0')}`);
    expect(await client.machines.list({ ids: [...ids, ...ids] }, never())).toHaveLength(400);
    expect(maas.seen.map((seen) => seen.query.getAll('id').length)).toEqual([150, 150, 100]);
  });

  it('machines of other users are 403 for a normal key: not there', async () => {
    await using maas = await serveScript((_seen, out) => text(out, 403, ''));
    await using client = clientOf(maas);
    expect(await client.machines.get('abc123', never())).toBeUndefined();
  });

  it('a disabled user is 403 with words for everything: that is no machine that is gone', async () => {
    const words = 'User is not allowed access to this API.';
    await using maas = await serveScript((_seen, out) => text(out, 403, words));
    await using client = clientOf(maas);
    const denied = { code: 'MAAS_FORBIDDEN', retryable: false };
    await expect(client.machines.get('abc123', never())).rejects.toMatchObject(denied);
    await expect(client.machines.list({ ids: ['abc123'] }, never())).rejects.toMatchObject(denied);
    const release = client.machines.release('abc123', { erase: 'none', comment: '' }, never());
    await expect(release).rejects.toMatchObject(denied);
  });

  it('Releasing failed is filtered as failed_releasing, and every status number has its filter name', async () => {
    await using maas = await serveScript((_seen, out) => json(out, [wireMachine('abc123', 13)]));
    await using client = clientOf(maas);
    const [machine] = await client.machines.list({ statuses: ['failed_releasing'] }, never());
    expect(machine?.status).toBe('failed_releasing');
    expect(maas.seen[0]?.query.get('status')).toBe('failed_releasing');
  });

  it('annotations with odd keys are answered 500: refused before they are sent', async () => {
    await using maas = await serveScript((_seen, out) => json(out, wireMachine('abc123', ALLOCATED)));
    await using client = clientOf(maas);
    for (const annotations of [{ 'a b': '1' }, { ['k'.repeat(256)]: '1' }, { a: 'x'.repeat(5000) }]) {
      expect(await codeOf(client.machines.setAnnotations('abc123', annotations, never()))).toBe(
        'INVALID_INPUT',
      );
    }
    await client.machines.setAnnotations('abc123', {}, never());
    expect(maas.seen).toHaveLength(0);
    await client.machines.setAnnotations('abc123', { 'pcg.cluster': 'c1', gone: '' }, never());
    expect(maas.seen[0]?.form.toString()).toBe('pcg.cluster=c1&gone=');
  });
});
