/** Certificates come to their end: seen, renewed in place node by node, warned of when that fails, rotated on request. */
import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const HOUR = 60 * 60 * 1000;
const DAY = 24 * HOUR;
const placement = { resourcePool: 'kubernetes' };

const valid = (status: ClusterStatus) => status.conditions.find(({ type }) => type === 'CertificatesValid');
const daysLeft = (status: ClusterStatus) =>
  status.certificatesExpireAt === undefined
    ? Number.NaN
    : (Date.parse(status.certificatesExpireAt) - Date.now()) / DAY;

describe('as time goes by', () => {
  it('certificates are renewed two months ahead, warned of one month ahead, and said to be over', async () => {
    const site = new FakeSite(8);
    const { clock } = site;
    await using harness = new EngineHarness(site, { certificateCheckMs: 100 });
    const start = clock.now();
    site.certificateEnd = start + 365 * DAY;
    await harness.want(document());
    await harness.phase('Running');
    const jobs = () =>
      [...([...site.apis.values()][0]?.objects.values() ?? [])].filter(({ kind }) => kind === 'Job');
    const fresh = await harness.until('seen', (status) => status.certificatesExpireAt !== undefined);
    expect(valid(fresh)).toMatchObject({ status: 'True', reason: 'Succeeded' });
    expect(Date.parse(fresh.certificatesExpireAt ?? '')).toBe(site.certificateEnd);
    const admin = async () => {
      const { certPem = '' } = (await harness.engine.kubeTarget('cl-demo')) ?? {};
      return new X509Certificate(certPem);
    };
    const first = await admin();

    clock.jump(304 * DAY);
    await harness.until('looked at again', ({ observedAt }) => Date.parse(observedAt) > start + 304 * DAY);
    // The gateway's own certificate would have ended long ago.
    const second = await admin();
    expect(first.validToDate.getTime()).toBeLessThan(clock.now());
    expect(second.validToDate.getTime()).toBeGreaterThan(clock.now() + 40 * DAY);
    expect(jobs()).toEqual([]);

    clock.jump(2 * DAY);
    expect(await until(site, async () => jobs())).toHaveLength(1);
    expect(harness.engine.status('cl-demo')?.phase).toBe('Running');
    const warnings = async () =>
      (await harness.outbox.recentEvents({}, 500)).filter(({ reason }) => reason === 'CertificatesExpiring');
    expect(await warnings()).toEqual([]);

    clock.jump(30 * DAY);
    const expiring = await harness.until('warned', (status) => valid(status)?.reason === 'Expiring');
    expect(valid(expiring)).toMatchObject({
      status: 'True',
      message: expect.stringContaining('first certificate expires'),
    });
    const [warning, ...more] = await until(site, warnings);
    expect(warning).toMatchObject({ severity: 'warning', error: { code: 'CERTIFICATES_EXPIRING' } });
    expect(more).toEqual([]);

    clock.jump(31 * DAY);
    const over = await harness.until('over', (status) => valid(status)?.status === 'False');
    expect(valid(over)?.reason).toBe('Failed');
    expect(site.violations).toEqual([]);
  });
});

it('certificates are only reported, two months ahead and with the next step, where the policy lets no Job renew them', async () => {
  const site = new FakeSite(8);
  const { clock } = site;
  await using harness = new EngineHarness(site, { certificateCheckMs: 100 });
  site.certificateEnd = clock.now() + 365 * DAY;
  await harness.want(
    document({ spec: clusterSpec({ policies: { certificates: { renewInPlace: false } } }) }),
  );
  await harness.phase('Running');
  await harness.until('seen', (status) => status.certificatesExpireAt !== undefined);
  clock.jump(306 * DAY);
  const expiring = await harness.until('warned', (status) => valid(status)?.reason === 'Expiring');
  expect(valid(expiring)).toMatchObject({
    status: 'True',
    message: expect.stringMatching(
      /first certificate expires .*kubeadm certs renew all.*rotate the certificates/,
    ),
  });
  const [warning, ...more] = await until(site, async () =>
    (await harness.outbox.recentEvents({}, 500)).filter(({ reason }) => reason === 'CertificatesExpiring'),
  );
  expect(warning).toMatchObject({
    error: {
      code: 'CERTIFICATES_EXPIRING',
      fix: expect.stringContaining('switched off (policies.certificates)'),
    },
  });
  expect(more).toEqual([]);
  await harness.pause(500);
  expect([...([...site.apis.values()][0]?.objects.values() ?? [])].some(({ kind }) => kind === 'Job')).toBe(
    false,
  );
  expect(harness.engine.status('cl-demo')?.phase).toBe('Running');
});

