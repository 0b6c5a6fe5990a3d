/** Before an upgrade to a new minor changes anything, etcd is saved; without that the upgrade does not begin. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ClusterDocument } from '../../src/contract/cluster.ts';
import type { Policies } from '../../src/contract/policies.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { startBucket } from '../support/bucket.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';
import { inside } from '../support/workload.ts';

const placement = { resourcePool: 'kubernetes' };
const FROM = 'v1.35.4';
const TO = 'v1.36.1';
const FILE = `etcd-before-${TO}.db`;

type Backups = Partial<Policies['backups']>;

function document(version: string, backups: Backups = {}, actions: ClusterDocument['actions'] = []) {
  const profile = resolvedProfile();
  return wanted({
    spec: clusterSpec({
      pools: [{ role: 'control-plane', name: 'cp', size: 1, placement }],
      policies: { backups },
    }),
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
    actions,
  });
}

async function running(backups: Backups = {}, open = () => '') {
  const directory = await mkdtemp(join(tmpdir(), 'pcg-upgrade-'));
  const site = await SimulatedSite.start({ speed: 200, snapshots: { directory, open } });
  await site.want(document(FROM, backups));
  await site.phase('Running');
  const said = async (reason: string) =>
    (await site.outbox.recentEvents({}, 1000)).filter((event) => event.reason === reason);
  return {
    site,
    folder: join(directory, 'cl-demo'),
    said,
    stored: () =>
      String(
        inside(site).core.store.get(R.configmaps, 'kube-system', 'kubeadm-config')?.['data']
          .ClusterConfiguration,
      ),
    async approve(version: string, how: Backups = backups) {
      await site.want(document(version, how));
      const preview = await site.until('preview', ({ rollout }) => rollout?.state === 'preview');
      const go = {
        id: `ac-${version.replaceAll('.', '-')}`,
        kind: 'approve-rollout' as const,
        plan: preview.rollout?.plan ?? '',
      };
      await site.want(document(version, how, [go]));
      return go;
    },
    upgraded: (version: string) =>
      site.until(`upgraded to ${version}`, ({ phase, nodes }) => {
        const [node, ...others] = inside(site).core.store.list(R.nodes);
        const moved = node?.status?.nodeInfo?.kubeletVersion === version && others.length === 0;
        return phase === 'Running' && nodes.length === 1 && moved;
      }),
    async [Symbol.asyncDispose]() {
      await site[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function bucket(url: string) {
  const target = { url, bucket: 'backups', prefix: '', region: 'eu-1', sealedCredentials: 'box' };
  return { target, workloads: false };
}
const credentials = () => JSON.stringify({ accessKeyId: 'AKID', secretAccessKey: 'hidden' });

describe('an upgrade to a new minor', () => {
  it('saves etcd on the gateway first when no target is named; a patch saves nothing', async () => {
    await using s = await running();
    await s.approve(TO);
    await s.upgraded(TO);
    expect(await readdir(s.folder)).toEqual([FILE]);
    // What was saved is the cluster as it was before: its stored configuration names the old version.
    const content = (await readFile(join(s.folder, FILE))).toString('latin1');
    expect(content).toContain(FROM);
    expect(content).not.toContain(TO);
    const [saved, ...more] = await s.said('EtcdSaved');
    expect(more).toEqual([]);
    expect(saved).toMatchObject({
      severity: 'info',
      data: { name: `cl-demo/${FILE}`, bytes: expect.any(Number) },
    });

    await s.approve('v1.36.2');
    await s.upgraded('v1.36.2');
    expect(await readdir(s.folder)).toEqual([FILE]);
    expect(await s.said('EtcdSaved')).toHaveLength(1);
  });

  it('does not begin while the target refuses, until the user wants no snapshots', async () => {
    await using s3 = await startBucket();
    await using s = await running(bucket(s3.url), credentials);
    s3.refuseAll();
    const go = await s.approve(TO);
    const { error } = await s.site.until('held', (now) => now.error !== undefined);
    expect(error).toMatchObject({
      code: 'UPGRADE_NOT_SAVED',
      message: expect.stringContaining('HTTP 403 AccessDenied'),
      fix: expect.stringContaining('policies.backups.etcdSnapshots'),
      details: { cause: 'BACKUP_TARGET_FAILED' },
    });
    expect(s.stored()).toContain(FROM);
    expect(inside(s.site).core.store.list(R.nodes)).toHaveLength(1);
    expect(await s.said('UpgradePrepared')).toEqual([]);

    await s.site.want(document(TO, { ...bucket(s3.url), etcdSnapshots: false }, [go]));
    await s.upgraded(TO);
    expect((await s.said('EtcdNotSaved')).map(({ message }) => message)).toEqual([
      expect.stringContaining('policies.backups.etcdSnapshots is false'),
    ]);
    expect([...s3.objects.keys()]).toEqual([]);
  });

  it.each(['before', 'after'] as const)(
    'killed %s it has written down its snapshot: none is missed, and what is known is not saved again',
    async (moment) => {
      await using s3 = await startBucket();
      await using s = await running(bucket(s3.url), credentials);
      s.site.killOnWrites((value) => {
        const { savedBefore } = value as { savedBefore?: unknown };
        return savedBefore !== undefined && s.site.kills === 0 ? moment : undefined;
      });
      await s.approve(TO);
      await s.upgraded(TO);
      expect(s.site.kills).toBe(1);
      expect([...s3.objects.keys()]).toEqual([`/backups/cl-demo/${FILE}`]);
      // Each snapshot is one PUT and one list of what is old.
      expect(s3.seen).toHaveLength(moment === 'before' ? 4 : 2);
      expect(await s.said('UpgradePrepared')).toHaveLength(1);
    },
  );

  it('that is given up and wanted again saves again what was changed meanwhile', async () => {
    await using s3 = await startBucket();
    await using s = await running(bucket(s3.url), credentials);
    // Stands still after the snapshot: there is no configuration that it could change.
    const { core } = inside(s.site);
    const kept = core.store.get(R.configmaps, 'kube-system', 'kubeadm-config');
    if (!kept) throw new Error('no kubeadm-config');
    core.store.delete(R.configmaps, 'kube-system', 'kubeadm-config');
    const go = await s.approve(TO);
    await s.site.until('saved', () => s3.objects.size === 1);
    const [key = '', first] = [...s3.objects][0] ?? [];
    await s.site.want(document(FROM, bucket(s3.url), [go]));
    await s.site.until('given up', ({ rollout }) => rollout === undefined);
    core.ensure(R.configmaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'kubeadm-config', namespace: 'kube-system' },
      data: kept['data'],
    });
    await s.site.want(document(TO, bucket(s3.url), [go]));
    await s.upgraded(TO);
    expect([...s3.objects.keys()]).toEqual([key]);
    expect(s3.objects.get(key)?.equals(first ?? Buffer.alloc(0))).toBe(false);
    expect(await s.said('EtcdSaved')).toHaveLength(2);
  });

  it('that is given up while its snapshot is on the way changes nothing, and can be wanted again', async () => {
    await using s3 = await startBucket();
    await using s = await running(bucket(s3.url), credentials);
    const release = s3.hold();
    const go = await s.approve(TO);
    await s.site.until('under way', () => s3.seen.length === 1);
    await s.site.want(document(FROM, bucket(s3.url), [go]));
    await s.site.until('given up', ({ rollout }) => rollout === undefined);
    release();
    // Whatever still runs has all the time in the world.
    await s.site.clock.sleep(5_000);
    expect(s.stored()).toContain(FROM);
    expect(s.stored()).not.toContain(TO);
    expect(await s.said('UpgradePrepared')).toEqual([]);
    const { phase, error } = s.site.engine.status('cl-demo') ?? {};
    expect([phase, error]).toEqual(['Running', undefined]);

    await s.site.want(document(TO, bucket(s3.url), [go]));
    await s.upgraded(TO);
    expect([...s3.objects.keys()]).toEqual([`/backups/cl-demo/${FILE}`]);
  });

  it('that is given up while the gateway is dead leaves nothing of itself for nodes that join later', async () => {
    await using s = await running();
    // The stored configuration is the new one already; that it is, is not written down yet.
    s.site.killOnWrites((value) => {
      const { controlPlaneVersion } = value as { controlPlaneVersion?: string };
      if (controlPlaneVersion !== TO || s.site.kills > 0) return undefined;
      expect(s.stored()).toContain(TO);
      void s.site.want(document(FROM));
      return 'before';
    });
    await s.approve(TO);
    await s.site.until('given up', ({ rollout }) => s.site.kills > 0 && rollout === undefined);
    await s.site.until('put back', () => s.stored().includes(FROM) && !s.stored().includes(TO));
    const { phase, error } = await s.site.phase('Running');
    expect([phase, error]).toEqual(['Running', undefined]);
    s.site.killOnWrites(undefined);
    await s.site.want(document(TO));
    await s.upgraded(TO);
  });
});
