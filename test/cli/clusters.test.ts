/** `pcg clusters` against a real portal with a gateway on a real tunnel: day 2 from the command line. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import { DEFAULT_PROFILE } from '../../src/contract/default-profile.ts';
import { eventually } from '../support/eventually.ts';
import { clusterSpec } from '../support/portal.ts';
import { create, EXPLAIN, portalSite, type PortalSite, report } from '../support/portal-site.ts';
import { bareEnvironment, ENTRY } from '../support/program.ts';

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Nobody sits at its standard input. */
function pcg(environment: Record<string, string>, ...args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [ENTRY, 'clusters', ...args], {
    env: { ...bareEnvironment(), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk) => (text.out += String(chunk)));
  child.stderr.on('data', (chunk) => (text.err += String(chunk)));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, ...text })));
}

async function site() {
  await using stack = new AsyncDisposableStack();
  const s: PortalSite = stack.use(await portalSite());
  const { token } = (await s.portal.call('POST', '/api/v1/tokens', { name: 'cli' })).body;
  const directory = mkdtempSync(join(tmpdir(), 'pcg-clusters-'));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const environment = { PCG_PORTAL_URL: s.portal.url, PCG_PORTAL_TOKEN: token as string };
  const running = stack.move();
  return {
    ...s,
    environment,
    run: (...args: string[]) => pcg(environment, ...args),
    file(name: string, spec: object) {
      const path = join(directory, name);
      writeFileSync(path, JSON.stringify(spec));
      return path;
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

const ROLLOUT: ClusterStatus['rollout'] = {
  plan: 'p1',
  state: 'preview',
  steps: [{ node: 'prod-cp-1', action: 'replace', reason: 'Kubernetes v1.36.1 -> v1.37.0' }],
};

describe('pcg clusters', () => {
  it('creates from a file with names for ids, tries it first, and ends with the code of what is wrong', async () => {
    await using s = await site();
    const account = (await s.portal.call('GET', '/api/v1/cloud-accounts')).body.items[0].name as string;
    const spec = clusterSpec(account, { profile: DEFAULT_PROFILE.name });
    const path = s.file('prod.yaml', spec);
    const tried = await s.run('create', path, '--dry-run');
    expect(tried).toMatchObject({ code: 0, err: '' });
    expect((await s.portal.call('GET', '/api/v1/clusters')).body.items).toEqual([]);

    const made = await s.run('create', path, '--json');
    expect(made).toMatchObject({ code: 0 });
    expect(JSON.parse(made.out)).toMatchObject({
      result: 'ok',
      name: 'prod',
      generation: 1,
      phase: 'Pending',
    });
    expect(await s.run('create', path)).toMatchObject({ code: 9, err: expect.stringContaining('spec.name') });
    expect(await s.run('create', s.file('odd.yaml', { ...spec, profile: 'nobody' }))).toMatchObject({
      code: 2,
      err: expect.stringMatching(/spec\.profile[^]*ubuntu-flannel/),
    });
    s.gateway.answer(EXPLAIN, 200, {
      feasible: false,
      pools: [{ pool: 'workers', wanted: 2, matching: 0, rejections: [], nearestFix: 'Ask for 2 CPUs.' }],
      problems: [
        { code: 'NO_MATCHING_MACHINE', message: 'none', fix: 'Add.', retryable: false, userFixable: true },
      ],
    });
    expect(await s.run('create', s.file('b.yaml', { ...spec, name: 'b' }), '--dry-run')).toMatchObject({
      code: 10,
      out: expect.stringContaining('Ask for 2 CPUs.'),
    });
    expect((await s.run('list')).out).toContain('  prod  Pending');
  });

  it('lists the profiles, and takes the first when a specification names none', async () => {
    await using s = await site();
    const { out } = await s.run('profiles');
    expect(out.trim().split('\n')).toEqual([
      expect.stringMatching(/^ubuntu-flannel +ubuntu 24\.04, kubernetes 1\.36\.1, flannel /),
      expect.stringMatching(/^ubuntu-calico .*, calico /),
      expect.stringMatching(/^ubuntu-cilium .*, cilium /),
    ]);
    const account = (await s.portal.call('GET', '/api/v1/cloud-accounts')).body.items[0].name as string;
    const { profile: _none, ...spec } = clusterSpec(account);
    expect(await s.run('create', s.file('plain.yaml', spec))).toMatchObject({ code: 0 });
    const [made] = (await s.portal.call('GET', '/api/v1/clusters')).body.items;
    expect(made.spec.profile).toBe(DEFAULT_PROFILE.id);
    await s.portal.call('DELETE', '/api/v1/profiles/profile-ubuntu-calico');
    expect((await s.run('profiles')).out).not.toContain('calico');
  });

  it('scales up unasked, down only with a yes, and names pool and field', async () => {
    await using s = await site();
    const { body } = await create(s.portal);
    expect(await s.run('scale', 'prod', 'workers=4')).toMatchObject({ code: 0 });
    expect(await s.gateway.document('cluster', body.id, 2)).toMatchObject({
      spec: { spec: { pools: [{}, { size: 4 }] } },
    });
    expect(await s.run('scale', 'prod', 'workers=1')).toMatchObject({
      code: 2,
      err: expect.stringMatching(/release 3 machine[^]*--yes/),
    });
    expect(await s.run('scale', 'prod', 'workers=1', '--yes')).toMatchObject({ code: 0 });
    expect(await s.run('scale', 'prod', 'wrokers=1')).toMatchObject({
      code: 2,
      err: expect.stringContaining('cp=1, workers=1'),
    });
    expect(await s.run('scale', 'prod', 'cp=2')).toMatchObject({
      code: 2,
      err: expect.stringContaining('spec.pools[0].size'),
    });
    expect(await s.run('scale', 'nobody', 'workers=1')).toMatchObject({
      code: 1,
      err: expect.stringContaining('Known: prod'),
    });
  });

  it('sends back what it does not know, and nothing that the portal does not know', async () => {
    await using s = await site();
    const { body } = await create(s.portal);
    const { policies: _policies, ...older } = body.spec;
    const cluster = { ...body, spec: { ...older, invented: { later: true } } };
    let sent: { spec?: object } = {};
    const server = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk) => (text += String(chunk)));
      request.on('end', () => {
        if (request.method === 'PUT') sent = JSON.parse(text) as typeof sent;
        const list = request.url === '/api/v1/clusters';
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(list ? { items: [cluster] } : cluster));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      const environment = { ...s.environment, PCG_PORTAL_URL: `http://127.0.0.1:${port}` };
      expect(await pcg(environment, 'scale', 'prod', 'workers=4')).toMatchObject({ code: 0 });
    } finally {
      server.close();
      server.closeAllConnections();
    }
    const [control, workers] = older.pools;
    expect(sent.spec).toEqual({ ...cluster.spec, pools: [control, { ...workers, size: 4 }] });
  });

  it('shows the plan of an upgrade, leaves it waiting when nobody says yes, approves or rejects it', async () => {
    await using s = await site();
    const { id: _id, revision: _revision, ...input } = DEFAULT_PROFILE;
    await s.portal.call('POST', '/api/v1/profiles', {
      ...input,
      name: 'next',
      packs: input.packs.map((pack) =>
        pack.layer === 'kubernetes' ? { ...pack, kubernetesVersion: 'v1.37.0' } : pack,
      ),
    });
    const { body } = await create(s.portal);
    await report(s, body.id, { phase: 'Running' });
    const upgrade = s.run('upgrade', 'prod', '--profile', 'next');
    await s.gateway.document('cluster', body.id, 2);
    await report(s, body.id, { phase: 'Running', observedGeneration: 2, rollout: ROLLOUT });
    expect(await upgrade).toMatchObject({
      code: 0,
      out: expect.stringContaining('replace prod-cp-1: Kubernetes v1.36.1 -> v1.37.0'),
      err: expect.stringContaining('pcg clusters approve prod'),
    });
    expect(await s.run('approve', 'prod', '--no-input')).toMatchObject({
      code: 2,
      out: expect.stringContaining('Plan p1'),
      err: expect.stringContaining('--yes'),
    });
    expect(await s.run('reject', 'prod')).toMatchObject({ code: 0 });
    expect(await s.gateway.document('cluster', body.id, 3)).toMatchObject({
      spec: { profile: { name: DEFAULT_PROFILE.name } },
    });
    await report(s, body.id, { phase: 'Running', observedGeneration: 3 });
    expect(await s.run('approve', 'prod', '--yes')).toMatchObject({ code: 9 });

    const waiting = s.run('upgrade', 'prod', '--profile', 'next', '--yes', '--wait', '--json');
    await s.gateway.document('cluster', body.id, 4);
    await report(s, body.id, { phase: 'Running', observedGeneration: 4, rollout: ROLLOUT });
    const approved = await s.gateway.document('cluster', body.id, 5);
    expect(approved.spec).toMatchObject({ actions: [{ kind: 'approve-rollout', plan: 'p1' }] });
    await report(s, body.id, {
      phase: 'Running',
      observedGeneration: 5,
      rollout: { ...ROLLOUT, state: 'running' },
    });
    await report(s, body.id, { phase: 'Running', observedGeneration: 5 });
    const ended = await waiting;
    expect(ended.code).toBe(0);
    expect(JSON.parse(ended.out.trim().split('\n').at(-1) ?? '')).toMatchObject({
      result: 'ok',
      generation: 5,
      phase: 'Running',
    });
  });

  it('deletes a backup only with a yes, and takes nothing else for the name of one', async () => {
    await using s = await site();
    const { body } = await create(s.portal);
    await report(s, body.id, { phase: 'Running', observedGeneration: 1 });
    expect(await s.run('delete-backup', 'prod', 'pcg-1')).toMatchObject({
      code: 2,
      err: expect.stringMatching(/Delete pcg-1 of prod for good\?[^]*--yes/),
    });
    expect(await s.run('delete-backup', 'prod', '../pcg-1', '--yes')).toMatchObject({
      code: 2,
      err: expect.stringContaining('backup'),
    });
    expect(await s.run('delete-backup', 'prod', '--yes')).toMatchObject({ code: 2 });
    expect(await s.run('delete-backup', 'nobody', 'pcg-1', '--yes')).not.toMatchObject({ code: 0 });
    expect((await s.gateway.document('cluster', body.id, 1)).spec).toMatchObject({ actions: [] });
    const ended = await s.run('delete-backup', 'prod', 'pcg-1', '--yes', '--json');
    expect(ended.code).toBe(0);
    expect(JSON.parse(ended.out)).toMatchObject({ result: 'ok', name: 'prod', generation: 2 });
    expect((await s.gateway.document('cluster', body.id, 2)).spec).toMatchObject({
      actions: [{ kind: 'delete-backup', backup: 'pcg-1' }],
    });
  });

  it('deletes only with the name, waits for the end, and reads through the portal', async () => {
    await using s = await site();
    const { body } = await create(s.portal);
    await report(s, body.id, { phase: 'Running', observedGeneration: 1 });
    s.gateway.emit({ cluster: body.id, reason: 'ClusterRunning', message: 'prod is Running' });
    await eventually(async () => (await s.run('events', 'prod')).out.includes('prod is Running'));
    s.gateway.emit({ cluster: body.id, reason: 'NodeReady', message: 'prod-w-1 is Ready' });
    await eventually(async () => (await s.run('events', 'prod')).out.includes('prod-w-1 is Ready'));
    expect((await s.run('events', 'prod', '--limit', '1')).out).not.toContain('prod is Running');
    expect((await s.run('kubeconfig', 'prod')).out).toContain(`/k8s/clusters/${body.id}`);
    expect((await s.run('spec', 'prod')).out).toContain('name: prod');
    expect(await s.run('abort', 'prod', '--yes')).toMatchObject({ code: 9 });
    expect(await s.run('delete', 'prod', '--yes')).toMatchObject({
      code: 2,
      err: expect.stringContaining('--confirm prod'),
    });
    expect(await s.run('delete', 'prod', '--confirm', 'other')).toMatchObject({ code: 2 });
    expect(await s.run('force-delete', 'prod', '--confirm', 'prod')).toMatchObject({ code: 9 });
    const deleting = s.run('delete', 'prod', '--confirm', 'prod', '--wait');
    await s.gateway.document('cluster', body.id, 2);
    s.gateway.emit({ cluster: body.id, reason: 'MachineReleased', message: 'calm-gecko was given back' });
    await eventually(async () => (await s.run('events', 'prod')).out.includes('calm-gecko'));
    s.gateway.report('cluster', body.id, {
      phase: 'Deleted',
      observedGeneration: 2,
      observedAt: new Date().toISOString(),
      conditions: [],
      nodes: [],
      tasks: [],
      progress: { done: 0, total: 0 },
      policies: [],
      leftovers: [],
    });
    const deleted = await deleting;
    expect(deleted).toMatchObject({ code: 0, out: expect.stringContaining('Deleted') });
    expect(deleted.err).toContain('calm-gecko was given back');
    expect(deleted.err).not.toContain('prod is Running');
  });

  it('ends with 4 without a good token, 6 without a portal, 2 when none is named', async () => {
    const nobody = { PCG_PORTAL_URL: 'http://127.0.0.1:9' };
    expect(await pcg(nobody, 'list')).toMatchObject({
      code: 4,
      err: expect.stringContaining('PCG_PORTAL_TOKEN'),
    });
    expect(await pcg({ ...nobody, PCG_PORTAL_TOKEN: 'x'.repeat(20) }, 'list')).toMatchObject({ code: 6 });
    expect(await pcg({}, 'scale', 'prod', 'workers=1')).toMatchObject({
      code: 2,
      err: expect.stringContaining('PCG_PORTAL_URL'),
    });
    await using s = await site();
    expect(await pcg({ ...s.environment, PCG_PORTAL_TOKEN: 'x'.repeat(20) }, 'list')).toMatchObject({
      code: 4,
    });
  });
});
