import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { PoliciesSchema } from '../../src/contract/policies.ts';
import {
  cisScanJob,
  conformanceScan,
  patchJob,
  policyJobName,
  rebootJob,
  renewCertificatesJob,
  vulnerabilityScan,
} from '../../src/cluster/policies-manifests.ts';
import { readCisResult, readConformanceResult, readPatchResult } from '../../src/cluster/policies-results.ts';
import { backupNow, backupObjects } from '../../src/cluster/policies/velero-objects.ts';
import type { KubeObject } from '../../src/kube/client.ts';

const run = { id: 'run-1' };

interface JobSpec {
  template: { spec: Record<string, unknown> & { containers: { command?: string[] }[] } };
}

function podSpec(job: KubeObject) {
  return (job['spec'] as JobSpec).template.spec;
}

function backups(changes: Record<string, unknown>) {
  return PoliciesSchema.parse({ backups: changes }).backups;
}

describe('policy Jobs', () => {
  it('run once on their node, even when it is cordoned, and vanish a day later', () => {
    for (const job of [
      patchJob(run, 'node-1'),
      rebootJob(run, 'node-1'),
      renewCertificatesJob(run, 'node-1'),
      cisScanJob(run, 'node-1', 'worker'),
    ]) {
      expect(job['spec']).toMatchObject({ backoffLimit: 0, ttlSecondsAfterFinished: 86_400 });
      expect(podSpec(job)).toMatchObject({
        nodeName: 'node-1',
        restartPolicy: 'Never',
        tolerations: [{ operator: 'Exists' }],
      });
    }
  });

  it('let the last lines of their log be the reason of a failure', () => {
    const jobs = [
      patchJob(run, 'n'),
      renewCertificatesJob(run, 'n'),
      cisScanJob(run, 'n', 'worker'),
      vulnerabilityScan(run).at(-1),
      conformanceScan(run, 'v1.36.1', 'certified').at(-1),
    ];
    for (const job of jobs)
      expect(job && podSpec(job).containers).toEqual([
        expect.objectContaining({ terminationMessagePolicy: 'FallbackToLogsOnError' }),
      ]);
  });

  it('hold shell that a shell can read', () => {
    for (const job of [patchJob(run, 'n'), rebootJob(run, 'n'), renewCertificatesJob(run, 'n')]) {
      const [container] = podSpec(job).containers;
      const [, , script] = container?.command ?? [];
      expect(spawnSync('sh', ['-n'], { input: script ?? '', encoding: 'utf8' })).toMatchObject({
        status: 0,
        stderr: '',
      });
    }
  });

  it('have names that Kubernetes takes, for the longest node names', () => {
    const name = policyJobName('patching', { id: 'act-0123456789' }, `${'long-'.repeat(40)}.maas`);
    expect(name.length).toBeLessThanOrEqual(63);
    expect(name).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
  });
});

describe('backups', () => {
  const target = { url: 'https://s3.site:9000', bucket: 'backups', prefix: 'demo', region: 'us-east-1' };
  const credentials = { accessKeyId: 'AK', secretAccessKey: 'SK' };

  it('point Velero at the bucket, with credentials in a Secret and files instead of snapshots', () => {
    const policy = backups({ schedule: '0 1 * * 0', ttlHours: 48, includeClusterResources: 'always' });
    const [secret, location, schedule] = backupObjects(policy, target, credentials);
    expect(secret?.['stringData']).toEqual({
      cloud: '[default]\naws_access_key_id=AK\naws_secret_access_key=SK\n',
    });
    expect(location?.['spec']).toMatchObject({
      objectStorage: { bucket: 'backups', prefix: 'demo' },
      config: { s3Url: 'https://s3.site:9000', s3ForcePathStyle: 'true' },
      credential: { name: 'pcg-backup-target', key: 'cloud' },
    });
    expect(schedule?.['spec']).toMatchObject({
      schedule: '0 1 * * 0',
      template: {
        ttl: '48h0m0s',
        includeClusterResources: true,
        snapshotVolumes: false,
        defaultVolumesToFsBackup: true,
      },
    });
    expect(backupNow(policy, 'r1')).toMatchObject({
      kind: 'Backup',
      metadata: { name: 'pcg-r1', namespace: 'velero' },
      spec: { storageLocation: 'pcg' },
    });
  });

  it('make no schedule for never', () => {
    expect(backupObjects(backups({}), target, credentials).map(({ kind }) => kind)).toEqual([
      'Secret',
      'BackupStorageLocation',
    ]);
  });
});

describe('policy results', () => {
  it('are read from outputs, as text or as parsed JSON', () => {
    expect(readPatchResult('{"upgraded":12,"rebootRequired":true}')).toEqual({
      upgraded: 12,
      rebootRequired: true,
    });
    const report = {
      Controls: [
        {
          tests: [
            { results: [{ test_number: '1.1.1', test_desc: 'd', status: 'FAIL' }, { status: 'PASS' }] },
          ],
        },
      ],
      Totals: { total_pass: 1, total_fail: 1, total_warn: 2, total_info: 0 },
    };
    const wanted = { pass: 1, fail: 1, warn: 2, info: 0, failed: [{ id: '1.1.1', text: 'd' }] };
    expect(readCisResult(report)).toEqual(wanted);
    expect(readCisResult(JSON.stringify(report))).toEqual(wanted);
  });

  it.each(['', 'Killed', '[]', '{"upgraded":"many"}', 'null', 42, undefined])(
    'are undefined for %j',
    (output) => {
      expect(readPatchResult(output)).toBeUndefined();
      expect(readCisResult(output)).toBeUndefined();
      expect(readConformanceResult(output)).toBeUndefined();
    },
  );
});
