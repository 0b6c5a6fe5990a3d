/** Credentials of a backup target pass the portal sealed: nothing it stores, logs or answers holds them (X8). */
import { readdir, readFile } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { type BackupTarget, backupTargetContext } from '../../src/contract/policies.ts';
import { eventually } from '../support/eventually.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { clusterSpec, testPortal } from '../support/portal.ts';
import { DEFAULT_PROFILE } from '../../src/contract/default-profile.ts';

const SECRET = 'wJalrXUtnFEMI-never-in-the-clear';
const PLACE = { url: 'https://s3.site:9000', bucket: 'backups', prefix: 'one', region: 'eu-1' };
const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: SECRET };

async function site() {
  await using stack = new AsyncDisposableStack();
  const lines: string[] = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const log = createLog({ name: 'portal', level: 'trace', destination });
  const portal = stack.use(await testPortal({ log }));
  const { identity, paired } = await portal.pair('dc1');
  const gateway = stack.use(await connectGateway(identity, paired));
  await eventually(async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1);
  const answers: string[] = [];
  const call: typeof portal.call = async (...args) => {
    const answer = await portal.call(...args);
    answers.push(JSON.stringify(answer.body));
    return answer;
  };
  const spec = (target: object | undefined) =>
    clusterSpec('ca-site1', { policies: { backups: { target: target as never } } });
  const create = (target: object, headers = {}) =>
    call('POST', '/api/v1/clusters?preflight=skip', { spec: spec(target) }, headers);
  const change = (id: string, generation: number, target: object | undefined) =>
    call('PUT', `/api/v1/clusters/${id}/spec`, { generation, spec: spec(target) });
  const sealed = async (id: string, generation: number) => {
    const document = await gateway.document('cluster', id, generation);
    return (document.spec as { spec: { policies: { backups: { target: BackupTarget } } } }).spec.policies
      .backups.target;
  };
  const running = stack.move();
  return {
    portal,
    identity,
    lines,
    answers,
    call,
    create,
    change,
    sealed,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

describe('credentials of a backup target', () => {
  it('given at creation or later reach only the gateway that they are sealed to, and only for that bucket', async () => {
    await using s = await site();
    const made = await s.create({ ...PLACE, credentials });
    expect(made.status).toBe(201);
    const { id } = made.body;
    const first = await s.sealed(id, 1);
    const open = (target: BackupTarget, context = backupTargetContext(target)) =>
      JSON.parse(s.identity.open(target.sealedCredentials ?? '', context).toString());
    expect(first).toEqual({ ...PLACE, sealedCredentials: expect.stringMatching(/^pcg1\./) });
    expect(open(first)).toEqual(credentials);
    expect(() => open(first, backupTargetContext({ ...PLACE, bucket: 'elsewhere' }))).toThrow();

    // Taken away, and given again to another bucket.
    expect((await s.change(id, 1, undefined)).status).toBe(202);
    const other = { ...credentials, secretAccessKey: `${SECRET}-rotated` };
    expect((await s.change(id, 2, { ...PLACE, bucket: 'second', credentials: other })).status).toBe(202);
    expect(open(await s.sealed(id, 3))).toEqual(other);

    await s.call('GET', `/api/v1/clusters/${id}`);
    await s.call('GET', '/api/v1/clusters');
    await s.call('GET', `/api/v1/clusters/${id}/events`);
    expect(s.answers.join('')).not.toContain(SECRET);
    expect(s.answers.join('')).not.toContain(credentials.accessKeyId);
    expect(s.lines.length).toBeGreaterThan(3);
    expect(s.lines.join('')).not.toContain(SECRET);
    const files = await readdir(s.portal.directory);
    expect(files).toContain('portal.db');
    for (const file of files) {
      const bytes = await readFile(`${s.portal.directory}/${file}`);
      for (const word of [SECRET, credentials.accessKeyId])
        expect(bytes.includes(word), `${file} holds ${word}`).toBe(false);
    }
  });

  it('stay in force while the target stays, and never go with another one', async () => {
    await using s = await site();
    const { id } = (await s.create({ ...PLACE, credentials })).body;
    const first = await s.sealed(id, 1);
    expect((await s.change(id, 1, { ...PLACE, prefix: 'two' })).status).toBe(202);
    expect(await s.sealed(id, 2)).toEqual({ ...first, prefix: 'two' });
    expect((await s.change(id, 2, { ...first, prefix: 'three' })).status).toBe(202);
    for (const target of [
      { ...first, url: 'https://thief.example' },
      { ...PLACE, bucket: 'other' },
    ])
      expect(await s.change(id, 3, target)).toMatchObject({
        status: 400,
        body: { field: 'spec.policies.backups.target.credentials' },
      });
  });

  it.each([
    [{ ...PLACE }, 'spec.policies.backups.target.credentials'],
    [{ ...PLACE, credentials, sealedCredentials: 'pcg1.x' }, 'spec.policies.backups.target.credentials'],
    [
      { ...PLACE, credentials: { ...credentials, secretAccessKey: 'a\nb = c' } },
      'spec.policies.backups.target.credentials.secretAccessKey',
    ],
    [{ ...PLACE, url: `https://me:${SECRET}@s3.site`, credentials }, 'spec.policies.backups.target.url'],
    [{ ...PLACE, url: 'file:///etc', credentials }, 'spec.policies.backups.target.url'],
    [{ ...PLACE, bucket: '../other', credentials }, 'spec.policies.backups.target.bucket'],
  ])('that cannot be used name the field and no secret: %#', async (target, field) => {
    await using s = await site();
    expect(await s.create(target)).toMatchObject({ status: 400, body: { field } });
    expect(s.answers.join('')).not.toContain(SECRET);
  });

  it('do not make a repeated request another one', async () => {
    await using s = await site();
    const key = { 'idempotency-key': 'once' };
    const made = await s.create({ ...PLACE, credentials }, key);
    expect(await s.create({ ...PLACE, credentials }, key)).toMatchObject({
      status: 200,
      body: { id: made.body.id },
    });
    expect((await s.create({ ...PLACE, bucket: 'other', credentials }, key)).status).toBe(409);
  });
});

describe('what can never run', () => {
  it('is refused where it is given: schedules, and versions of Kubernetes that nobody installs', async () => {
    await using s = await site();
    const create = (policies: object) =>
      s.call('POST', '/api/v1/clusters?preflight=skip', { spec: clusterSpec('ca-site1', { policies }) });
    for (const [policies, field] of [
      [{ patching: { schedule: '99 99 99 99 99' } }, 'spec.policies.patching.schedule'],
      [{ scans: { cis: '0 0 31 2 *' } }, 'spec.policies.scans.cis'],
      [{ backups: { schedule: 'a b c d e' } }, 'spec.policies.backups.schedule'],
    ] as const)
      expect(await create(policies)).toMatchObject({ status: 400, body: { code: 'INVALID_INPUT', field } });
    const made = await create({ patching: { schedule: '0 3 * * 0' } });
    const spec = clusterSpec('ca-site1', { policies: { scans: { vulnerabilities: '61 * * * *' } } });
    expect(
      await s.call('PUT', `/api/v1/clusters/${made.body.id}/spec`, { generation: 1, spec }),
    ).toMatchObject({ status: 400, body: { field: 'spec.policies.scans.vulnerabilities' } });

    const { id: _id, revision: _revision, ...profile } = DEFAULT_PROFILE;
    const packs = profile.packs.map((pack) =>
      pack.layer === 'kubernetes' ? { ...pack, kubernetesVersion: 'v1.34.2' } : pack,
    );
    expect(await s.call('POST', '/api/v1/profiles', { ...profile, name: 'old', packs })).toMatchObject({
      status: 400,
      body: { field: 'packs[1].kubernetesVersion', fix: 'Choose a version of 1.35, 1.36, 1.37.' },
    });
    const shipped = await s.call('GET', '/api/v1/packs');
    expect(shipped.body.items.map(({ name }: { name: string }) => name)).toEqual([
      'flannel',
      'cilium',
      'calico',
      'velero',
    ]);
    const [os, kubernetes] = profile.packs;
    const [, cilium] = shipped.body.items;
    const own = await s.call('POST', '/api/v1/profiles', {
      ...profile,
      name: 'own',
      packs: [os, kubernetes, cilium],
    });
    expect(own.status).toBe(201);
    const cluster = await s.call('POST', '/api/v1/clusters?preflight=skip', {
      spec: clusterSpec('ca-site1', {
        name: 'meshed',
        profile: own.body.id,
        packValues: { cilium: { mtu: '1450' } },
      }),
    });
    expect(cluster.status).toBe(201);
  });
});
