/** A change that replaces nodes is shown, approved or taken back; actions must name what exists. */
import { describe, expect, it } from 'vitest';
import type { ClusterStatus } from '../../src/contract/cluster.ts';
import { DEFAULT_PROFILE } from '../../src/contract/default-profile.ts';
import { clusterSpec } from '../support/portal.ts';
import { ACCOUNT, create, portalSite, type PortalSite, report } from '../support/portal-site.ts';

const preview = (plan: string, state: 'preview' | 'running' = 'preview'): Partial<ClusterStatus> => ({
  phase: 'Running',
  rollout: { plan, state, steps: [{ node: 'prod-cp-1', action: 'replace', reason: 'v1.36.1 -> v1.37.0' }] },
});

const { id: _id, revision: _revision, ...INPUT } = DEFAULT_PROFILE;

const withVersion = (kubernetesVersion: string) =>
  INPUT.packs.map((pack) => (pack.layer === 'kubernetes' ? { ...pack, kubernetesVersion } : pack));

/** A profile of its own, so that its later revisions are nobody else's. */
async function running(s: PortalSite, runs = 'v1.36.1') {
  const made = await s.portal.call('POST', '/api/v1/profiles', {
    ...INPUT,
    name: 'ours',
    packs: withVersion(runs),
  });
  const profile = made.body.id as string;
  const { body } = await create(s.portal, { profile });
  const path = `/api/v1/clusters/${body.id}`;
  await report(s, body.id, { phase: 'Running' });
  const upgrade = async (version: string, revision: number) => {
    const changed = await s.portal.call('PUT', `/api/v1/profiles/${profile}`, {
      ...INPUT,
      name: 'ours',
      packs: withVersion(version),
      revision,
    });
    expect(changed.status).toBe(200);
  };
  const put = (generation: number, changes: object = {}) =>
    s.portal.call('PUT', `${path}/spec`, {
      generation,
      spec: clusterSpec(ACCOUNT, { profile, ...changes }),
    });
  const version = async (generation: number) => {
    const document = await s.gateway.document('cluster', body.id, generation);
    return (document.spec as { profile: typeof body }).profile.kubernetes.kubernetesVersion as string;
  };
  return { id: body.id as string, path, upgrade, put, version };
}

describe('a rollout that waits', () => {
  it('is taken back to exactly what the nodes run, although the profile was edited', async () => {
    await using s = await portalSite();
    const c = await running(s);
    await c.upgrade('v1.37.0', 1);
    const bigger = [
      { role: 'control-plane', name: 'cp', size: 1 },
      { role: 'worker', name: 'workers', size: 5 },
    ];
    expect((await c.put(1, { pools: bigger })).status).toBe(202);
    expect(await c.version(2)).toBe('v1.37.0');
    await report(s, c.id, { ...preview('p1'), observedGeneration: 2 });

    expect(await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p0' })).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', field: 'plan' },
    });
    const back = await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p1' });
    expect(back).toMatchObject({ status: 202, body: { generation: 3 } });
    expect(await c.version(3)).toBe('v1.36.1');
    // The pool was scaled by the same change; that needed no approval and stays.
    expect(back.body.spec.pools[1].size).toBe(5);
    expect((await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p1' })).status).toBe(409);
  });

  it('goes back over several unapproved changes, and judges versions by what runs', async () => {
    await using s = await portalSite();
    const c = await running(s, 'v1.35.2');
    await c.upgrade('v1.36.0', 1);
    expect((await c.put(1)).status).toBe(202);
    await report(s, c.id, { ...preview('p1'), observedGeneration: 2 });
    await c.upgrade('v1.37.0', 2);
    expect(await c.put(2)).toMatchObject({ status: 400, body: { code: 'VERSION_SKEW' } });
    await c.upgrade('v1.36.4', 3);
    expect((await c.put(2)).status).toBe(202);
    await report(s, c.id, { ...preview('p2'), observedGeneration: 3 });
    expect((await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p2' })).status).toBe(202);
    expect(await c.version(4)).toBe('v1.35.2');
  });

  it('is not taken back once it is approved, and what follows is judged by the approved version', async () => {
    await using s = await portalSite();
    const c = await running(s);
    await c.upgrade('v1.37.0', 1);
    await c.put(1);
    await report(s, c.id, { ...preview('p1'), observedGeneration: 2 });
    const act = (body: object) => s.portal.call('POST', `${c.path}/actions`, body);
    expect(await act({ kind: 'approve-rollout', plan: 'p7' })).toMatchObject({
      status: 409,
      body: { field: 'plan', fix: expect.stringContaining('p1') },
    });
    expect((await act({ kind: 'approve-rollout', plan: 'p1' })).status).toBe(202);
    // The gateway has not heard of the approval yet.
    expect((await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p1' })).status).toBe(409);
    await report(s, c.id, { ...preview('p1', 'running'), observedGeneration: 3 });
    expect((await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p1' })).status).toBe(409);
    await c.upgrade('v1.36.4', 2);
    expect(await c.put(3)).toMatchObject({ status: 400, body: { code: 'VERSION_SKEW' } });
  });

  it('begins anew from what runs after a change that the gateway has carried out', async () => {
    await using s = await portalSite();
    const c = await running(s);
    await c.upgrade('v1.36.2', 1);
    await c.put(1);
    await report(s, c.id, { ...preview('p1'), observedGeneration: 2 });
    await report(s, c.id, { phase: 'Running', observedGeneration: 2, rollout: undefined });
    await c.upgrade('v1.37.0', 2);
    await c.put(2);
    await report(s, c.id, { ...preview('p2'), observedGeneration: 3 });
    await s.portal.call('POST', `${c.path}/reject-rollout`, { plan: 'p2' });
    expect(await c.version(4)).toBe('v1.36.2');
  });
});

describe('actions', () => {
  it('name a node, machine or host that the gateway reported', async () => {
    await using s = await portalSite();
    const c = await running(s);
    await report(s, c.id, {
      phase: 'Running',
      observedGeneration: 1,
      nodes: [
        {
          name: 'prod-cp-1',
          pool: 'cp',
          role: 'control-plane',
          phase: 'Ready',
          systemId: 'abc123',
          hostname: 'fox',
          addresses: [],
          maintenance: false,
          tasks: [],
        },
      ],
    });
    const act = (machine: string) =>
      s.portal.call('POST', `${c.path}/actions`, { kind: 'maintenance', machine, on: true });
    expect(await act('nobody')).toMatchObject({
      status: 404,
      body: { code: 'NOT_FOUND', field: 'machine' },
    });
    for (const machine of ['fox', 'abc123', 'prod-cp-1'])
      await expect.poll(async () => (await act(machine)).status).toBe(202);
  });
});

describe('questions to the gateway', () => {
  it('may take back a quarantine, for administrators only', async () => {
    await using s = await portalSite();
    const gateway = (await s.portal.call('GET', '/api/v1/gateways')).body.items[0].id as string;
    s.gateway.answer(`DELETE /v1/accounts/${ACCOUNT}/quarantine/abc123`, 204, undefined);
    const path = `/api/v1/gateways/${gateway}/ask/v1/accounts/${ACCOUNT}/quarantine/abc123`;
    expect((await s.portal.call('DELETE', path)).status).toBe(204);
    await s.portal.call('POST', '/api/v1/users', {
      email: 'v@example.test',
      role: 'viewer',
      password: 'only looking here',
    });
    const token = await s.portal.signIn('v@example.test', 'only looking here');
    expect(
      (await s.portal.call('DELETE', path, undefined, { authorization: `Bearer ${token}` })).status,
    ).toBe(403);
  });
});
