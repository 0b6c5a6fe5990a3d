/**
 * Node objects: which one belongs to a machine, and the labels and taints that a pool gives to it. What the pool
 * once gave and no longer wants is taken away; what kubelets, controllers and people set stays.
 */
import type { KubeClient, KubeObject } from './client.ts';
import { asRecord } from './errors.ts';

export interface NodeTaint {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
}

export interface NodeSettings {
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly NodeTaint[];
  /** Set when the Node has none; it can never be changed afterwards. */
  readonly providerId?: string;
}

/** Remembers on the Node which labels and taints came from us: JSON `{labels: [key], taints: ["key:effect"]}`. */
const ANNOTATION_MANAGED = 'pcg.internal/managed-settings';

/**
 * The Node of a machine: by provider id, else by host name among Nodes without one. A Node of the same name
 * with another provider id belongs to another machine.
 */
export function findNode(
  nodes: readonly KubeObject[],
  machine: { readonly providerId: string; readonly hostname: string },
): KubeObject | undefined {
  const byId = nodes.find((node) => asRecord(node['spec'])['providerID'] === machine.providerId);
  if (byId !== undefined) return byId;
  const hostname = machine.hostname.toLowerCase();
  return nodes.find(
    (node) => node.metadata.name === hostname && (asRecord(node['spec'])['providerID'] ?? '') === '',
  );
}

/** JSON merge patch that brings `node` to `wanted`, or undefined when it is so already. Pure. */
export function nodePatch(node: KubeObject, wanted: NodeSettings): Record<string, unknown> | undefined {
  const spec = asRecord(node['spec']);
  const labels = node.metadata.labels ?? {};
  const before = readManaged(node);
  const changedLabels: Record<string, string | null> = {};
  for (const [key, value] of Object.entries(wanted.labels))
    if (labels[key] !== value) changedLabels[key] = value;
  for (const key of before.labels) if (!(key in wanted.labels) && key in labels) changedLabels[key] = null;

  const present = readTaints(spec['taints']);
  const wantedTaints = new Map(wanted.taints.map((taint) => [taintKey(taint), taint]));
  const foreign = present.filter(
    (taint) => !wantedTaints.has(taintKey(taint)) && !before.taints.includes(taintKey(taint)),
  );
  const taints = [...foreign, ...wantedTaints.values()].map(normalTaint);
  const taintsDiffer = describeTaints(taints) !== describeTaints(present.map(normalTaint));

  const managed = JSON.stringify({
    labels: Object.keys(wanted.labels).sort(),
    taints: [...wantedTaints.keys()].sort(),
  });
  const remember = managed !== (node.metadata.annotations?.[ANNOTATION_MANAGED] ?? EMPTY_MANAGED);
  const repairId = wanted.providerId !== undefined && (spec['providerID'] ?? '') === '';
  if (Object.keys(changedLabels).length === 0 && !taintsDiffer && !remember && !repairId) return undefined;
  return {
    metadata: {
      // Taints are replaced as a whole: a controller that adds one in between must make us look again.
      resourceVersion: node.metadata.resourceVersion,
      ...(Object.keys(changedLabels).length === 0 ? {} : { labels: changedLabels }),
      ...(remember ? { annotations: { [ANNOTATION_MANAGED]: managed } } : {}),
    },
    ...(taintsDiffer || repairId
      ? {
          spec: {
            ...(taintsDiffer ? { taints } : {}),
            ...(repairId ? { providerID: wanted.providerId } : {}),
          },
        }
      : {}),
  };
}

/** One look, at most one write. `absent`: there is no such Node. Throws KUBE_CONFLICT when it changed in between. */
export async function syncNode(
  client: KubeClient,
  nodeName: string,
  wanted: NodeSettings,
  signal: AbortSignal,
): Promise<'changed' | 'unchanged' | 'absent'> {
  const node = await client.get(nodePath(nodeName), signal);
  if (node === undefined) return 'absent';
  const patch = nodePatch(node, wanted);
  if (patch === undefined) return 'unchanged';
  await client.patch(nodePath(nodeName), patch, 'merge', signal);
  return 'changed';
}

/** Keeps new pods away, or lets them in again. */
export async function cordonNode(
  client: KubeClient,
  nodeName: string,
  on: boolean,
  signal: AbortSignal,
): Promise<void> {
  await client.patch(nodePath(nodeName), { spec: { unschedulable: on } }, 'merge', signal);
}

/** Only after its machine is gone: a living kubelet would register again. */
export async function deleteNode(client: KubeClient, nodeName: string, signal: AbortSignal): Promise<void> {
  await client.delete(nodePath(nodeName), signal);
}

export function nodePath(nodeName: string): string {
  return `/api/v1/nodes/${encodeURIComponent(nodeName)}`;
}

const EMPTY_MANAGED = JSON.stringify({ labels: [], taints: [] });

/** Labels and taints (`key:effect`) on the Node that came from us. */
export function readManaged(node: KubeObject): { labels: string[]; taints: string[] } {
  const text = node.metadata.annotations?.[ANNOTATION_MANAGED] ?? EMPTY_MANAGED;
  try {
    const value = asRecord(JSON.parse(text));
    return { labels: texts(value['labels']), taints: texts(value['taints']) };
  } catch {
    return { labels: [], taints: [] }; // edited by hand: nothing is taken away by mistake
  }
}

function readTaints(value: unknown): NodeTaint[] {
  if (!Array.isArray(value)) return [];
  return value.map(asRecord).map((taint) => ({ ...taint }) as unknown as NodeTaint);
}

/** Key and effect identify a taint; its value may change. */
function taintKey(taint: NodeTaint): string {
  return `${taint.key}:${taint.effect}`;
}

function normalTaint(taint: NodeTaint): NodeTaint {
  const { value, ...rest } = taint;
  return value === undefined || value === '' ? rest : { ...rest, value };
}

function describeTaints(taints: readonly NodeTaint[]): string {
  return taints
    .map((taint) => `${taintKey(taint)}=${taint.value ?? ''}`)
    .sort()
    .join();
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : [];
}
