/**
 * Nodes that patching left waiting for a reboot, one at a time: drain, reboot, a new boot id, Ready, back to
 * work. What has been done is kept by the caller between calls, so that a restart goes on in the middle.
 */
import type { KubeClient } from '../../kube/client.ts';
import { drainPass } from '../../kube/drain.ts';
import { asRecord } from '../../kube/errors.ts';
import type { KubeNode } from '../observed.ts';
import { policyNamespace, rebootJob } from '../policies-manifests.ts';

export interface RebootProgress {
  readonly wanting: readonly string[];
  /** Written down before the reboot: the answer of its Job dies with the machine. */
  readonly current?: { readonly node: string; readonly bootId: string };
}

export type RebootStep =
  | { readonly kind: 'done' }
  | { readonly kind: 'later'; readonly waitingFor: string; readonly progress: RebootProgress };

const texts = (value: unknown) =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];

export function readRebootProgress(value: unknown): RebootProgress {
  const { wanting, current } = asRecord(value);
  const { node, bootId } = asRecord(current);
  const known = typeof node === 'string' && typeof bootId === 'string' ? { current: { node, bootId } } : {};
  return { wanting: texts(wanting), ...known };
}

export async function rebootNodes(
  client: KubeClient,
  nodes: readonly KubeNode[],
  progress: RebootProgress,
  options: { readonly run: string; readonly nowMs: number },
  signal: AbortSignal,
): Promise<RebootStep> {
  const later = (waitingFor: string, next: RebootProgress = progress): RebootStep => ({
    kind: 'later',
    waitingFor,
    progress: next,
  });
  const { current, wanting } = progress;
  if (current) {
    const node = nodes.find(({ name }) => name === current.node);
    const rest = { wanting: wanting.filter((name) => name !== current.node) };
    if (!node) return later(`${current.node} has left`, rest);
    if (node.bootId === current.bootId) {
      await client.apply(policyNamespace(), { fieldManager: 'pcg-policies', force: true }, signal);
      await client.create(rebootJob({ id: options.run }, node.name), signal);
      return later(`${node.name} to reboot`);
    }
    if (!node.ready) return later(`${node.name} to be Ready again`);
    await cordon(client, node.name, false, signal);
    return later('the next node', rest);
  }
  const [next] = wanting;
  if (next === undefined) return { kind: 'done' };
  const node = nodes.find(({ name }) => name === next);
  if (!node) return later(`${next} has left`, { wanting: wanting.slice(1) });
  // Never more than one node away: whoever is not Ready comes back first.
  const sick = nodes.find(({ ready }) => !ready);
  if (sick) return later(`${sick.name} to be Ready`);
  await cordon(client, next, true, signal);
  const drain = await drainPass(
    client,
    next,
    { unreachable: false, force: false, nowMs: options.nowMs },
    signal,
  );
  if (drain.kind === 'draining') {
    const [blocked] = drain.blocked;
    return later(
      blocked ? `${blocked.namespace}/${blocked.name}: ${blocked.message}` : `${next} to be drained`,
    );
  }
  return later(`${next} to reboot`, { wanting, current: { node: next, bootId: node.bootId ?? '' } });
}

async function cordon(client: KubeClient, node: string, on: boolean, signal: AbortSignal): Promise<void> {
  await client.patch(
    `/api/v1/nodes/${encodeURIComponent(node)}`,
    { spec: { unschedulable: on } },
    'merge',
    signal,
  );
}
