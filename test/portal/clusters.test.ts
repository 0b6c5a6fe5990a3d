/** Clusters through the real API with a gateway on a real tunnel: created, changed, deleted by the rules of the house. */
import { describe, expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';
import { ClusterSchema } from '../../src/contract/cluster.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { clusterSpec, testPortal } from '../support/portal.ts';
import { ACCOUNT, create, EXPLAIN, FEASIBLE, portalSite as site, report } from '../support/portal-site.ts';

describe('create', () => {
  it('checks placement through the gateway, stores, and hands the document down', async () => {
    await using s = await site();
    const made = await create(s.portal);
    expect(made.status).toBe(201);
    const cluster = ClusterSchema.parse(made.body);
    const document = await s.gateway.document('cluster', cluster.id);
    expect(document).toMatchObject({
      generation: 1,
      spec: { id: cluster.id, intent: { kind: 'present' }, profile: { name: 'ubuntu-flannel' } },
    });
    const explained = s.gateway.asked.find(({ path }) => path.endsWith('/explain'));
    expect(explained).toMatchObject({
      body: { image: 'ubuntu/noble' },
      open: {
        target: 'agent',
        principal: { user: 'admin@example.test', groups: ['pcg:tenant-admin', 'kubeadm:cluster-admins'] },
      },
    });
  });

  it('refuses what cannot be placed with the code of the site, and stores nothing', async () => {
    await using s = await site();
    s.gateway.answer(EXPLAIN, 200, {
      feasible: false,
      pools: [],
      problems: [
        {
          code: 'NO_MATCHING_MACHINE',
          message: 'no machine has 64 CPUs',
          fix: 'Lower it.',
          retryable: false,
          userFixable: true,
          field: 'pools[1].placement.minCpu',
        },
      ],
    });
    const refused = await create(s.portal);
    expect(refused).toMatchObject({
      status: 409,
      body: { code: 'NO_MATCHING_MACHINE', field: 'spec.pools[1].placement.minCpu', fix: 'Lower it.' },
    });
    expect((await s.portal.call('GET', '/api/v1/clusters')).body.items).toEqual([]);
    expect((await create(s.portal, {}, {})).status).toBe(409);
    const skipped = await s.portal.call('POST', '/api/v1/clusters?preflight=skip', {
      spec: clusterSpec(ACCOUNT),
    });
    expect(skipped.status).toBe(201);
  });

  it.each([
    ['httpsProxy', 'proxy.example:3128'],
    ['httpProxy', 'socks5://proxy.example'],
    ['noProxy', ['10.0.0.0/8 .site.example']],
    ['ntpServers', ['ntp1.example ntp2.example']],
    ['sshAuthorizedKeys', ['-----BEGIN OPENSSH PRIVATE KEY-----']],
    ['sshAuthorizedKeys', ['ssh-ed25519 AAAAC3 me\nssh-ed25519 AAAAC4 not-me']],
    ['caCertificates', ['/etc/ssl/ca.pem']],
  ])('refuses nodes whose %s could not work: %j', async (name, value) => {
    await using s = await site();
    expect(await create(s.portal, { nodes: { [name]: value } })).toMatchObject({
      status: 400,
      body: { code: 'INVALID_INPUT', field: `spec.nodes.${name}`, fix: expect.any(String) },
    });
  });

  it('makes one cluster of any number of equal requests with one Idempotency-Key', async () => {
    await using s = await site();
    const key = { 'idempotency-key': 'k1' };
    const answers = await Promise.all(Array.from({ length: 6 }, () => create(s.portal, {}, key)));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    expect(await create(s.portal, { name: 'other' }, key)).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', field: 'Idempotency-Key' },
    });
  });

  it('keeps names unique among living clusters, also under a race', async () => {
    await using s = await site();
    const answers = await Promise.all(Array.from({ length: 5 }, () => create(s.portal)));
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 409, 409, 409, 409]);
    expect(answers.find(({ status }) => status === 409)?.body).toMatchObject({
      code: 'CLUSTER_NAME_TAKEN',
      field: 'spec.name',
    });
  });

  it.each([
    [{ name: 'No' }, 'spec.name'],
    [{ pools: [] }, 'spec.pools'],
    [{ pools: [{ role: 'control-plane', name: 'cp', size: 2 }] }, 'spec.pools[0].size'],
    [{ pools: [{ role: 'control-plane', name: 'cp', size: 1, minCpu: 3 }] }, 'spec.pools[0].minCpu'],
    [{ network: { podCidr: 'ten' } }, 'spec.network.podCidr'],
    [{ cloudAccount: 'ca-none' }, 'spec.cloudAccount'],
    [{ profile: 'pr-none' }, 'spec.profile'],
    [{ packValues: { flannel: { speed: 1 } } }, 'spec.packValues.flannel.speed'],
    [{ packValues: { flannel: { backend: 'pigeon' } } }, 'spec.packValues.flannel.backend'],
    [{ packValues: { calico: {} } }, 'spec.packValues.calico'],
  ])('names the field of %j', async (changes, field) => {
    await using s = await site();
    const refused = await create(s.portal, changes as never);
    expect(refused.status).toBeGreaterThanOrEqual(400);
    expect(refused.status).toBeLessThan(500);
    expect(refused.body).toMatchObject({ field });
  });

  it('says that the gateway is offline, at once, and creates nevertheless when told to skip', async () => {
    await using s = await site();
    await s.gateway.disconnect();
    await eventually(async () => {
      const { body } = await s.portal.call('GET', '/api/v1/gateways');
      return body.items[0].connection.state === 'disconnected';
    });
    const refused = await create(s.portal);
    expect(refused).toMatchObject({ status: 503, body: { code: 'GATEWAY_OFFLINE', retryable: true } });
    const skipped = await s.portal.call('POST', '/api/v1/clusters?preflight=skip', {
      spec: clusterSpec(ACCOUNT),
    });
    expect(skipped.status).toBe(201);
  });

  it('does not build on an account that is switched off (R98)', async () => {
    await using s = await site();
    const off = await s.portal.call('PUT', `/api/v1/cloud-accounts/${ACCOUNT}`, { enabled: false });
    expect(off.body.enabled).toBe(false);
    expect(await s.gateway.document('cloud-account', ACCOUNT, 2)).toMatchObject({ spec: { enabled: false } });
    expect(await create(s.portal)).toMatchObject({ status: 409, body: { field: 'spec.cloudAccount' } });
  });
});

