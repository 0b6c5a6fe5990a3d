/** CustomResourceDefinitions become served a moment after they were created or changed; APIServices are available. */
import type { Json } from '../api/json.ts';
import type { ApiCore } from '../api/core.ts';
import { R } from '../api/resources.ts';

export function establishDefinitions(cluster: { readonly core: ApiCore }): void {
  const { core } = cluster;
  for (const crd of core.store.all(R.crds)) {
    if (crd.metadata.deletionTimestamp) continue;
    const { names, versions } = crd.spec;
    const clash = core.store
      .all(R.crds)
      .find(
        (other) =>
          other !== crd &&
          other.spec.group === crd.spec.group &&
          other.spec.names.kind === names.kind &&
          (other.metadata.creationTimestamp ?? '') < (crd.metadata.creationTimestamp ?? ''),
      );
    const established = (crd.status?.conditions ?? []).some(
      (item: Json) => item.type === 'Established' && item.status === 'True',
    );
    const accepted = JSON.stringify(crd.status?.acceptedNames) === JSON.stringify(names);
    if (clash || (established && accepted)) continue;
    const now = new Date(core.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const condition = (type: string, reason: string, message: string) => ({
      type,
      status: 'True',
      reason,
      message,
      lastTransitionTime: now,
    });
    core.edit(R.crds, crd.metadata, (draft) => {
      draft.status = {
        acceptedNames: names,
        storedVersions: versions
          .filter((version: Json) => version.storage)
          .map((version: Json) => version.name),
        conditions: [
          condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
          condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
        ],
      };
    });
  }
  for (const service of core.store.all(R.apiservices)) {
    if (service.status?.conditions) continue;
    core.edit(R.apiservices, service.metadata, (draft) => {
      draft.status = {
        conditions: [
          {
            type: 'Available',
            status: 'True',
            reason: service.spec?.service ? 'Passed' : 'Local',
            message: '',
          },
        ],
      };
    });
  }
}
