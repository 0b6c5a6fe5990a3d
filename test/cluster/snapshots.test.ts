/** Snapshots of etcd on the simulator: whole, proved, stored where the cluster says, and not kept for ever. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Policies } from '../../src/contract/policies.ts';
import { signV4 } from '../../src/store/s3.ts';
import { startBucket } from '../support/bucket.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
const ACTION = { id: 'ac-snapshot', kind: 'run-policy' as const, policy: 'etcd-snapshot' as const };

async function temporary() {
  const path = await mkdtemp(join(tmpdir(), 'pcg-snapshots-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

function document(backups: Partial<Policies['backups']>, actions: (typeof ACTION)[] = []) {
  const pools = [{ role: 'control-plane' as const, name: 'cp', size: 1 as const, placement }];
  return wanted({ spec: clusterSpec({ pools, policies: { backups } }), actions });
}

const result = (status: { policies: readonly { policy: string; state: string }[] }) =>
  status.policies.find(({ policy }) => policy === 'etcd-snapshot');

describe('a snapshot of etcd', () => {
  it('is kept on the gateway when no target is named, and old ones go', async () => {
    await using directory = await temporary();
    const folder = join(directory.path, 'cl-demo');
    await mkdir(folder);
    const old = join(folder, 'etcd-2020-01-01.db');
    await writeFile(old, 'old');
    await utimes(old, 1_577_836_800, 1_577_836_800);
    const snapshots = { directory: directory.path, open: () => '' };
    await using site = await SimulatedSite.start({ speed: 200, snapshots });
    await site.want(document({}));
    await site.phase('Running');
    await site.want(document({}, [ACTION]));
    const status = await site.until('saved', (now) =>
      ['succeeded', 'failed'].includes(result(now)?.state ?? ''),
    );
    const files = await readdir(folder);
    expect(files).toHaveLength(1);
    const content = await readFile(join(folder, files[0] ?? ''));
    const sha256 = createHash('sha256').update(content).digest('hex');
    expect(result(status)).toMatchObject({
      state: 'succeeded',
      summary: { stored: true, bytes: content.length, sha256, removed: 1, name: `cl-demo/${files[0]}` },
    });
    expect(await readdir(join(directory.path, '.spool'))).toEqual([]);
  });

  it('goes to the S3 target with credentials that only the gateway opens', async () => {
    await using directory = await temporary();
    await using s3 = await startBucket();
    s3.objects.set('/backups/site/cl-demo/etcd-2020-01-01.db', Buffer.from('old'));
    const contexts: string[] = [];
    const snapshots = {
      directory: directory.path,
      open: (sealed: string, context: string) => {
        contexts.push(`${sealed} ${context}`);
        return JSON.stringify({ accessKeyId: 'AKID', secretAccessKey: 'hidden' });
      },
    };
    const target = {
      url: s3.url,
      bucket: 'backups',
      prefix: 'site',
      region: 'eu-1',
      sealedCredentials: 'box',
    };
    await using site = await SimulatedSite.start({ speed: 200, snapshots });
    await site.want(document({ target }));
    await site.phase('Running');
    await site.want(document({ target }, [ACTION]));
    const status = await site.until('saved', (now) =>
      ['succeeded', 'failed'].includes(result(now)?.state ?? ''),
    );
    expect(result(status)).toMatchObject({ state: 'succeeded', summary: { stored: true, removed: 1 } });
    expect([...s3.objects.keys()]).toEqual([
      expect.stringMatching(/^\/backups\/site\/cl-demo\/etcd-20.*\.db$/),
    ]);
    expect(contexts[0]).toBe(`box backup-target:${s3.url}/backups`);
    expect(s3.seen[0]).toMatch(
      /^AWS4-HMAC-SHA256 Credential=AKID\/\d{8}\/eu-1\/s3\/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=[0-9a-f]{64}$/,
    );
    expect(JSON.stringify(status)).not.toContain('hidden');
  });

  it('is signed as the published example of Signature Version 4', () => {
    const sha256 = createHash('sha256').digest('hex');
    const authorization = signV4({
      method: 'GET',
      path: '/test.txt',
      query: '',
      headers: {
        host: 'examplebucket.s3.amazonaws.com',
        range: 'bytes=0-9',
        'x-amz-content-sha256': sha256,
        'x-amz-date': '20130524T000000Z',
      },
      sha256,
      region: 'us-east-1',
      accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
      secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    });
    expect(authorization).toContain(
      'Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    );
  });
});
