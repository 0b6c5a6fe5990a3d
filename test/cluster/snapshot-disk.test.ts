/** The disk that snapshots share with the gateway's own records: full, short of room, and with what a kill has left. */
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { SnapshotDoor, StepContext } from '../../src/cluster/context.ts';
import { clearSpool, snapshotEtcd } from '../../src/cluster/policies/snapshot.ts';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { document as wanted } from '../support/engine.ts';
import { eventually } from '../support/eventually.ts';
import { leaks, NO_LEAKS } from '../support/invariants.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const TO = 'v1.36.1';
const SNAPSHOT = { id: 'ac-snapshot', kind: 'run-policy' as const, policy: 'etcd-snapshot' as const };
/** More than any disk has. */
const EVERYTHING = Number.MAX_SAFE_INTEGER;

function document(version: string, actions: ClusterDocument['actions'] = []) {
  const profile = resolvedProfile();
  const pools = [
    {
      role: 'control-plane' as const,
      name: 'cp',
      size: 1 as const,
      placement: { resourcePool: 'kubernetes' },
    },
  ];
  return wanted({
    spec: clusterSpec({ pools }),
    profile: { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion: version } },
    actions,
  });
}

async function running(version: string, door: (directory: string) => Partial<SnapshotDoor> = () => ({})) {
  const directory = await mkdtemp(join(tmpdir(), 'pcg-disk-'));
  const snapshots = Object.assign(door(directory), { directory, open: () => '' });
  const site = await SimulatedSite.start({ speed: 200, snapshots });
  await site.want(document(version));
  await site.phase('Running');
  return {
    site,
    directory,
    folder: join(directory, 'cl-demo'),
    spool: join(directory, '.spool'),
    async [Symbol.asyncDispose]() {
      await site[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const files = async (folder: string) => (await readdir(folder).catch(() => [])).sort();
const saved = (status: ClusterStatus) => status.policies.find(({ policy }) => policy === 'etcd-snapshot');

/** Writing to it gives ENOSPC, as on a disk without a free block; until somebody deletes it. */
function fill(spool: string, name: string): void {
  mkdirSync(spool, { recursive: true });
  if (!readdirSync(spool).includes(name)) symlinkSync('/dev/full', join(spool, name));
}

async function deleted({ site }: { site: SimulatedSite }, version: string) {
  const requestedAt = new Date(site.clock.now()).toISOString();
  await site.want({ ...document(version), intent: { kind: 'delete', requestedAt, reason: 'delete' } });
  await site.phase('Deleted');
  expect(leaks(site)).toEqual(NO_LEAKS);
}

describe('a disk that is full', () => {
  it('holds an upgrade back with its name and a next step, leaves no half file, and stops no delete', async () => {
    // Each attempt takes its own half file away: the disk is full again when the next one looks at it.
    let attempts = 0;
    await using s = await running('v1.35.4', (directory) => ({
      get reserveBytes() {
        attempts += 1;
        fill(join(directory, '.spool'), `cl-demo-etcd-before-${TO}.db`);
        return 0;
      },
    }));
    await s.site.want(document(TO));
    const { rollout } = await s.site.until('preview', (now) => now.rollout?.state === 'preview');
    const go = { id: 'ac-go', kind: 'approve-rollout' as const, plan: rollout?.plan ?? '' };
    await s.site.want(document(TO, [go]));
    const { error } = await s.site.until('held', (now) => now.error?.code === 'UPGRADE_NOT_SAVED');
    expect(error).toMatchObject({
      message: expect.stringMatching(
        /etcd could not be saved: the snapshot cannot be kept in .*: its disk is full/,
      ),
      fix: expect.stringMatching(/Check free space.*The upgrade then begins by itself/),
      details: { cause: 'STORAGE_FAILED' },
    });
    expect(await files(s.folder)).toEqual([]);
    expect(attempts).toBeGreaterThan(1);
    await deleted(s, TO);
    expect(await files(s.spool)).toEqual([]);
  });

  it('ends a scheduled snapshot with the same words, and the cluster runs on', async () => {
    await using s = await running(TO);
    const { site } = s;
    // The run names its file by the time at which it begins.
    site.killOnWrites((value) => {
      const { policies } = value as { policies?: Record<string, { state: string; startedAt?: number }> };
      const own = policies?.['etcd-snapshot'];
      if (own?.state === 'running' && own.startedAt !== undefined) {
        const label = new Date(own.startedAt).toISOString().replace(/[:.]/g, '-');
        fill(s.spool, `cl-demo-etcd-${label}.db`);
      }
      return undefined;
    });
    await site.want(document(TO, [SNAPSHOT]));
    const status = await site.until('ended', (now) =>
      ['succeeded', 'failed'].includes(saved(now)?.state ?? ''),
    );
    expect(saved(status)).toMatchObject({
      state: 'failed',
      error: { code: 'STORAGE_FAILED', message: expect.stringContaining('its disk is full') },
    });
    expect(status.phase).toBe('Running');
    expect(await files(s.folder)).toEqual([]);
    expect(await files(s.spool)).toEqual([]);
  });
});

describe('room for the gateway', () => {
  /** etcd that announces and sends this much. */
  function context(snapshots: SnapshotDoor, dbSizeBytes: number, pieces = 1) {
    let sent = 0;
    const etcd = {
      health: async () => [{ dbSizeBytes }],
      async *snapshot() {
        for (; sent < pieces; sent += 1) yield Buffer.alloc(2 ** 20);
      },
      async [Symbol.asyncDispose]() {},
    };
    const given = {
      document: document(TO),
      clock: { now: () => Date.now() },
      snapshots,
      etcd: async () => etcd,
    } as unknown as StepContext;
    return { given, sent: () => sent };
  }
  const signal = new AbortController().signal;
  const open = () => '';

  it.each([
    ['announced', 2 ** 50, 0],
    ['already missing', 0, EVERYTHING],
  ])('is not touched: what is %s is not even asked for', async (_why, dbSizeBytes, reserveBytes) => {
    const directory = await mkdtemp(join(tmpdir(), 'pcg-room-'));
    const { given, sent } = context({ directory, open, reserveBytes }, dbSizeBytes);
    await expect(snapshotEtcd(given, 'now', signal)).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringMatching(
        /no room for the snapshot in .*: \d+ MiB needed, \d+ MiB must stay free/,
      ),
      fix: expect.stringMatching(/backup target.*ttlHours/),
    });
    expect(sent()).toBe(0);
    expect(await files(directory)).toEqual(['.spool']);
    await rm(directory, { recursive: true });
  });

  it('is looked at again while it comes: a stream that announces nothing and never ends is cut off', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'pcg-room-'));
    let looks = 0;
    const door: SnapshotDoor = {
      directory,
      open,
      get reserveBytes() {
        looks += 1;
        return looks < 3 ? 0 : EVERYTHING;
      },
    };
    const { given, sent } = context(door, 0, 10_000);
    await expect(snapshotEtcd(given, 'now', signal)).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(sent()).toBeLessThan(100);
    expect(await files(join(directory, '.spool'))).toEqual([]);
    await rm(directory, { recursive: true });
  });

  it('is made by what is too old anyway, but never by the only snapshot that there is', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'pcg-room-'));
    const folder = join(directory, 'cl-demo');
    await mkdir(folder);
    for (const [name, year] of [
      ['etcd-a.db', 2020],
      ['etcd-b.db', 2021],
      ['etcd-c.db', 2022],
    ] as const) {
      await writeFile(join(folder, name), name);
      await utimes(join(folder, name), Date.UTC(year) / 1000, Date.UTC(year) / 1000);
    }
    const { given } = context({ directory, open, reserveBytes: EVERYTHING }, 0);
    await expect(snapshotEtcd(given, 'now', signal)).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(await files(folder)).toEqual(['etcd-c.db']);
    await rm(directory, { recursive: true });
  });

  it('is not taken for ever by what a kill has left half', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'pcg-room-'));
    await mkdir(join(directory, '.spool'));
    await writeFile(join(directory, '.spool', 'cl-gone-etcd-2020.db'), 'every secret of a cluster');
    await mkdir(join(directory, 'cl-demo'));
    await writeFile(join(directory, 'cl-demo', 'etcd-2020.db'), 'whole');
    await using _site = await SimulatedSite.start({ speed: 200, snapshots: { directory, open } });
    await eventually(async () => !(await files(directory)).includes('.spool'));
    expect(await files(directory)).toEqual(['cl-demo']);
    expect(await readFile(join(directory, 'cl-demo', 'etcd-2020.db'), 'utf8')).toBe('whole');
    await clearSpool({ directory, open }, silentLog); // nothing there
    await rm(directory, { recursive: true });
  });
});
