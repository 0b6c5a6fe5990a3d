/** The life of a cluster on a fake site: create, delete, abort, crashes, failures. */
import { PoliciesSchema } from '../../src/contract/policies.ts';
import { describe, expect, it, vi } from 'vitest';
import { COLLECTIONS } from '../../src/store/records.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { clusterSpec } from '../support/node-input.ts';

const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;
const ABORT = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'abort' } as const;
const FORCE = { kind: 'force-delete', requestedAt: '2026-01-01T00:00:00Z' } as const;

/** Deterministic draws, so that a failing run can be repeated. */
function seeded(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    return ((state >>> 0) % 100_000) / 100_000;
  };
}

function expectNothingLeft(site: FakeSite): void {
  expect(site.violations).toEqual([]);
  expect(site.owned()).toEqual([]);
  expect([...site.reserved.keys()]).toEqual([]);
  expect(site.dns.size).toBe(0);
}

describe('create and delete', () => {
  it('brings 3 + 3 machines to Running and gives every one of them back', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const running = await harness.phase('Running');
    expect(running.nodes.map((node) => node.phase)).toEqual(Array(6).fill('Ready'));
    expect(running.progress.done).toBe(running.progress.total);
    expect(running.conditions.filter(({ status }) => status !== 'True').map(({ type }) => type)).toEqual([
      'Deleting',
    ]);
    expect(site.owned()).toHaveLength(6);
    expect(site.reserved.size).toBe(1);

    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    expectNothingLeft(site);
  });

  it('spreads each pool evenly over the zones', async () => {
    const site = new FakeSite(12);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const { nodes } = await harness.phase('Running');
    for (const pool of ['cp', 'workers']) {
      const zones = nodes.filter((node) => node.pool === pool).map((node) => node.zone);
      expect(new Set(zones).size).toBe(3);
    }
  });

  it('takes tokens back once their nodes are Ready, and never gives a worker a private key', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.until('tokens revoked', () =>
      [...site.apis.values()].every(
        (api) => ![...api.objects.keys()].some((path) => path.includes('bootstrap-token')),
      ),
    );
  });

  it('uses a name in MAAS as endpoint and deletes it with the cluster', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    const spec = clusterSpec({ network: { endpoint: { kind: 'maas-dns' } } });
    await harness.want(document({ spec }));
    await harness.phase('Running');
    const [name] = [...site.dns.values()];
    expect(name?.fqdn).toMatch(/^demo-\w{6}\.maas$/);
    await harness.until(
      'all control-plane addresses published',
      () => [...site.dns.values()][0]?.addresses.length === 3,
    );
    await harness.want(document({ spec, intent: DELETE }));
    await harness.phase('Deleted');
    expectNothingLeft(site);
  });

  it('uses an endpoint that somebody else provides, and neither reserves nor releases anything for it', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    const spec = clusterSpec({ network: { endpoint: { kind: 'external', host: 'lb.site', port: 8443 } } });
    await harness.want(document({ spec }));
    const running = await harness.phase('Running');
    expect(running.conditions.find(({ type }) => type === 'EndpointReady')?.message).toBe('lb.site:8443');
    expect(site.reserved.size + site.dns.size).toBe(0);
    await harness.want(document({ spec, intent: DELETE }));
    await harness.phase('Deleted');
    expectNothingLeft(site);
  });

  it('rests while it waits for a Velero that is missing', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site, { blockedRetryMs: 60_000, restMs: 300 });
    let turns = 0;
    const read = harness.records.get.bind(harness.records);
    vi.spyOn(harness.records, 'get').mockImplementation((collection, key) => {
      if (key === 'cluster/cl-demo') turns += collection === COLLECTIONS.documents ? 1 : 0;
      return read(collection, key);
    });
    const backups = { target: { url: 'https://s3.example.test', bucket: 'backups' } };
    await harness.want(document({ spec: { ...clusterSpec(), policies: PoliciesSchema.parse({ backups }) } }));
    await harness.until('said', ({ policies }) =>
      policies.some(({ policy, error }) => policy === 'backup' && error?.code === 'ADDON_NOT_READY'),
    );
    await harness.pause(300);
    turns = 0;
    await harness.pause(900);
    expect(turns).toBeLessThan(15);
  });

  it('forgets a deleted cluster when the portal withdraws its document', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    await harness.records.put(COLLECTIONS.documents, 'cluster/cl-demo', { generation: 3, spec: null });
    for (
      let tries = 0;
      tries < 400 && (await harness.records.list(COLLECTIONS.clusters)).length > 0;
      tries += 1
    )
      await harness.pause(5);
    expect(await harness.records.list(COLLECTIONS.clusters)).toEqual([]);
  });

  it('forgets what a restored store brings back of a cluster that holds nothing any more', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    // The portal's withdrawal is newer than the backup, or older: its document is in neither.
    await harness.records.delete(COLLECTIONS.documents, 'cluster/cl-demo');
    harness.crash();
    for (
      let tries = 0;
      tries < 400 && (await harness.records.list(COLLECTIONS.clusters)).length > 0;
      tries += 1
    )
      await harness.pause(5);
    expect(await harness.records.list(COLLECTIONS.clusters)).toEqual([]);
    expect(harness.engine.status('cl-demo')).toBeUndefined();
  });

  it('keeps the record, and with it the keys, of a cluster whose document is missing', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.records.delete(COLLECTIONS.documents, 'cluster/cl-demo');
    harness.crash();
    await harness.pause(200);
    expect(await harness.records.list(COLLECTIONS.clusters)).toHaveLength(1);
    expect(site.owned()).toHaveLength(6);
    await harness.want(document());
    await harness.phase('Running');
    expect(site.calls.get('release') ?? 0).toBe(0);
  });

  it('leaves a running cluster alone when its document disappears', async () => {
    const site = new FakeSite(6);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.records.put(COLLECTIONS.documents, 'cluster/cl-demo', { generation: 2, spec: null });
    await harness.pause(200);
    expect(site.owned()).toHaveLength(6);
    expect(site.calls.get('release') ?? 0).toBe(0);
  });

  it('runs several clusters at once on one account without taking a machine twice', async () => {
    const site = new FakeSite(18);
    await using harness = new EngineHarness(site);
    const ids = ['cl-one', 'cl-two', 'cl-three'];
    for (const id of ids) await harness.want(document({ id, spec: clusterSpec({ name: id }) }));
    for (const cluster of ids) await harness.phase('Running', { cluster });
    expect(site.reserved.size).toBe(3);
    for (const id of ids)
      await harness.want(document({ id, spec: clusterSpec({ name: id }), intent: DELETE }));
    for (const cluster of ids) await harness.phase('Deleted', { cluster });
    expectNothingLeft(site);
  });
});

