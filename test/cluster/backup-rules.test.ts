/**
 * Deleting a backup, by the rules of the design page: by a DeleteBackupRequest and never by a plain delete, once however
 * often answers are lost, and called deleted only when Velero, still there, has it no more.
 */
import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import type { StepContext } from '../../src/cluster/context.ts';
import type { ClusterRecord } from '../../src/cluster/model.ts';
import { runPolicy } from '../../src/cluster/policies/run.ts';
import { act } from '../../src/cluster/steps/settle.ts';
import type { KubeClient, KubeObject } from '../../src/kube/client.ts';
import { NOW, scene } from '../support/scenes.ts';

const ROOT = '/apis/velero.io/v1/namespaces/velero';
const signal = new AbortController().signal;
const lost = () => new PcgError('KUBE_UNREACHABLE', 'the answer was lost');

/** Velero's objects by path, and every request that was made of the API server. */
function velero(names: readonly string[]) {
  const objects = new Map<string, KubeObject>(
    names.map((name) => [
      `${ROOT}/backups/${name}`,
      {
        apiVersion: 'velero.io/v1',
        kind: 'Backup',
        metadata: { name, uid: `uid-${name}` },
        status: { phase: 'Completed' },
      },
    ]),
  );
  const asked: string[] = [];
  const state = { loseNext: 0, away: false };
  /** Carried out, but whoever asked does not hear of it. */
  const answer = <T>(value: T): T => {
    if (state.loseNext === 0) return value;
    state.loseNext -= 1;
    throw lost();
  };
  const pathOf = ({ kind, metadata }: KubeObject) => `${ROOT}/${kind.toLowerCase()}s/${metadata.name}`;
  const client = {
    async get(path: string) {
      asked.push(`get ${path}`);
      return answer(state.away ? undefined : objects.get(path));
    },
    async create(object: KubeObject) {
      const path = pathOf(object);
      asked.push(`create ${path}`);
      if (objects.has(path)) return answer('exists');
      objects.set(path, object);
      return answer(object);
    },
    async delete(path: string) {
      asked.push(`delete ${path}`);
      objects.delete(path);
      answer(undefined);
    },
    async list(path: string) {
      asked.push(`list ${path}`);
      if (state.away) throw new PcgError('KUBE_REJECTED', `GET ${path}: HTTP 404`, { retryable: true });
      const items = [...objects].flatMap(([key, object]) => (key.startsWith(`${path}/`) ? [object] : []));
      return answer({ items, resourceVersion: '1' });
    },
  } as unknown as KubeClient;
  const requests = () => [...objects.values()].filter(({ kind }) => kind === 'DeleteBackupRequest');
  /** What Velero does with all requests: they go together with their backups. */
  const work = () => {
    for (const request of requests()) {
      objects.delete(`${ROOT}/backups/${String((request['spec'] as { backupName: string }).backupName)}`);
      objects.delete(pathOf(request));
    }
  };
  return { objects, asked, state, client, requests, work };
}

function cluster(client: KubeClient) {
  const input = scene({ 'cp-1': { shape: 'ready' } });
  let record: ClusterRecord = input.record;
  let now = NOW;
  const said: string[] = [];
  const context = {
    ...input,
    clock: { now: () => now },
    record: () => record,
    commit: async (change: (before: ClusterRecord) => ClusterRecord) => {
      record = change(record);
      return record;
    },
    event: async ({ reason, message }: { reason: string; message: string }) =>
      void said.push(`${reason}: ${message}`),
    kube: () => client,
  } as unknown as StepContext;
  const want = (backup: string, id = `ac-${backup}`) => {
    record = act(record, { id, kind: 'delete-backup', backup }, now);
  };
  const own = () => record.policies['delete-backup'];
  /** One pass; undefined when it failed for a reason that is no verdict. */
  const pass = async () => {
    now += 1000;
    const outcome = await runPolicy({ policy: 'delete-backup' }, context, signal).catch(() => undefined);
    return outcome?.kind;
  };
  return { want, own, pass, said };
}

describe('a backup that is to be deleted', () => {
  it('is asked for by a request that names it by name and uid, and never deleted itself', async () => {
    const site = velero(['one', 'two']);
    const { want, own, pass, said } = cluster(site.client);
    want('one');
    expect([await pass(), await pass()]).toEqual(['later', 'later']);
    expect(site.requests()).toMatchObject([
      {
        metadata: {
          namespace: 'velero',
          labels: { 'velero.io/backup-name': 'one', 'velero.io/backup-uid': 'uid-one' },
        },
        spec: { backupName: 'one' },
      },
    ]);
    site.work();
    expect(await pass()).toBe('done');
    expect(own()).toMatchObject({
      state: 'succeeded',
      summary: { deleted: 'one', backups: [{ name: 'two' }] },
    });
    expect(own()).not.toHaveProperty('doomed');
    expect(site.asked.filter((what) => what.startsWith(`delete ${ROOT}/backups/`))).toEqual([]);
    expect(said).toEqual(['PolicyFinished: delete-backup has run']);
  });

  it('goes once, whichever answers are lost', async () => {
    for (let first = 0; first < 12; first += 1) {
      const site = velero(['one', 'two']);
      const { want, own, pass } = cluster(site.client);
      want('one');
      let made = 0;
      for (let turn = 0; turn < 20 && own()?.state !== 'succeeded'; turn += 1) {
        if (site.asked.length >= first && site.asked.length < first + 3) site.state.loseNext = 1;
        await pass();
        made = Math.max(made, site.requests().length);
        if (turn % 4 === 3) site.work();
      }
      expect([first, own()?.state, made]).toEqual([first, 'succeeded', 1]);
      expect([...site.objects.keys()]).toEqual([`${ROOT}/backups/two`]);
    }
  });

  it('is not called deleted because Velero is gone, or its kinds are not served', async () => {
    const site = velero(['one']);
    const { want, own, pass } = cluster(site.client);
    want('one');
    await pass();
    site.state.away = true;
    await pass();
    expect(own()?.state).not.toBe('succeeded');
    expect(own()?.summary['deleted']).toBeUndefined();
    site.state.away = false;
    expect(site.objects.has(`${ROOT}/backups/one`)).toBe(true);
  });

  it('waits for those that were wanted before, each with a result of its own', async () => {
    const site = velero(['one', 'two']);
    const { want, own, pass, said } = cluster(site.client);
    want('one');
    await pass();
    want('two');
    want('one', 'ac-again');
    for (let turn = 0; turn < 12 && own()?.doomed !== undefined; turn += 1) {
      await pass();
      if (turn % 3 === 2) site.work();
    }
    expect([...site.objects.keys()]).toEqual([]);
    expect(said).toEqual(['PolicyFinished: delete-backup has run', 'PolicyFinished: delete-backup has run']);
  });
});
