/** A snapshot as the policy stores it, given to a real etcd: what was written before comes back from it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { StepContext } from '../../src/cluster/context.ts';
import { snapshotEtcd } from '../../src/cluster/policies/snapshot.ts';
import type { Policies } from '../../src/contract/policies.ts';
import { createEtcdClient } from '../../src/kube/etcd.ts';
import { startBucket } from '../support/bucket.ts';
import { document } from '../support/engine.ts';
import { createEtcdNodes, type EtcdNode, type EtcdNodes } from '../support/etcd.ts';
import { describeWith, findProgram } from '../support/needs.ts';
import { clusterSpec } from '../support/node-input.ts';
import { ownPort } from '../support/own-port.ts';
import { patientClock } from '../support/patient-clock.ts';

const signal = new AbortController().signal;
const run = promisify(execFile);
const KEYS = 20;
const valueOf = (at: number) => `value-${at} `.repeat(5000);

async function temporary() {
  const path = await mkdtemp(join(tmpdir(), 'pcg-restore-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const etcdctl = (args: readonly string[]) =>
  run(findProgram('etcdctl') ?? 'etcdctl', [...args], {
    // Of its own it gives up after two and five seconds.
    env: {
      ...process.env,
      ETCDCTL_API: '3',
      ETCDCTL_DIAL_TIMEOUT: '120s',
      ETCDCTL_COMMAND_TIMEOUT: '120s',
    },
    maxBuffer: 64 * 1024 * 1024,
  });

/** Until the endpoint answers. */
async function patiently<T>(what: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await what();
    } catch (error) {
      if (tries > 600) throw error;
      await systemClock.sleep(100);
    }
  }
}

async function filled(cluster: EtcdNodes, directory: string): Promise<EtcdNode> {
  const node = await cluster.node('cp-1');
  node.start('new', []);
  const { caPem, certPem = '', keyPem = '' } = cluster.identity;
  const file = async (name: string, content: string) => {
    await writeFile(join(directory, name), content, { mode: 0o600 });
    return join(directory, name);
  };
  const access = [
    `--endpoints=${node.clientUrl}`,
    `--cacert=${await file('ca.crt', caPem)}`,
    `--cert=${await file('client.crt', certPem)}`,
    `--key=${await file('client.key', keyPem)}`,
  ];
  await patiently(() => etcdctl([...access, 'put', '/registry/first', 'one']));
  for (let at = 0; at < KEYS; at += 1) await etcdctl([...access, 'put', `/registry/key-${at}`, valueOf(at)]);
  return node;
}

function contextOf(
  cluster: EtcdNodes,
  node: EtcdNode,
  directory: string,
  backups: Partial<Policies['backups']>,
) {
  const context: Partial<StepContext> = {
    document: document({ spec: clusterSpec({ policies: { backups } }) }),
    snapshots: {
      directory,
      open: () => JSON.stringify({ accessKeyId: 'AK', secretAccessKey: 'SK' }),
    },
    clock: patientClock,
    etcd: async () => createEtcdClient([node.clientUrl], cluster.identity, { clock: patientClock }),
  };
  return context as StepContext;
}

async function restored(snapshot: string, directory: string): Promise<Map<string, string>> {
  const data = join(directory, 'restored');
  await etcdctl(['snapshot', 'restore', snapshot, '--data-dir', data]);
  const [client, peer] = [await ownPort(), await ownPort()];
  const child = spawn(
    findProgram('etcd') ?? 'etcd',
    [
      ['--data-dir', data],
      ['--listen-client-urls', `http://127.0.0.1:${client}`],
      ['--advertise-client-urls', `http://127.0.0.1:${client}`],
      ['--listen-peer-urls', `http://127.0.0.1:${peer}`],
    ].flat(),
    { stdio: 'ignore' },
  );
  try {
    const { stdout } = await patiently(() =>
      etcdctl([`--endpoints=http://127.0.0.1:${client}`, 'get', '--prefix', '/registry/']),
    );
    const lines = stdout.trimEnd().split('\n');
    return new Map(lines.flatMap((line, index) => (index % 2 === 0 ? [[line, lines[index + 1] ?? '']] : [])));
  } finally {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
}

describeWith(['etcd', 'etcdctl'], 'a stored snapshot', () => {
  it('restores into a real etcd with every key, from the gateway and from a bucket', async () => {
    await using directory = await temporary();
    await using s3 = await startBucket();
    await using cluster = await createEtcdNodes();
    const node = await filled(cluster, directory.path);
    const folder = join(directory.path, 'snapshots');

    const local = await snapshotEtcd(contextOf(cluster, node, folder, {}), 'now', signal);
    const target = { url: s3.url, bucket: 'backups', prefix: '', region: 'eu-1', sealedCredentials: 'box' };
    const remote = await snapshotEtcd(contextOf(cluster, node, folder, { target }), 'now', signal);
    await node.kill();

    const uploaded = s3.objects.get(`/backups/${String(remote['name'])}`);
    const downloaded = join(directory.path, 'downloaded.db');
    await writeFile(downloaded, uploaded ?? '');
    for (const file of [join(folder, String(local['name'])), downloaded]) {
      const keys = await restored(file, await mkdtemp(join(directory.path, 'data-')));
      expect(keys.size).toBe(KEYS + 1);
      expect(keys.get('/registry/first')).toBe('one');
      expect(keys.get(`/registry/key-${KEYS - 1}`)).toBe(valueOf(KEYS - 1));
    }
    const [name = ''] = await readdir(join(folder, 'cl-demo'));
    expect((await readFile(join(folder, 'cl-demo', name))).length).toBe(local['bytes']);
    expect(await readdir(join(folder, '.spool'))).toEqual([]);
  });

  it('that the bucket refuses is a failure with the reason, and deletes nothing that is older', async () => {
    await using directory = await temporary();
    await using s3 = await startBucket();
    await using cluster = await createEtcdNodes();
    const node = await filled(cluster, directory.path);
    s3.objects.set('/backups/cl-demo/etcd-2020-01-01.db', Buffer.from('old'));
    s3.refuseAll();
    const target = { url: s3.url, bucket: 'backups', prefix: '', region: 'eu-1', sealedCredentials: 'box' };
    await expect(
      snapshotEtcd(contextOf(cluster, node, directory.path, { target }), 'now', signal),
    ).rejects.toMatchObject({
      code: 'BACKUP_TARGET_FAILED',
      message: expect.stringContaining('HTTP 403 AccessDenied'),
    });
    expect([...s3.objects.keys()]).toEqual(['/backups/cl-demo/etcd-2020-01-01.db']);
    expect(await readdir(join(directory.path, '.spool'))).toEqual([]);
  });
});