describe('the site cannot serve', () => {
  it('names the rule and the nearest fix, and leaves nothing behind', async () => {
    const site = new FakeSite(6, { machine: (index) => (index > 4 ? { memoryMiB: 2048 } : {}) });
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const { error } = await harness.phase('Failed');
    expect(error).toMatchObject({ code: 'NOT_ENOUGH_MACHINES', field: 'spec.pools[1]' });
    expect(error?.fix).toContain('Lower the minimum memory to 2048 MiB');
    expect(site.owned()).toEqual([]);
    expect(site.reserved.size).toBe(0);
  });

  it('goes on by itself once machines are there', async () => {
    const site = new FakeSite(7);
    site.set('m0001', { status: 'broken' });
    site.set('m0002', { status: 'broken' });
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Failed');
    site.set('m0001', { status: 'ready' });
    const running = await harness.phase('Running');
    expect(running.error).toBeUndefined();
  });

  it('refuses overlapping ranges and proposes a free one', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: clusterSpec({ network: { podCidr: '10.20.0.0/16' } }) }));
    const { error } = await harness.phase('Failed');
    expect(error).toMatchObject({ code: 'CIDR_OVERLAP', field: 'spec.network.podCidr' });
    expect(error?.fix).toContain('192.168.0.0/16');
  });

  it('waits while MAAS is down and continues when it is back', async () => {
    const site = new FakeSite(8);
    let down = false;
    site.faults.maasDown = () => down;
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.until(
      'three machines',
      (status) => status.nodes.filter((node) => node.systemId).length >= 3,
    );
    down = true;
    await harness.pause(150);
    down = false;
    await harness.phase('Running');
    expect(site.violations).toEqual([]);
  });
});

