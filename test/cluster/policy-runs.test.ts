import { describe, expect, it } from 'vitest';
import { type PolicyOutcome, type PolicyTask, runPolicyPass } from '../../src/cluster/policy-runs.ts';
import { readConformanceResult } from '../../src/cluster/policies-results.ts';
import type { KubeClient, KubeObject } from '../../src/kube/client.ts';
import type { PodAccess } from '../../src/simulator/kubernetes/api/core.ts';
import { startApiDouble } from '../support/api-server.ts';

const signal = new AbortController().signal;
const JOBS = '/apis/batch/v1/namespaces/pcg-policies/jobs';

function task(policy: PolicyTask['policy']): PolicyTask {
  return {
    policy,
    run: { id: 'run-1' },
    kubernetesVersion: 'v1.36.1',
    nodes: [
      { name: 'cp-1', role: 'control-plane' },
      { name: 'w-1', role: 'worker' },
      { name: 'w-2', role: 'worker' },
    ],
  };
}

/** What the Job controller and a kubelet would report at the end of a Job. */
async function finish(client: KubeClient, name: string, message: string, failed = false): Promise<void> {
  const condition = { type: failed ? 'Failed' : 'Complete', status: 'True', message: 'BackoffLimitExceeded' };
  await client.create(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: 'pcg-policies' } },
    signal,
  );
  await client.create(
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: `${name}-x`,
        namespace: 'pcg-policies',
        labels: { 'batch.kubernetes.io/job-name': name },
      },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    },
    signal,
  );
  const terminated = { exitCode: failed ? 1 : 0, message };
  const status = { containerStatuses: [{ name: 'c', state: { terminated } }] };
  await client.patch(`/api/v1/namespaces/pcg-policies/pods/${name}-x/status`, { status }, 'merge', signal);
  await client.patch(`${JOBS}/${name}/status`, { status: { conditions: [condition] } }, 'merge', signal);
}

/** Kubelets that answer for logs and nothing else. */
function podLogs(text: () => string): PodAccess {
  const logs = async function* () {
    yield text();
  };
  return { logs } as unknown as PodAccess;
}

async function jobNames(client: KubeClient): Promise<string[]> {
  const { items } = await client.list(JOBS, signal);
  return items.map((job: KubeObject) => job.metadata.name).sort();
}

describe('patching by policy', () => {
  it('goes node by node, starts nothing twice, and tells who wants a reboot', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    const pass = (): Promise<PolicyOutcome> => runPolicyPass(client, task('patching'), signal);
    expect(await pass()).toEqual({ kind: 'running', waitingFor: 'packages of cp-1' });
    expect(await pass()).toEqual({ kind: 'running', waitingFor: 'packages of cp-1' });
    expect(await jobNames(client)).toEqual(['patching-run-1-cp-1']);
    await finish(client, 'patching-run-1-cp-1', '{"upgraded":3,"rebootRequired":false}');
    expect(await pass()).toEqual({ kind: 'running', waitingFor: 'packages of w-1' });
    await finish(client, 'patching-run-1-w-1', '{"upgraded":5,"rebootRequired":true}');
    await pass();
    await finish(client, 'patching-run-1-w-2', 'garbage');
    expect(await pass()).toEqual({
      kind: 'done',
      summary: {
        nodes: {
          'cp-1': { upgraded: 3, rebootRequired: false },
          'w-1': { upgraded: 5, rebootRequired: true },
          'w-2': { upgraded: 'unknown' },
        },
        rebootRequired: ['w-1'],
        postponed: [],
      },
    });
  });

  it('begins no node after its window, and waits for the one that is on', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    await runPolicyPass(client, task('patching'), signal);
    const closed = { ...task('patching'), closed: true };
    expect(await runPolicyPass(client, closed, signal)).toMatchObject({ kind: 'running' });
    await finish(client, 'patching-run-1-cp-1', '{"upgraded":1,"rebootRequired":true}');
    expect(await runPolicyPass(client, closed, signal)).toEqual({
      kind: 'done',
      summary: {
        nodes: { 'cp-1': { upgraded: 1, rebootRequired: true } },
        rebootRequired: ['cp-1'],
        postponed: ['w-1', 'w-2'],
      },
    });
    expect(await jobNames(client)).toEqual(['patching-run-1-cp-1']);
  });

  it('stops at the first node that it breaks', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    await runPolicyPass(client, task('patching'), signal);
    await finish(client, 'patching-run-1-cp-1', 'dpkg: error', true);
    expect(await runPolicyPass(client, task('patching'), signal)).toMatchObject({
      kind: 'failed',
      message: 'cp-1: dpkg: error',
    });
    expect(await jobNames(client)).toEqual(['patching-run-1-cp-1']);
  });
});

