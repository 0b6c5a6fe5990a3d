/** Backups and restores on the simulator, whose Velero carries them out: set up early, reported, taken away. */
import { describe, expect, it } from 'vitest';
import { backupTargetContext } from '../../src/contract/policies.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { type Action, document, result, SECRET, start, TARGET } from '../support/velero-site.ts';

const YEARLY = '0 0 1 1 *';

describe('backups', () => {
  it('are set up before the first is due, told again when they change, and taken away', async () => {
    await using s = await start();
    await s.site.want(document({ schedule: YEARLY, target: TARGET, etcdSnapshots: false }));
    await s.site.until('set up', () => s.velero('schedules')?.status?.phase === 'Enabled');
    const status = await s.site.until('reported', (now) => result(now)?.nextRunAt !== undefined);
    expect(result(status)).toMatchObject({ nextRunAt: expect.stringMatching(/-01-01T00:00:00\.000Z$/) });
    expect(s.velero('backupstoragelocations')).toMatchObject({ status: { phase: 'Available' } });
    expect(s.opened[0]).toBe(`box ${backupTargetContext(TARGET)}`);
    const secret = s.store()?.get(R.secrets, 'velero', 'pcg-backup-target');
    expect(Buffer.from(secret?.data.cloud, 'base64').toString()).toContain(SECRET);

    await s.site.want(
      document({ schedule: '0 3 * * *', ttlHours: 24, target: TARGET, etcdSnapshots: false }),
    );
    await s.site.until('changed', () => s.velero('schedules')?.spec.schedule === '0 3 * * *');
    expect(s.velero('schedules')?.spec.template.ttl).toBe('24h0m0s');

    await s.site.want(document({ target: TARGET, etcdSnapshots: false }));
    await s.site.until('unscheduled', () => s.velero('schedules') === undefined);
    expect(s.velero('backupstoragelocations')).toBeDefined();

    await s.site.want(document({}));
    await s.site.until('taken away', () => s.velero('backupstoragelocations') === undefined);
    await s.site.until('forgotten', (now) => result(now) === undefined);
    expect(s.store()?.get(R.secrets, 'velero', 'pcg-backup-target')).toBeUndefined();

    // Nothing that leaves the gateway, and nothing that it keeps, holds the secret.
    const told = [await s.site.outbox.recentEvents({}, 500), s.site.engine.status('cl-demo')];
    expect(JSON.stringify(told)).not.toContain(SECRET);
    expect(JSON.stringify(await s.site.records.list('clusters'))).not.toContain(SECRET);
  });

  it('say what is missing while the cluster has no Velero', async () => {
    await using s = await start();
    await s.site.want(document({ schedule: YEARLY, target: TARGET }, [], false));
    const status = await s.site.until('said', (now) => result(now)?.error !== undefined);
    expect(result(status)?.error).toMatchObject({
      code: 'ADDON_NOT_READY',
      fix: expect.stringContaining('Velero pack'),
    });
    expect(status.phase).toBe('Running');
    expect(s.opened).toEqual([]);
    await s.site.want(document({ schedule: YEARLY, target: TARGET }));
    await s.site.until('set up', () => s.velero('schedules')?.status?.phase === 'Enabled');
    await s.site.until('well', (now) => result(now)?.error === undefined);
  });

  it('wait for a bucket that cannot be reached', async () => {
    await using s = await start(['backup-target-away']);
    await s.site.want(document({ schedule: YEARLY, target: TARGET }));
    const status = await s.site.until(
      'said',
      (now) => result(now)?.error !== undefined && now.phase === 'Running',
    );
    expect(result(status)?.error?.code).toMatch(/ADDON_NOT_READY|BACKUP_TARGET_FAILED/);
    s.site.simulator.faults.replace([]);
    await s.site.until('reached', (now) => result(now)?.error === undefined && result(now) !== undefined);
  });

  it('are made on request and bring back what was lost, also when the gateway is killed in between', async () => {
    await using s = await start();
    await s.site.want(document({ target: TARGET }));
    await s.site.until('set up', () => s.velero('backupstoragelocations')?.status?.phase === 'Available');
    const core = () => s.site.kubernetes.inside()[0]?.core;
    core()?.ensure(R.configmaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'precious', namespace: 'default' },
      data: { a: 'b' },
    });
    const run: Action = { id: 'ac-backup', kind: 'run-policy', policy: 'backup' };
    await s.site.want(document({ target: TARGET }, [run]));
    await s.site.until('begun', () => (s.store()?.list('velero.io/backups').length ?? 0) === 1);
    s.site.crash();
    const saved = result(await s.ended('backup'));
    expect(saved).toMatchObject({ state: 'succeeded', summary: { phase: 'Completed', errors: 0 } });
    expect(s.store()?.list('velero.io/backups')).toHaveLength(1);
    const name = String(saved?.summary['backup']);
    expect(saved?.summary['backups']).toEqual([
      { name, phase: 'Completed', completedAt: expect.stringMatching(/Z$/) },
    ]);

    s.store()?.delete(R.configmaps, 'default', 'precious');
    const restore: Action = {
      id: 'ac-restore',
      kind: 'restore-backup',
      backup: name,
      namespaces: ['default'],
    };
    await s.site.want(document({ target: TARGET }, [run, restore]));
    await s.site.until('begun', () => (s.store()?.list('velero.io/restores').length ?? 0) === 1);
    s.site.crash();
    const back = result(await s.ended('restore'), 'restore');
    expect(back).toMatchObject({ state: 'succeeded', summary: { phase: 'Completed', from: name } });
    expect(s.store()?.list('velero.io/restores')).toHaveLength(1);
    expect(s.store()?.get(R.configmaps, 'default', 'precious')?.data).toEqual({ a: 'b' });
  });

  it('and restores that fail say so', async () => {
    await using s = await start(['backup-partially-fails:1']);
    await s.site.want(document({ target: TARGET }));
    await s.site.until('set up', () => s.velero('backupstoragelocations')?.status?.phase === 'Available');
    const run: Action = { id: 'ac-backup', kind: 'run-policy', policy: 'backup' };
    const restore: Action = {
      id: 'ac-restore',
      kind: 'restore-backup',
      backup: 'no-such-backup',
      namespaces: [],
    };
    await s.site.want(document({ target: TARGET }, [run, restore]));
    expect(result(await s.ended('backup'))).toMatchObject({
      state: 'failed',
      error: { code: 'BACKUP_FAILED', message: expect.stringContaining('PartiallyFailed') },
    });
    expect(result(await s.ended('restore'), 'restore')).toMatchObject({
      state: 'failed',
      error: { code: 'NOT_FOUND', field: 'backup' },
    });
    expect(s.site.engine.status('cl-demo')?.phase).toBe('Running');
  });

  it('that Velero refuses to restore name its reason', async () => {
    await using s = await start();
    await s.site.want(document({ target: TARGET }));
    await s.site.until('set up', () => s.velero('backupstoragelocations')?.status?.phase === 'Available');
    s.site.kubernetes.inside()[0]?.core.ensure('velero.io/backups', {
      apiVersion: 'velero.io/v1',
      kind: 'Backup',
      metadata: { name: 'broken', namespace: 'velero' },
      spec: { storageLocation: 'pcg' },
      status: { phase: 'Failed', startTimestamp: '2026-01-01T00:00:00Z' },
    });
    const restore: Action = { id: 'ac-r', kind: 'restore-backup', backup: 'broken', namespaces: [] };
    await s.site.want(document({ target: TARGET }, [restore]));
    expect(result(await s.ended('restore'), 'restore')).toMatchObject({
      state: 'failed',
      error: {
        code: 'BACKUP_FAILED',
        message: expect.stringMatching(/is FailedValidation: backup broken cannot be restored$/),
      },
    });
  });

  it('of the schedule are made by Velero and reported once', async () => {
    await using s = await start();
    await s.site.want(document({ schedule: '* * * * *', target: TARGET, etcdSnapshots: false }));
    const first = await s.site.until('reported', (now) => result(now)?.lastRunAt !== undefined, {
      withinMs: 120_000,
    });
    const name = String(result(first)?.summary['backup']);
    expect(name).toMatch(/^pcg-\d{14}$/);
    expect(result(first)).toMatchObject({ state: 'succeeded', summary: { phase: 'Completed' } });
    const mine = s.store()?.list('velero.io/backups') ?? [];
    expect(mine.every(({ metadata }) => metadata.labels?.['velero.io/schedule-name'] === 'pcg')).toBe(true);
  });
});