describe('abort and force delete', () => {
  it.each([0, 3, 10, 25, 40, 60, 90, 130, 180, 240])(
    'aborted %i ms after the start leaves nothing',
    async (ms) => {
      const site = new FakeSite(8);
      await using harness = new EngineHarness(site);
      await harness.want(document());
      await harness.pause(ms);
      await harness.want(document({ intent: ABORT }));
      await harness.phase('Deleted');
      expectNothingLeft(site);
    },
  );

  it('never waits for MAAS when forced, and lists what it could not confirm', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    site.faults.maasDown = () => true;
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleting');
    await harness.want(document({ intent: FORCE }));
    const deleted = await harness.phase('Deleted');
    expect(deleted.leftovers.filter(({ kind }) => kind === 'machine')).toHaveLength(6);
    expect(deleted.leftovers.filter(({ kind }) => kind === 'address')).toHaveLength(1);
  });

  it('keeps deleting until a machine whose BMC is silent obeys', async () => {
    const site = new FakeSite(8);
    let silent = true;
    site.faults.releaseFails = (id) => silent && id === 'm0001';
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    await harness.want(document({ intent: DELETE }));
    await harness.until('only one machine left', () => site.owned().length === 1);
    await harness.pause(50);
    expect(harness.engine.status('cl-demo')?.phase).toBe('Deleting');
    silent = false;
    await harness.phase('Deleted');
    expectNothingLeft(site);
  });

  it('does not touch a machine that was given to somebody else', async () => {
    const site = new FakeSite(8);
    await using harness = new EngineHarness(site);
    await harness.want(document({ spec: clusterSpec({ policies: { remediation: { enabled: false } } }) }));
    const { nodes } = await harness.phase('Running');
    const stolen = nodes.find((node) => node.role === 'worker')?.systemId ?? '';
    site.steal(stolen);
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    expect(site.boxes.get(stolen)?.machine.owner).toBe('somebody');
    expect(site.violations).toEqual([]);
    expect(site.owned()).toEqual([]);
  });
});

describe('MAAS lies or loses', () => {
  it('finds machines whose allocation was never confirmed', async () => {
    const site = new FakeSite(8);
    let count = 0;
    site.faults.loseAllocateReply = () => count++ % 2 === 0;
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    expect(site.owned()).toHaveLength(6);
    expect(site.violations).toEqual([]);
  });

  it('an error that MAAS still tells of a Ready machine from its earlier life is no failure', async () => {
    const errorDescription = "Node operation 'Deploying' timed out after 30 minutes.";
    const site = new FakeSite(6, { machine: () => ({ errorDescription }) });
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    expect([...site.boxes.values()].map(({ machine }) => machine.errorDescription)).toContain(
      errorDescription,
    );
    await harness.want(document({ intent: DELETE }));
    await harness.phase('Deleted');
    const reasons = (await harness.outbox.recentEvents({}, 500)).map(({ reason }) => reason);
    expect(reasons.filter((reason) => reason === 'MachineFailed' || reason === 'StepFailed')).toEqual([]);
    expect(await harness.engine.quarantine.list('ca-one')).toEqual([]);
    expectNothingLeft(site);
  });

  it('gives a wrong machine back and takes another', async () => {
    const site = new FakeSite(9, { machine: (index) => (index === 9 ? { pool: 'databases' } : {}) });
    let lies = 2;
    site.faults.wrongMachine = () => (lies-- > 0 ? 'm0009' : undefined);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    const running = await harness.phase('Running');
    expect(running.nodes.map((node) => node.systemId)).not.toContain('m0009');
    expect(site.boxes.get('m0009')?.machine.status).toBe('ready');
    expect(site.violations).toEqual([]);
  });

  it('reads a machine back when the answer of deploy is lost', async () => {
    const site = new FakeSite(6);
    site.faults.loseDeployReply = () => true;
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    expect(site.calls.get('deploy')).toBe(6);
  });
});

