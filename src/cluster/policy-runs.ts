/**
 * One pass over a policy run in a tenant cluster: starts what is missing, looks at what runs, reads what has ended.
 * Everything is named by the run, so a pass can be repeated after any crash and starts nothing twice.
 * Neighbours: policies-manifests.ts (what is started), policies-results.ts (what it says).
 */
import { assertNever } from '../base/assert.ts';
import { PcgError } from '../base/errors.ts';
import type { KubeClient, KubeObject } from '../kube/client.ts';
import { asRecord, asText, statusError } from '../kube/errors.ts';
import { judgeReadiness } from '../kube/readiness.ts';
import {
  cisScanJob,
  conformanceScan,
  patchJob,
  POLICY_NAMESPACE,
  policyNamespace,
  type PolicyRun,
  vulnerabilityScan,
} from './policies-manifests.ts';
import {
  readCisResult,
  readConformanceResult,
  readPatchResult,
  readVulnerabilityResult,
} from './policies-results.ts';

export type JobPolicy = 'patching' | 'cis' | 'conformance' | 'vulnerabilities';

export interface PolicyTask {
  readonly policy: JobPolicy;
  readonly run: PolicyRun;
  readonly kubernetesVersion: string;
  /** Ready nodes by name. */
  readonly nodes: readonly { readonly name: string; readonly role: 'control-plane' | 'worker' }[];
  /** The maintenance window is over: patching begins no further node. */
  readonly closed?: boolean;
}

export type PolicyOutcome =
  | { readonly kind: 'running'; readonly waitingFor: string }
  /** Patching: `rebootRequired` are nodes that want a reboot, which is the caller's; `postponed` had no turn. */
  | { readonly kind: 'done'; readonly summary: Record<string, unknown> }
  | { readonly kind: 'failed'; readonly message: string; readonly summary: Record<string, unknown> };

const FIELD_MANAGER = 'pcg-policies';
/** Most of a pod's log that is read: kube-bench and Trivy summaries stay below. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;

export async function runPolicyPass(
  client: KubeClient,
  task: PolicyTask,
  signal: AbortSignal,
): Promise<PolicyOutcome> {
  switch (task.policy) {
    case 'patching':
      return await patchNodes(client, task, signal);
    case 'cis':
      return await scanBenchmarks(client, task, signal);
    case 'vulnerabilities':
      return await scanOnce(client, vulnerabilityScan(task.run), readVulnerabilityResult, signal);
    case 'conformance':
      return await scanOnce(
        client,
        conformanceScan(task.run, task.kubernetesVersion, 'certified'),
        readConformanceResult,
        signal,
      );
    default:
      return assertNever(task.policy, 'policy');
  }
}

/** One node at a time, so that a bad package stops at the first node that it breaks. */
async function patchNodes(client: KubeClient, task: PolicyTask, signal: AbortSignal): Promise<PolicyOutcome> {
  const nodes: Record<string, unknown> = {};
  const rebootRequired: string[] = [];
  const postponed: string[] = [];
  for (const node of task.nodes) {
    const job = patchJob(task.run, node.name);
    if (task.closed === true && (await getJob(client, job.metadata.name, signal)) === undefined) {
      postponed.push(node.name);
      continue;
    }
    const step = await followJob(client, [job], signal);
    if (step.kind === 'running') return { kind: 'running', waitingFor: `packages of ${node.name}` };
    if (step.kind === 'failed')
      return { kind: 'failed', message: `${node.name}: ${step.why}`, summary: { nodes } };
    const result = readPatchResult(step.message);
    nodes[node.name] = result ?? { upgraded: 'unknown' };
    if (result?.rebootRequired === true) rebootRequired.push(node.name);
  }
  return { kind: 'done', summary: { nodes, rebootRequired, postponed } };
}

/** Nodes of one role are made alike: one of each is looked at. */
async function scanBenchmarks(
  client: KubeClient,
  task: PolicyTask,
  signal: AbortSignal,
): Promise<PolicyOutcome> {
  const summary: Record<string, unknown> = {};
  for (const role of ['control-plane', 'worker'] as const) {
    const node = task.nodes.find((candidate) => candidate.role === role);
    if (node === undefined) continue;
    const step = await followJob(client, [cisScanJob(task.run, node.name, role)], signal);
    if (step.kind === 'running') return { kind: 'running', waitingFor: `the scan of ${node.name}` };
    if (step.kind === 'failed') return { kind: 'failed', message: `${node.name}: ${step.why}`, summary };
    const result = readCisResult(await readLog(client, step.pod, signal));
    if (result === undefined)
      return { kind: 'failed', message: `${node.name}: the scan left no report`, summary };
    summary[role] = result;
  }
  return { kind: 'done', summary };
}