it('a renewal that the regular look sees first is told, and its old failure is forgotten', async () => {
  const site = new FakeSite(8);
  const { clock } = site;
  await using harness = new EngineHarness(site, { certificateCheckMs: 100 });
  site.certificateEnd = clock.now() + 365 * DAY;
  await harness.want(document());
  await harness.phase('Running');
  await harness.until('seen', (status) => status.certificatesExpireAt !== undefined);
  const api = [...site.apis.values()][0];
  const jobs = () => [...(api?.objects.values() ?? [])].filter(({ kind }) => kind === 'Job');
  clock.jump(306 * DAY);
  const [job] = await until(site, async () => jobs());
  expect(job).toBeDefined();
  if (job) job['status'] = { conditions: [{ type: 'Failed', status: 'True', message: 'disk full' }] };
  await harness.until('failed', (status) => valid(status)?.message.includes('not renewed') === true);

  // Renewed by whatever means, while the step that follows the Job rests until the next day.
  site.certificateEnd = clock.now() + 365 * DAY;
  const told = async () =>
    (await harness.outbox.recentEvents({}, 500)).filter(({ reason }) => reason === 'CertificatesRenewed');
  const healed = await harness.until(
    'healed',
    (status) => Date.parse(status.certificatesExpireAt ?? '') === site.certificateEnd,
  );
  expect(valid(healed)).toMatchObject({ status: 'True', reason: 'Succeeded' });
  const control = healed.nodes.filter(({ role }) => role === 'control-plane').map(({ name }) => name);
  await until(site, async () => ((await told()).length >= control.length ? [true] : []));
  await harness.pause(300);
  expect((await told()).map(({ node }) => node).sort()).toEqual(control.sort());
});

/** Within 40 s of the site's time. */
async function until<T>({ clock }: FakeSite, read: () => Promise<T[]>): Promise<T[]> {
  for (const end = clock.monotonic() + 40_000; clock.monotonic() < end; await clock.sleep(10)) {
    const found = await read();
    if (found.length > 0) return found;
  }
  return [];
}

function wanted(actions: ClusterDocument['actions'] = []): ClusterDocument {
  return document({
    actions,
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 3, placement },
        { role: 'worker', name: 'workers', size: 1, placement },
      ],
    }),
  });
}

describe('in place', () => {
  it('kubeadm renews them one node at a time; no machine moves, quorum stays, and a kill changes nothing', async () => {
    await using site = await SimulatedSite.start({
      speed: 200,
      faults: ['certificates-expire:3'],
      behindMs: HOUR,
      timings: { certificateCheckMs: 500 },
    });
    await site.want(wanted());
    const before = await site.phase('Running');
    const trouble = new Set<string>();
    let kills = 0;
    const seen = await site.until('seen', (status) => daysLeft(status) < 21);
    expect(seen.phase).toBe('Running');
    const after = await site.until(
      'renewed',
      (status) => {
        const [cluster] = site.kubernetes.clusters();
        const away = cluster?.controlPlanes.filter(({ serving }) => !serving).length ?? 0;
        if (away > 1) trouble.add(`${away} API servers are away`);
        if (cluster?.etcd.quorum === false) trouble.add('quorum was lost');
        if (away === 1 && kills < 2) {
          kills += 1;
          site.crash();
        }
        return daysLeft(status) > 300 && status.phase === 'Running';
      },
      { withinMs: 60_000 },
    );
    expect([...trouble]).toEqual([]);
    expect(kills).toBe(2);
    expect(after.nodes.map(({ name, systemId }) => [name, systemId])).toEqual(
      before.nodes.map(({ name, systemId }) => [name, systemId]),
    );
    expect(valid(after)).toMatchObject({ status: 'True', reason: 'Succeeded' });
    const control = before.nodes.filter(({ role }) => role === 'control-plane').map(({ name }) => name);
    const said = await site.outbox.recentEvents({}, 500);
    // A kill between record and timeline may cost a line of the timeline, never the renewal.
    const renewed = said.flatMap(({ reason, node }) =>
      reason === 'CertificatesRenewed' ? [node ?? ''] : [],
    );
    expect(renewed.length).toBeGreaterThan(0);
    for (const node of renewed) expect(control).toContain(node);
    expect(said.filter(({ reason }) => reason === 'CertificatesExpiring')).toHaveLength(1);
    const jobs = site.kubernetes.inside()[0]?.core.store.list(R.jobs) ?? [];
    expect(jobs).toHaveLength(3);
    expect(site.kubernetes.departures()).toEqual([]);
  });

  it('a failure names its cause and the way out, and rotation replaces that control plane', async () => {
    await using site = await SimulatedSite.start({
      speed: 200,
      faults: ['certificates-expire:3', 'renewal-fails'],
      behindMs: HOUR,
      timings: { certificateCheckMs: 500 },
    });
    await site.want(wanted());
    const before = await site.phase('Running');
    const failing = await site.until(
      'failing',
      (status) => valid(status)?.message.includes('not renewed') === true,
    );
    expect(valid(failing)).toMatchObject({ status: 'True', reason: 'Expiring' });
    expect(failing.phase).toBe('Running');
    const said = await site.outbox.recentEvents({}, 500);
    const [failed, ...again] = said.filter(({ reason }) => reason === 'RenewalFailed');
    expect(failed?.error).toMatchObject({
      code: 'CERTIFICATES_EXPIRING',
      fix: expect.stringContaining('rotate'),
    });
    expect(again).toEqual([]);
    await site.want(wanted([{ id: 'ac-rotate', kind: 'rotate-certificates' }]));
    const old = new Set(before.nodes.filter(({ role }) => role === 'control-plane').map(({ name }) => name));
    const after = await site.until(
      'rotated',
      (status) =>
        status.phase === 'Running' &&
        daysLeft(status) > 300 &&
        status.nodes.every(({ name }) => !old.has(name)),
    );
    expect(after.nodes).toHaveLength(4);
    expect(valid(after)).toMatchObject({ status: 'True', reason: 'Succeeded' });
  });
});