describe('machines fail', () => {
  it.each([
    ['deployFails', 'DEPLOY_FAILED'],
    ['deployStuck', 'DEPLOY_TIMEOUT'],
    ['bootstrapFails', 'BOOTSTRAP_FAILED'],
  ] as const)('%s: evidence, quarantine and another machine', async (fault, code) => {
    const site = new FakeSite(9);
    const bad = new Set(['m0001', 'm0002']);
    site.faults[fault] = (id) => bad.has(id);
    await using harness = new EngineHarness(site, { deployDeadlineMs: 150 });
    await harness.want(document());
    const running = await harness.phase('Running');
    const used = running.nodes.map((node) => node.systemId);
    expect(used).not.toContain('m0001');
    expect(used).not.toContain('m0002');
    const quarantined = await harness.engine.quarantine.list('ca-one');
    expect(quarantined.map(({ systemId }) => systemId).toSorted((a, b) => a.localeCompare(b))).toEqual([
      'm0001',
      'm0002',
    ]);
    const events = await harness.outbox.recentEvents({ cluster: 'cl-demo' }, 500);
    const failures = events.filter(({ reason }) => reason === 'MachineFailed');
    expect(failures.map(({ error }) => error?.code)).toEqual([code, code]);
    expect(failures[0]?.data).toMatchObject({ evidence: { installationOutput: expect.any(String) } });
    await harness.until('failed machines released', () => site.owned().length === 6);
    expect(site.violations).toEqual([]);
  });

  it('stops after the limit, keeps the last machine for inspection, and goes on after retry', async () => {
    const site = new FakeSite(12);
    let broken = true;
    site.faults.deployFails = () => broken;
    await using harness = new EngineHarness(site);
    const spec = clusterSpec({ policies: { remediation: { maxReplacements: 1 } } });
    await harness.want(document({ spec }));
    const failed = await harness.phase('Failed');
    expect(failed.error).toMatchObject({
      code: 'TOO_MANY_FAILED_MACHINES',
      details: { cause: { code: 'DEPLOY_FAILED' } },
    });
    const before = site.owned().length;
    await harness.pause(100);
    expect(site.owned().length).toBeLessThanOrEqual(before);
    expect(site.owned().length).toBeGreaterThan(0);
    broken = false;
    for (const { systemId } of await harness.engine.quarantine.list())
      await harness.engine.quarantine.remove('ca-one', systemId);
    await harness.want(document({ spec, actions: [{ id: 'ac-retry', kind: 'retry' }] }));
    await harness.phase('Running');
    await harness.until('nothing more than needed', () => site.owned().length === 6);
    expect(site.violations).toEqual([]);
  });

  it('does not count after a retry what was being installed before it', async () => {
    const site = new FakeSite(12);
    const slow = new Set(['m0003', 'm0004', 'm0005', 'm0006']);
    const failing = new Set(['m0001', 'm0002']);
    site.faults.deployFails = (id) => failing.has(id);
    site.faults.deployStuck = (id) => slow.has(id);
    await using harness = new EngineHarness(site, { deployDeadlineMs: 600_000 });
    const spec = clusterSpec({ policies: { remediation: { maxReplacements: 1 } } });
    await harness.want(document({ spec }));
    const installing = () => [...slow].every((id) => site.boxes.get(id)?.machine.status === 'deploying');
    await harness.until('stopped', ({ phase }) => phase === 'Failed' && installing());
    for (const { systemId } of await harness.engine.quarantine.list())
      await harness.engine.quarantine.remove('ca-one', systemId);
    failing.clear();
    await harness.want(document({ spec, actions: [{ id: 'ac-retry', kind: 'retry' }] }));
    await harness.until('going on', ({ phase }) => phase !== 'Failed');
    for (const id of slow) site.failDeployment(id);
    await harness.phase('Running');
    expect(site.violations).toEqual([]);
    const events = await harness.outbox.recentEvents({ cluster: 'cl-demo' }, 500);
    expect(events.filter(({ reason }) => reason === 'TooManyFailedMachines')).toHaveLength(1);
    expect(events.filter(({ reason }) => reason === 'MachineFailed')).toHaveLength(6);
  });

  it('looks no more often while it waits because a wait of somebody who left has ended', async () => {
    const site = new FakeSite(8);
    site.faults.deployFails = (id) => id === 'm0001';
    site.faults.deployStuck = (id) => id !== 'm0001';
    const slow = { activeMs: 1_000, kubeProbeMs: 1_000, kubeBootProbeMs: 1_000 };
    await using harness = new EngineHarness(site, { ...slow, deployDeadlineMs: 600_000 });
    await harness.want(document());
    // The observer sees that m0001 is Ready before the release asks again: that step is never planned any more.
    const replaced = () => site.boxes.get('m0001')?.machine.status === 'ready';
    await harness.until('six others install', ({ nodes }) => replaced() && nodes.length === 6);
    await harness.pause(2 * slow.activeMs);
    const looks = vi.spyOn(harness.records, 'get');
    await harness.pause(5 * slow.activeMs);
    expect(looks.mock.calls.length).toBeLessThan(20);
  });

  it('chooses another machine for init when the first one fails, with the same CA', async () => {
    const site = new FakeSite(8);
    const failed = new Set<string>();
    site.faults.bootstrapFails = (id) => {
      if (failed.size === 0) failed.add(id);
      return failed.has(id);
    };
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.phase('Running');
    expect(site.apis.size).toBe(1);
  });
});