async function scanOnce(
  client: KubeClient,
  objects: readonly KubeObject[],
  read: (log: unknown) => object | undefined,
  signal: AbortSignal,
): Promise<PolicyOutcome> {
  const step = await followJob(client, objects, signal);
  if (step.kind === 'running') return { kind: 'running', waitingFor: step.waitingFor };
  const result = step.pod === undefined ? undefined : read(await readLog(client, step.pod, signal));
  const summary = { ...result };
  if (step.kind === 'failed') return { kind: 'failed', message: step.why, summary };
  return result === undefined
    ? { kind: 'failed', message: 'the scan left no report', summary }
    : { kind: 'done', summary };
}

export type JobState =
  | { readonly kind: 'running'; readonly waitingFor: string }
  | { readonly kind: 'ended'; readonly pod: string | undefined; readonly message: string }
  | { readonly kind: 'failed'; readonly pod: string | undefined; readonly why: string };

/** `objects`: a Job and what it needs; the Job is last. */
export async function followJob(
  client: KubeClient,
  objects: readonly KubeObject[],
  signal: AbortSignal,
): Promise<JobState> {
  const wanted = objects.at(-1);
  if (wanted?.kind !== 'Job') throw new PcgError('INTERNAL', 'a policy without a Job');
  const { name } = wanted.metadata;
  const job = await getJob(client, name, signal);
  if (job === undefined) {
    for (const object of [policyNamespace(), ...objects.slice(0, -1)])
      await client.apply(object, { fieldManager: FIELD_MANAGER, force: true }, signal);
    await createdBy(client, wanted, signal);
    return { kind: 'running', waitingFor: `job ${name} to start` };
  }
  const state = judgeReadiness(job);
  if (state.kind === 'waiting') return { kind: 'running', waitingFor: `job ${name}` };
  const pod = await podOf(client, name, signal);
  const message = terminationMessage(pod);
  if (state.kind === 'failed')
    return { kind: 'failed', pod: pod?.metadata.name, why: message === '' ? state.why : message.slice(-500) };
  return { kind: 'ended', pod: pod?.metadata.name, message };
}

async function getJob(
  client: KubeClient,
  name: string,
  signal: AbortSignal,
): Promise<KubeObject | undefined> {
  return await client.get(`/apis/batch/v1/namespaces/${POLICY_NAMESPACE}/jobs/${name}`, signal);
}

async function createdBy(
  client: KubeClient,
  object: KubeObject,
  signal: AbortSignal,
): Promise<KubeObject | undefined> {
  const created = await client.create(object, signal);
  return created === 'exists' ? undefined : created;
}

async function podOf(client: KubeClient, job: string, signal: AbortSignal): Promise<KubeObject | undefined> {
  const selector = encodeURIComponent(`batch.kubernetes.io/job-name=${job}`);
  const { items } = await client.list(
    `/api/v1/namespaces/${POLICY_NAMESPACE}/pods?labelSelector=${selector}`,
    signal,
  );
  return items.at(-1);
}

function terminationMessage(pod: KubeObject | undefined): string {
  const statuses = asRecord(pod?.['status'])['containerStatuses'];
  const [first] = Array.isArray(statuses) ? statuses.map(asRecord) : [];
  return asText(asRecord(asRecord(first?.['state'])['terminated'])['message']);
}

async function readLog(client: KubeClient, pod: string | undefined, signal: AbortSignal): Promise<unknown> {
  if (pod === undefined) return undefined;
  const path = `/api/v1/namespaces/${POLICY_NAMESPACE}/pods/${encodeURIComponent(pod)}/log?limitBytes=${MAX_LOG_BYTES}`;
  const answer = await client.request({ path }, signal);
  if (answer.status === 404) return undefined;
  if (answer.status !== 200) throw statusError(answer.status, answer.body, `log of ${pod}`);
  return answer.body;
}
