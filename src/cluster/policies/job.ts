/**
 * One Kubernetes Job as a step that can be repeated: created when absent, looked at otherwise, its log read at
 * the end, then deleted. The name carries the run, so a restart continues and never starts a second one.
 */
import type { KubeClient, KubeObject } from '../../kube/client.ts';
import { asRecord } from '../../kube/errors.ts';

export const POLICY_NAMESPACE = 'pcg-system';
/** A finished Job removes itself after this, should the gateway never come back for it. */
const KEPT_SECONDS = 24 * 60 * 60;
/** End of the log that is read. */
const LOG_BYTES = 4 * 1024 * 1024;

export interface JobRequest {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  /** Runs on this node and nowhere else, whatever its taints are. */
  readonly nodeName: string;
  /** Sees and enters the node's own processes. */
  readonly privileged: boolean;
  /** Directories of the node, read-only. */
  readonly hostPaths: readonly string[];
}

export type JobOutcome =
  | { readonly kind: 'running' }
  | { readonly kind: 'succeeded'; readonly log: string }
  | { readonly kind: 'failed'; readonly log: string };

export async function runJob(
  client: KubeClient,
  request: JobRequest,
  signal: AbortSignal,
): Promise<JobOutcome> {
  const path = `/apis/batch/v1/namespaces/${POLICY_NAMESPACE}/jobs/${request.name}`;
  const job = await client.get(path, signal);
  if (job === undefined) {
    await client.create(
      {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: POLICY_NAMESPACE, labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } },
      },
      signal,
    );
    await client.create(jobObject(request), signal);
    return { kind: 'running' };
  }
  const status = asRecord(job['status']);
  const ended =
    Number(status['succeeded'] ?? 0) > 0
      ? 'succeeded'
      : Number(status['failed'] ?? 0) > 0
        ? 'failed'
        : undefined;
  if (ended === undefined) return { kind: 'running' };
  const log = await readLog(client, request.name, signal);
  await client.delete(path, signal, { propagation: 'Background' });
  return { kind: ended, log };
}

async function readLog(client: KubeClient, job: string, signal: AbortSignal): Promise<string> {
  const selector = encodeURIComponent(`batch.kubernetes.io/job-name=${job}`);
  const { items } = await client.list(
    `/api/v1/namespaces/${POLICY_NAMESPACE}/pods?labelSelector=${selector}`,
    signal,
  );
  const pod = items.at(-1);
  if (!pod) return '';
  const answer = await client.request(
    { path: `/api/v1/namespaces/${POLICY_NAMESPACE}/pods/${pod.metadata.name}/log?limitBytes=${LOG_BYTES}` },
    signal,
  );
  return typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body ?? '');
}

function jobObject(request: JobRequest): KubeObject {
  const volumes = request.hostPaths.map((path, index) => ({ name: `host-${index}`, hostPath: { path } }));
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: request.name, namespace: POLICY_NAMESPACE },
    spec: {
      backoffLimit: 0,
      ttlSecondsAfterFinished: KEPT_SECONDS,
      template: {
        spec: {
          nodeName: request.nodeName,
          restartPolicy: 'Never',
          hostPID: true,
          ...(request.privileged ? { hostNetwork: true } : {}),
          tolerations: [{ operator: 'Exists' }],
          volumes,
          containers: [
            {
              name: 'run',
              image: request.image,
              command: [...request.command],
              ...(request.privileged ? { securityContext: { privileged: true } } : {}),
              volumeMounts: request.hostPaths.map((path, index) => ({
                name: `host-${index}`,
                mountPath: path,
                readOnly: true,
              })),
            },
          ],
        },
      },
    },
  };
}
