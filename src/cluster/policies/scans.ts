/** Scans: CIS by kube-bench on one node of each role, vulnerabilities from the reports of trivy-operator. */
import { PcgError } from '../../base/errors.ts';
import type { KubeClient } from '../../kube/client.ts';
import { asRecord } from '../../kube/errors.ts';
import type { KubeNode } from '../observed.ts';
import { runJob } from './job.ts';
import type { PolicyStep } from './run.ts';

const KUBE_BENCH = 'docker.io/aquasec/kube-bench:v0.12.0';
/** What kube-bench reads: configuration of the components and where they run. */
const KUBE_BENCH_PATHS = [
  '/etc/kubernetes',
  '/var/lib/etcd',
  '/var/lib/kubelet',
  '/etc/systemd',
  '/lib/systemd',
  '/etc/cni/net.d',
  '/opt/cni/bin',
];

export async function scanCis(
  client: KubeClient,
  nodes: readonly KubeNode[],
  run: string,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const control = nodes.find((node) => node.controlPlane && node.ready);
  const worker = nodes.find((node) => !node.controlPlane && node.ready);
  const targets = [
    ...(control ? [{ role: 'control-plane', node: control, targets: 'master,etcd,node,policies' }] : []),
    ...(worker ? [{ role: 'worker', node: worker, targets: 'node' }] : []),
  ];
  const summary: Record<string, unknown> = {};
  for (const { role, node, targets: checks } of targets) {
    const request = {
      name: `cis-${role}-${run}`,
      image: KUBE_BENCH,
      command: ['kube-bench', 'run', '--targets', checks, '--json'],
      nodeName: node.name,
      privileged: false,
      hostPaths: KUBE_BENCH_PATHS,
    };
    const outcome = await runJob(client, request, signal);
    if (outcome.kind === 'running') return { kind: 'later', waitingFor: `kube-bench on ${node.name}` };
    if (outcome.kind === 'failed')
      throw new PcgError('ADDON_NOT_READY', `kube-bench failed on ${node.name}`, {
        details: { log: outcome.log.slice(-2000) },
      });
    summary[role] = readTotals(outcome.log);
  }
  return { kind: 'done', summary };
}

/** Totals of kube-bench's JSON, as text between other lines of the log. */
export function readTotals(log: string): Record<string, number> {
  const start = log.indexOf('{');
  try {
    const totals = asRecord(asRecord(JSON.parse(log.slice(start)))['Totals']);
    const count = (name: string) => Number(totals[name] ?? 0);
    return {
      pass: count('total_pass'),
      fail: count('total_fail'),
      warn: count('total_warn'),
      info: count('total_info'),
    };
  } catch (cause) {
    throw new PcgError('ADDON_NOT_READY', 'kube-bench wrote no report', {
      cause,
      details: { log: log.slice(-2000) },
    });
  }
}

const REPORTS = '/apis/aquasecurity.github.io/v1alpha1/vulnerabilityreports';

export async function collectVulnerabilities(client: KubeClient, signal: AbortSignal): Promise<PolicyStep> {
  const answer = await client.request({ path: `${REPORTS}?limit=1` }, signal);
  if (answer.status === 404)
    throw new PcgError('ADDON_NOT_READY', 'the cluster has no trivy-operator', {
      fix: 'Add a trivy-operator pack to the profile.',
    });
  const { items } = await client.list(REPORTS, signal);
  const totals = { critical: 0, high: 0, medium: 0, low: 0 };
  for (const item of items) {
    const summary = asRecord(asRecord(item['report'])['summary']);
    totals.critical += Number(summary['criticalCount'] ?? 0);
    totals.high += Number(summary['highCount'] ?? 0);
    totals.medium += Number(summary['mediumCount'] ?? 0);
    totals.low += Number(summary['lowCount'] ?? 0);
  }
  return { kind: 'done', summary: { reports: items.length, ...totals } };
}
