/** Dependents go with their owners; owners deleted in the foreground wait for their dependents. */
import type { ApiCore } from '../api/core.ts';
import type { KubeObject } from '../api/json.ts';
import { R } from '../api/resources.ts';
import { ApiError } from '../api/status.ts';

export function collectGarbage({ core }: { readonly core: ApiCore }): void {
  const living = new Map<string, KubeObject>();
  const dependents: { storage: string; object: KubeObject }[] = [];
  for (const storage of core.store.resources()) {
    if (storage === R.events || storage === R.leases) continue;
    for (const object of core.store.values(storage)) {
      living.set(object.metadata.uid ?? '', object);
      if (object.metadata.ownerReferences?.length) dependents.push({ storage, object });
    }
  }
  const blocked = new Set<string>();
  for (const { storage, object } of dependents) {
    const owners = object.metadata.ownerReferences ?? [];
    const present = owners.filter((owner) => living.has(owner.uid));
    const foreground = present.filter((owner) => waits(living.get(owner.uid), 'foregroundDeletion'));
    const orphaning = present.filter((owner) => waits(living.get(owner.uid), 'orphan'));
    if (orphaning.length > 0) {
      core.edit(storage, object.metadata, (draft) => {
        const rest = owners.filter((owner) => !orphaning.includes(owner));
        if (rest.length > 0) draft.metadata.ownerReferences = rest;
        else delete draft.metadata.ownerReferences;
      });
      continue;
    }
    if (present.length > foreground.length) continue;
    for (const owner of foreground) blocked.add(owner.uid);
    if (object.metadata.deletionTimestamp) continue;
    try {
      const type = core.type(storage);
      core.objects.delete(
        type,
        object.metadata.namespace,
        object.metadata.name,
        foreground.length > 0 ? { propagationPolicy: 'Foreground' } : {},
      );
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }
  for (const object of living.values()) {
    const ended = [
      'orphan',
      ...(blocked.has(object.metadata.uid ?? '') ? [] : ['foregroundDeletion']),
    ].filter((name) => waits(object, name));
    if (ended.length === 0) continue;
    const type = core.registry.byKind(object.apiVersion, object.kind);
    if (!type) continue;
    core.edit(type.storage, object.metadata, (draft) => {
      draft.metadata.finalizers = (draft.metadata.finalizers ?? []).filter((name) => !ended.includes(name));
    });
  }
}

const waits = (object: KubeObject | undefined, finalizer: string) =>
  object?.metadata.deletionTimestamp !== undefined &&
  object.metadata.finalizers?.includes(finalizer) === true;
