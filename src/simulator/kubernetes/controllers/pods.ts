/** Small truths about pods that several controllers need. */
import { createHash } from 'node:crypto';
import type { ApiCore } from '../api/core.ts';
import { CONTROLLER_MANAGER } from '../api/core.ts';
import { type Json, type KubeObject, clone } from '../api/json.ts';
import { suffix } from '../api/objects.ts';
import { note } from './events.ts';
import { R } from '../api/resources.ts';

export const isReady = (pod: KubeObject) =>
  (pod.status?.conditions ?? []).some((item: Json) => item.type === 'Ready' && item.status === 'True');
export const isFinished = (pod: KubeObject) => ['Succeeded', 'Failed'].includes(pod.status?.phase);
export const isGoing = (object: KubeObject) => object.metadata.deletionTimestamp !== undefined;

/** A number or a percentage of `total`. */
export function share(value: number | string, total: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value;
  return value.endsWith('%') ? round((Number.parseFloat(value) * total) / 100) : Number(value);
}

/** Pods that the object controls. */
export function podsOf(core: ApiCore, owner: KubeObject): KubeObject[] {
  const found: KubeObject[] = [];
  for (const pod of core.store.values(R.pods)) if (isControlledBy(pod, owner)) found.push(pod);
  return found;
}

export function isControlledBy(object: KubeObject, owner: KubeObject): boolean {
  return (
    object.metadata.ownerReferences?.some(
      (reference) => reference.controller && reference.uid === owner.metadata.uid,
    ) === true
  );
}

export function controllerReference(owner: KubeObject) {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

const HASH_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
/** Short stable hash of a pod template, as pod-template-hash and controller-revision-hash hold it. */
export function templateHash(template: Json): string {
  const digest = createHash('sha256').update(JSON.stringify(template)).digest();
  return [...digest.subarray(0, 10)].map((byte) => HASH_ALPHABET[byte % HASH_ALPHABET.length]).join('');
}

/** Creates one pod from a template. */
export function createPod(
  core: ApiCore,
  owner: KubeObject,
  options: { name?: string; labels?: Record<string, string>; adjust?: (pod: KubeObject) => void },
): KubeObject {
  const template = clone(owner.spec.template);
  const namespace = owner.metadata.namespace ?? 'default';
  const base = owner.metadata.name.slice(0, 57);
  const pod: KubeObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: options.name ?? `${base}-${suffix()}`,
      ...(options.name ? {} : { generateName: `${base}-` }),
      namespace,
      labels: { ...template.metadata?.labels, ...options.labels },
      ...(template.metadata?.annotations ? { annotations: template.metadata.annotations } : {}),
      ownerReferences: [controllerReference(owner)],
    },
    spec: template.spec,
  };
  options.adjust?.(pod);
  const created = core.objects.create(core.type(R.pods), namespace, pod, core.as(CONTROLLER_MANAGER));
  const component = `${owner.kind.toLowerCase()}-controller`;
  note(core, owner, {
    reason: 'SuccessfulCreate',
    message: `Created pod: ${created.metadata.name}`,
    component,
  });
  return created;
}

export function deletePod(core: ApiCore, pod: KubeObject): void {
  if (!isGoing(pod)) core.objects.delete(core.type(R.pods), pod.metadata.namespace, pod.metadata.name, {});
}
