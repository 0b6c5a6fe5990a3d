/** Deleting backups by Velero's requests on the simulator: to their end, once, and with its reasons when it fails. */
import { describe, expect, it } from 'vitest';
import { deletionOf } from '../../src/cluster/policies/velero-objects.ts';
import { type Action, document, result, start, TARGET } from '../support/velero-site.ts';

const deletion = (id: string, backup: string): Action => ({ id, kind: 'delete-backup', backup });
const NAMES = ['backups', 'deletebackuprequests', 'restores'] as const;

async function withBackups(names: readonly string[], faults: string[] = [], phase = 'Completed') {
  const s = await start(faults);
  await s.site.want(document({ target: TARGET }));
  await s.site.until('set up', () => s.velero('backupstoragelocations')?.status?.phase === 'Available');
  const core = s.site.kubernetes.inside()[0]?.core;
  for (const name of names)
    core?.ensure('velero.io/backups', {
      apiVersion: 'velero.io/v1',
      kind: 'Backup',
      metadata: { name, namespace: 'velero' },
      spec: { storageLocation: 'pcg' },
      status: { phase, startTimestamp: '2026-01-01T00:00:00Z', completionTimestamp: '2026-01-01T00:10:00Z' },
    });
  const listed = (plural: (typeof NAMES)[number]) =>
    (s.store()?.list(`velero.io/${plural}`) ?? []).map(({ metadata }) => metadata.name).sort();
  return { ...s, listed };
}

describe('a backup', () => {
  it('is deleted by a request, also when the gateway is killed before and while Velero deletes it', async () => {
    await using s = await withBackups(['one', 'two']);
    // The first write that names the backup as being deleted, and then in the middle of the deletion.
    s.site.killOnWrites((value) => {
      const { policies } = value as { policies?: Record<string, { summary: Record<string, unknown> }> };
      const begun = policies?.['delete-backup']?.summary['uid'] !== undefined;
      return begun && s.site.kills === 0 ? 'after' : undefined;
    });
    await s.site.want(document({ target: TARGET }, [deletion('ac-one', 'one')]));
    await s.site.until('asked', () => s.velero('backups', 'one')?.status?.phase === 'Deleting');
    expect(s.site.kills).toBe(1);
    expect(s.listed('deletebackuprequests')).toHaveLength(1);
    s.site.crash();
    expect(result(await s.ended('delete-backup'), 'delete-backup')).toMatchObject({
      state: 'succeeded',
      summary: { deleted: 'one', backups: [{ name: 'two', phase: 'Completed' }] },
    });
    expect(s.listed('backups')).toEqual(['two']);
    expect(s.listed('deletebackuprequests')).toEqual([]);
  });

  it('that Velero cannot delete stays, with its reason, and can be deleted again', async () => {
    await using s = await withBackups(['one'], ['backup-deletion-fails:1']);
    await s.site.want(document({ target: TARGET }, [deletion('ac-one', 'one')]));
    expect(result(await s.ended('delete-backup'), 'delete-backup')).toMatchObject({
      state: 'failed',
      error: {
        code: 'BACKUP_FAILED',
        message: 'backup one could not be deleted: error deleting backup from object storage: AccessDenied',
        fix: expect.stringContaining('delete the backup again'),
        details: {
          backups: [{ name: 'one', phase: 'Deleting', deletion: expect.stringContaining('AccessDenied') }],
        },
      },
    });
    expect(s.site.engine.status('cl-demo')?.phase).toBe('Running');
    await s.site.want(document({ target: TARGET }, [deletion('ac-one', 'one'), deletion('ac-two', 'one')]));
    await s.site.until('deleted', (now) => result(now, 'delete-backup')?.state === 'succeeded');
    for (const plural of NAMES) expect(s.listed(plural)).toEqual([]);
  });

  it('is not confused with another whose deletion is asked for at the same time', async () => {
    await using s = await withBackups(['one', 'three', 'two']);
    const asked = [deletion('ac-one', 'one'), deletion('ac-none', 'none'), deletion('ac-two', 'two')];
    await s.site.want(document({ target: TARGET }, asked.slice(0, 1)));
    await s.site.until('asked', () => s.velero('backups', 'one')?.status?.phase === 'Deleting');
    await s.site.want(document({ target: TARGET }, asked));
    await s.site.until('deleted', () => s.listed('backups').join() === 'three');
    await s.site.until('ended', (now) => result(now, 'delete-backup')?.state === 'succeeded');
    const failed = (await s.site.outbox.recentEvents({}, 500)).filter(
      ({ reason }) => reason === 'PolicyFailed',
    );
    expect(failed.map(({ error }) => error)).toMatchObject([
      { code: 'NOT_FOUND', field: 'backup', message: 'there is no backup none' },
    ]);
  });

  it('that is still being made is not deleted', async () => {
    await using s = await withBackups(['one'], [], 'WaitingForPluginOperations');
    const core = s.site.kubernetes.inside()[0]?.core;
    core?.edit('velero.io/backups', { name: 'one', namespace: 'velero' }, (backup) => {
      backup.status = { phase: 'InProgress', startTimestamp: '2999-01-01T00:00:00Z' };
    });
    await s.site.want(document({ target: TARGET }, [deletion('ac-one', 'one')]));
    expect(result(await s.ended('delete-backup'), 'delete-backup')?.error).toMatchObject({
      code: 'BACKUP_FAILED',
      message: expect.stringContaining('backup is still in progress'),
    });
    expect(s.listed('backups')).toEqual(['one']);
  });
});

it('a request names its backup in labels that fit', () => {
  const name = `b${'a'.repeat(99)}`;
  const request = deletionOf({ name, uid: 'u-1' }, 'run');
  const { labels = {} } = request.metadata;
  expect(request['spec']).toEqual({ backupName: name });
  expect(labels['velero.io/backup-uid']).toBe('u-1');
  expect(labels['velero.io/backup-name']).toMatch(/^ba{56}[0-9a-f]{6}$/);
  expect(deletionOf({ name: 'short', uid: 'u-2' }, 'run').metadata.labels?.['velero.io/backup-name']).toBe(
    'short',
  );
});