describe('change', () => {
  it('replaces the specification only at its newest generation and only where it may change', async () => {
    await using s = await site();
    const { body: cluster } = await create(s.portal);
    const path = `/api/v1/clusters/${cluster.id}/spec`;
    const bigger = clusterSpec(ACCOUNT, {
      pools: [
        { role: 'control-plane', name: 'cp', size: 1 },
        { role: 'worker', name: 'workers', size: 4 },
      ],
    });
    expect(await s.portal.call('PUT', path, { generation: 7, spec: bigger })).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', field: 'generation', details: { generation: 1 } },
    });
    expect((await s.portal.call('PUT', path, { generation: 1, spec: bigger })).body.generation).toBe(2);
    expect(await s.gateway.document('cluster', cluster.id, 2)).toMatchObject({ generation: 2 });
    for (const [changes, field] of [
      [{ name: 'other' }, 'spec.name'],
      [{ domain: 'elsewhere' }, 'spec.domain'],
      [{ network: { podCidr: '10.99.0.0/16' } }, 'spec.network'],
    ] as const)
      expect(
        await s.portal.call('PUT', path, { generation: 2, spec: { ...bigger, ...changes } }),
      ).toMatchObject({
        status: 400,
        body: { field },
      });
  });

  it('carries one-off actions with an id each', async () => {
    await using s = await site();
    const { body: cluster } = await create(s.portal);
    const path = `/api/v1/clusters/${cluster.id}/actions`;
    expect((await s.portal.call('POST', path, { kind: 'retry' })).status).toBe(202);
    expect((await s.portal.call('POST', path, { kind: 'dance' })).status).toBe(400);
    const document = await s.gateway.document('cluster', cluster.id, 2);
    expect(document.spec).toMatchObject({ actions: [{ kind: 'retry', id: expect.stringMatching(/^ac-/) }] });
  });
});