describe('scans by policy', () => {
  it('look at one node of each role, and say when a scan left no report', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    expect(await runPolicyPass(client, task('cis'), signal)).toEqual({
      kind: 'running',
      waitingFor: 'the scan of cp-1',
    });
    expect(await jobNames(client)).toEqual(['cis-run-1-cp-1']);
    const report = {
      Controls: [{ tests: [{ results: [{ test_number: '1.2.3', test_desc: 'no', status: 'FAIL' }] }] }],
      Totals: { total_pass: 40, total_fail: 1, total_warn: 2, total_info: 0 },
    };
    let log = JSON.stringify(report);
    server.core.pods = podLogs(() => log);
    await finish(client, 'cis-run-1-cp-1', '');
    expect(await runPolicyPass(client, task('cis'), signal)).toEqual({
      kind: 'running',
      waitingFor: 'the scan of w-1',
    });
    await finish(client, 'cis-run-1-w-1', '');
    expect(await runPolicyPass(client, task('cis'), signal)).toMatchObject({
      kind: 'done',
      summary: {
        'control-plane': { pass: 40, fail: 1, failed: [{ id: '1.2.3', text: 'no' }] },
        worker: { fail: 1 },
      },
    });
    log = 'Killed';
    expect(await runPolicyPass(client, task('cis'), signal)).toMatchObject({
      kind: 'failed',
      message: 'cp-1: the scan left no report',
    });
  });

  it('tell why a scan failed', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    await runPolicyPass(client, task('vulnerabilities'), signal);
    server.core.pods = podLogs(() => 'Killed');
    await finish(client, 'vulnerabilities-run-1', 'out of memory', true);
    expect(await runPolicyPass(client, task('vulnerabilities'), signal)).toEqual({
      kind: 'failed',
      message: 'out of memory',
      summary: {},
    });
  });

  it.each([
    ['Trivy JSON of another shape', { SchemaVersion: 2, ArtifactName: 'image', Metadata: {} }],
    ['a cluster without images', { ClusterName: 'c', Resources: [] }],
    [
      'images of which none could be pulled',
      { Resources: [{ Kind: 'Deployment', Name: 'web', Error: 'scan error: UNAUTHORIZED' }] },
    ],
    [
      'findings of which one has no severity',
      {
        Resources: [
          {
            Kind: 'Deployment',
            Name: 'web',
            Results: [{ Vulnerabilities: [{ VulnerabilityID: 'CVE-1' }] }],
          },
        ],
      },
    ],
  ])('take %s for no report, and not for no vulnerabilities', async (_what, report) => {
    await using server = await startApiDouble();
    const { client } = server;
    await runPolicyPass(client, task('vulnerabilities'), signal);
    server.core.pods = podLogs(() => JSON.stringify(report, undefined, 2));
    await finish(client, 'vulnerabilities-run-1', '');
    expect(await runPolicyPass(client, task('vulnerabilities'), signal)).toEqual({
      kind: 'failed',
      message: 'the scan left no report',
      summary: {},
    });
  });

  it('tell the counts of a conformance suite that failed, and trust none that ran no test', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    await runPolicyPass(client, task('conformance'), signal);
    let log = 'Summarizing 2 Failures\nFAIL! -- 409 Passed | 2 Failed | 0 Pending | 6798 Skipped\n';
    server.core.pods = podLogs(() => log);
    await finish(client, 'conformance-run-1', '[FAIL] [sig-network] DNS should resolve', true);
    expect(await runPolicyPass(client, task('conformance'), signal)).toEqual({
      kind: 'failed',
      message: '[FAIL] [sig-network] DNS should resolve',
      summary: { passed: 409, failed: 2, skipped: 6798 },
    });
    log = 'Ran 0 of 7209 Specs\nSUCCESS! -- 0 Passed | 0 Failed | 0 Pending | 7209 Skipped\n';
    await client.delete(`${JOBS}/conformance-run-1`, signal);
    await client.delete('/api/v1/namespaces/pcg-policies/pods/conformance-run-1-x', signal);
    await runPolicyPass(client, task('conformance'), signal);
    await finish(client, 'conformance-run-1', '');
    expect(await runPolicyPass(client, task('conformance'), signal)).toMatchObject({
      kind: 'failed',
      message: 'the scan left no report',
    });
  });

  it('stop with the first role whose CIS scan ends badly, and keep what the other gave', async () => {
    await using server = await startApiDouble();
    const { client } = server;
    await runPolicyPass(client, task('cis'), signal);
    const Totals = { total_pass: 1, total_fail: 0, total_warn: 0, total_info: 0 };
    server.core.pods = podLogs(() => JSON.stringify({ Controls: [], Totals }));
    await finish(client, 'cis-run-1-cp-1', '');
    await runPolicyPass(client, task('cis'), signal);
    await finish(client, 'cis-run-1-w-1', 'unable to determine benchmark version', true);
    expect(await runPolicyPass(client, task('cis'), signal)).toMatchObject({
      kind: 'failed',
      message: 'w-1: unable to determine benchmark version',
      summary: { 'control-plane': { pass: 1, fail: 0 } },
    });
  });

  it('read the summary line of the conformance suite', () => {
    const log = 'Ran 411 of 7209 Specs\nSUCCESS! -- 411 Passed | 0 Failed | 0 Pending | 6798 Skipped\nPASS\n';
    expect(readConformanceResult(log)).toEqual({ passed: 411, failed: 0, skipped: 6798 });
    expect(readConformanceResult('FAIL! -- 1 Passed | 2 Failed | 1 Flaked | 0 Pending | 3 Skipped')).toEqual({
      passed: 1,
      failed: 2,
      skipped: 3,
    });
    const painted =
      '\u001b[1mFAIL!\u001b[0m -- \u001b[38;5;10m1 Passed\u001b[0m | 2 Failed | \u001b[1m3 Skipped\u001b[0m';
    expect(readConformanceResult(painted)).toEqual({ passed: 1, failed: 2, skipped: 3 });
    expect(readConformanceResult('no summary')).toBeUndefined();
  });
});
