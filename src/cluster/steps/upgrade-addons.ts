/**
 * kube-proxy and CoreDNS after the control plane is new: replacing nodes changes neither. Only their images move,
 * within the registry that they came from; whatever people configured in them, the Corefile above all, stays.
 */
import { PcgError } from '../../base/errors.ts';
import type { KubeObject } from '../../kube/client.ts';
import { judgeCoreDns } from '../../kube/core-dns.ts';
import { asRecord } from '../../kube/errors.ts';
import { retag } from '../../kube/image.ts';
import { condition, judgeReadiness } from '../../kube/readiness.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';

const KUBE_PROXY = '/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy';
const CORE_DNS = '/apis/apps/v1/namespaces/kube-system/deployments/coredns';

export async function upgradeAddons(
  step: { version: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  // Clusters whose CNI replaces kube-proxy have none.
  const proxy = imageOf(await context.kube().get(KUBE_PROXY, signal), 'kube-proxy');
  if (proxy !== undefined)
    await setImage(context, KUBE_PROXY, 'kube-proxy', proxy, retag(proxy, step.version), signal);
  const waitingFor = await moveCoreDns(step.version, context, signal);
  if (waitingFor !== undefined) return { kind: 'later', waitingFor, afterMs: context.timings.kubeProbeMs };
  await context.commit((record) => ({ ...record, addonsVersion: step.version }));
  return DONE;
}

/** Answers what it waits for: names must resolve before workloads are moved about. */
async function moveCoreDns(
  version: string,
  context: StepContext,
  signal: AbortSignal,
): Promise<string | undefined> {
  const deployment = await context.kube().get(CORE_DNS, signal);
  const image = imageOf(deployment, 'coredns');
  if (deployment === undefined || image === undefined) return undefined;
  const verdict = judgeCoreDns(image, version);
  switch (verdict.kind) {
    case 'own':
      await context.event({
        severity: 'warning',
        reason: 'CoreDnsKept',
        message: `CoreDNS is left as it is for Kubernetes ${version}: ${verdict.why}`,
      });
      return undefined;
    case 'move':
      await setImage(context, CORE_DNS, 'coredns', image, verdict.image, signal);
      return `CoreDNS to run ${verdict.image}`;
    case 'current': {
      const readiness = judgeReadiness(deployment);
      if (readiness.kind === 'ready') return undefined;
      // The deployment controller's own verdict: ten minutes without progress.
      if (condition(asRecord(deployment['status']), 'Progressing')?.['reason'] === 'ProgressDeadlineExceeded')
        throw new PcgError(
          'ADDON_NOT_READY',
          `CoreDNS does not become ready with ${image}: ${readiness.why}`,
          {
            retryable: true,
            fix: `See why the pods of deployment kube-system/coredns do not start: is ${image} in the registry that the nodes use?`,
          },
        );
      return `CoreDNS: ${readiness.why}`;
    }
  }
}

async function setImage(
  context: StepContext,
  path: string,
  name: string,
  before: string,
  image: string,
  signal: AbortSignal,
): Promise<void> {
  if (image === before) return;
  const spec = { template: { spec: { containers: [{ name, image }] } } };
  await context.kube().patch(path, { spec }, 'strategic', signal);
  await context.event({
    severity: 'info',
    reason: 'AddonUpgraded',
    message: `${name} moves from ${before} to ${image}`,
  });
}

function imageOf(workload: KubeObject | undefined, container: string): string | undefined {
  const template = asRecord(asRecord(workload?.['spec'])['template']);
  const containers = asRecord(template['spec'])['containers'];
  const own = (Array.isArray(containers) ? containers.map(asRecord) : []).find(
    ({ name }) => name === container,
  );
  return typeof own?.['image'] === 'string' ? own['image'] : undefined;
}