describe('kill -9', () => {
  it.each([1, 2, 3, 4, 5, 6])(
    'at random moments (seed %i) ends in the same cluster, nothing leaked or taken twice',
    async (seed) => {
      const random = seeded(seed);
      const site = new FakeSite(9, { times: { callMs: 3, allocateJitterMs: 25 } });
      site.faults.loseAllocateReply = () => random() < 0.2;
      await using harness = new EngineHarness(site);
      await harness.want(document());
      for (let crash = 0; crash < 12; crash += 1) {
        await harness.pause(random() * 60);
        harness.crash();
      }
      const running = await harness.phase('Running');
      expect(site.violations).toEqual([]);
      expect(new Set(site.owned())).toEqual(new Set(running.nodes.map((node) => node.systemId)));

      await harness.want(document({ intent: DELETE }));
      for (let crash = 0; crash < 6; crash += 1) {
        await harness.pause(random() * 12);
        harness.crash();
      }
      await harness.phase('Deleted');
      expectNothingLeft(site);
    },
  );

  it.each([1, 2, 3, 4])('during an abort (seed %i) leaks nothing', async (seed) => {
    const random = seeded(seed + 100);
    const site = new FakeSite(9, { times: { callMs: 3, allocateJitterMs: 25 } });
    site.faults.loseAllocateReply = () => random() < 0.3;
    await using harness = new EngineHarness(site);
    await harness.want(document());
    await harness.pause(random() * 120);
    harness.crash();
    await harness.want(document({ intent: ABORT }));
    for (let crash = 0; crash < 6; crash += 1) {
      await harness.pause(random() * 15);
      harness.crash();
    }
    await harness.phase('Deleted');
    expectNothingLeft(site);
  });

  it('says every event once', async () => {
    const site = new FakeSite(7);
    await using harness = new EngineHarness(site);
    await harness.want(document());
    for (let crash = 0; crash < 8; crash += 1) {
      await harness.pause(25);
      harness.crash();
    }
    await harness.phase('Running');
    const events = await harness.outbox.recentEvents({ cluster: 'cl-demo' }, 500);
    for (const reason of ['NodeReady', 'NodeJoined', 'MachineDeployed']) {
      const nodes = events.filter((event) => event.reason === reason).map(({ node }) => node);
      expect(nodes).toHaveLength(new Set(nodes).size);
    }
  });
});