describe('delete, abort, force delete', () => {
  it('aborts what is not provisioned and deletes what is, with its name typed (R121, R123)', async () => {
    await using s = await site();
    const { body: cluster } = await create(s.portal);
    const at = `/api/v1/clusters/${cluster.id}`;
    expect(await s.portal.call('POST', `${at}/delete`, { confirm: 'prod' })).toMatchObject({
      status: 409,
      body: { code: 'CLUSTER_NOT_DELETABLE' },
    });
    await report(s, cluster.id, { phase: 'Running', progress: { done: 3, total: 3 } });
    expect((await s.portal.call('POST', `${at}/abort`, {})).status).toBe(409);
    expect(await s.portal.call('POST', `${at}/delete`, { confirm: 'wrong' })).toMatchObject({
      status: 400,
      body: { field: 'confirm' },
    });
    const deleting = await s.portal.call('POST', `${at}/delete`, { confirm: 'prod' });
    expect(deleting).toMatchObject({ status: 202, body: { intent: { kind: 'delete', reason: 'delete' } } });
    const again = await s.portal.call('POST', `${at}/delete`, { confirm: 'prod' });
    expect(again.body.generation).toBe(deleting.body.generation);
    await s.gateway.document('cluster', cluster.id, 2);
    await report(s, cluster.id, { phase: 'Deleted', observedGeneration: 2 });
    expect((await s.portal.call('GET', '/api/v1/clusters')).body.items).toEqual([]);
    const deleted = await s.portal.call('GET', '/api/v1/clusters?deleted=72h');
    expect(deleted.body.items).toMatchObject([{ id: cluster.id, deletedAt: expect.any(String) }]);
    expect(await s.gateway.document('cluster', cluster.id, 3)).toMatchObject({ spec: null });
    expect((await create(s.portal)).status).toBe(201);
  });

  it('opens force delete 15 minutes after Delete, for administrators, and waits for nobody (R124-R128)', async () => {
    let skewMs = 0;
    const began = Date.now();
    const clock = { ...steadyClock, now: () => began + skewMs };
    await using s = await site({ clock });
    const { body: cluster } = await create(s.portal);
    const at = `/api/v1/clusters/${cluster.id}`;
    await report(s, cluster.id, {
      phase: 'Running',
      nodes: [
        {
          name: 'prod-cp-1',
          pool: 'cp',
          role: 'control-plane',
          phase: 'Ready',
          systemId: 'abc123',
          addresses: [],
          maintenance: false,
          tasks: [],
        },
      ],
    });
    const force = () => s.portal.call('POST', `${at}/force-delete`, { confirm: 'prod' });
    expect(await force()).toMatchObject({ status: 409, body: { code: 'FORCE_DELETE_TOO_EARLY' } });
    await s.portal.call('POST', `${at}/delete`, { confirm: 'prod' });
    skewMs = 14 * 60_000;
    expect(await force()).toMatchObject({
      status: 409,
      body: { details: { forceDeleteAt: expect.any(String) } },
    });
    skewMs = 15 * 60_000 + 1_000;
    await s.gateway.disconnect();
    await eventually(
      async () => (await s.portal.call('GET', at)).body.stale === true || (skewMs += 20_000) < 0,
    );
    const forced = await force();
    expect(forced).toMatchObject({
      status: 202,
      body: {
        deletedAt: expect.any(String),
        status: { phase: 'Deleted', leftovers: [{ kind: 'machine', id: 'abc123' }] },
      },
    });
  });

  it('is not for viewers', async () => {
    await using s = await site();
    const { body: cluster } = await create(s.portal);
    await s.portal.call('POST', '/api/v1/users', {
      email: 'v@example.test',
      role: 'viewer',
      password: 'only looking here',
    });
    const token = await s.portal.signIn('v@example.test', 'only looking here');
    const as = { authorization: `Bearer ${token}` };
    expect((await s.portal.call('GET', '/api/v1/clusters', undefined, as)).status).toBe(200);
    for (const path of ['delete', 'abort', 'force-delete'])
      expect(await s.portal.call('POST', `/api/v1/clusters/${cluster.id}/${path}`, {}, as)).toMatchObject({
        status: 403,
        body: { code: 'FORBIDDEN' },
      });
  });
});

describe('staleness (X11)', () => {
  it('shows Unknown with the last known phase once the gateway is away, and recovers', async () => {
    await using portal = await testPortal({ limits: { staleAfterMs: 0 } });
    const { identity, paired } = await portal.pair('dc1');
    let id = '';
    {
      await using gateway = await connectGateway(identity, paired);
      await eventually(
        async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1,
      );
      gateway.answer(EXPLAIN, 200, FEASIBLE);
      id = (await create(portal)).body.id;
      const available = {
        type: 'Available',
        status: 'True',
        reason: 'Succeeded',
        message: 'the API answers',
      } as const;
      const lastTransitionTime = new Date(0).toISOString();
      await report({ portal, gateway }, id, {
        phase: 'Running',
        conditions: [{ ...available, lastTransitionTime }],
      });
    }
    await eventually(async () => {
      const { body } = await portal.call('GET', `/api/v1/clusters/${id}`);
      return body.stale && body.status.phase === 'Unknown' && body.lastKnownPhase === 'Running';
    });
    // Lists and single answers alike: nothing that nobody looks at is called true.
    const { body: list } = await portal.call('GET', '/api/v1/clusters');
    const { body: one } = await portal.call('GET', `/api/v1/clusters/${id}`);
    for (const cluster of [one, list.items[0]])
      expect(cluster.status.conditions).toMatchObject([
        {
          type: 'Available',
          status: 'Unknown',
          reason: 'Stale',
          message: 'last known: True, the API answers',
        },
      ]);
    await using _again = await connectGateway(identity, paired);
    await eventually(
      async () => (await portal.call('GET', `/api/v1/clusters/${id}`)).body.status.phase === 'Running',
    );
  });
});
