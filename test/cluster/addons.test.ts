/** Add-on packs and node settings of a running cluster, on the Kubernetes double: order, pruning, removal. */
import { describe, expect, it } from 'vitest';
import type { ClusterDocument } from '../../src/contract/cluster.ts';
import { AddonPackSchema } from '../../src/contract/profile.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec, resolvedProfile } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
const configMap = (name: string) =>
  `---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: ${name}, namespace: widgets }\ndata: { a: b }\n`;
/** The custom resource comes first in the text and last in the cluster. */
const WIDGET = `apiVersion: example.org/v1
kind: Widget
metadata: { name: one, namespace: widgets }
spec: { size: 3 }
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.example.org }
spec:
  group: example.org
  scope: Namespaced
  names: { plural: widgets, singular: widget, kind: Widget, listKind: WidgetList }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
---
apiVersion: v1
kind: Namespace
metadata: { name: widgets }
`;
const DEPLOYMENT = `---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: widgets }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: registry.example/web:1 }] }
`;

const pack = (version: string, manifests: string) =>
  AddonPackSchema.parse({ name: 'widgets', version, layer: 'addon', manifests });

function document(addons: ReturnType<typeof pack>[], workers: object = {}): ClusterDocument {
  return wanted({
    spec: clusterSpec({
      pools: [
        { role: 'control-plane', name: 'cp', size: 1, placement },
        { role: 'worker', name: 'workers', size: 1, placement, ...workers },
      ],
    }),
    profile: resolvedProfile({ addons }),
  });
}

describe('add-ons', () => {
  it('come in order, lose what left them, and go with their pack', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    const store = () => site.kubernetes.inside()[0]?.core.store;
    const maps = () =>
      (store()?.list(R.configmaps) ?? [])
        .filter(({ metadata }) => metadata.namespace === 'widgets')
        .map(({ metadata }) => metadata.name)
        .filter((name) => name !== 'kube-root-ca.crt')
        .sort();
    const ready = () =>
      site.until(
        'settled',
        (status) => status.phase === 'Running' && status.observedGeneration === generation,
      );
    let generation = 1;
    await site.want(document([pack('1', WIDGET + configMap('kept') + configMap('old') + DEPLOYMENT)]));
    await ready();
    expect(maps()).toEqual(['kept', 'old']);
    // A pod more is Ready before its Deployment counts it.
    await site.until(
      'available',
      () => store()?.get(R.deployments, 'widgets', 'web')?.status?.availableReplicas === 2,
    );

    generation = 2;
    await site.want(document([pack('2', WIDGET + configMap('kept') + DEPLOYMENT)]));
    await site.until('pruned', () => maps().join() === 'kept');
    await ready();

    generation = 3;
    await site.want(document([]));
    await site.until('removed', () => maps().length === 0 && !store()?.get(R.deployments, 'widgets', 'web'));
    // What may hold people's data stays.
    expect(store()?.get(R.namespaces, undefined, 'widgets')?.metadata.deletionTimestamp).toBeUndefined();
    await ready();
  });

  it('labels and taints that left the pool leave its nodes, those of others stay', async () => {
    await using site = await SimulatedSite.start({ speed: 200 });
    const node = () => {
      const nodes = site.kubernetes.inside()[0]?.core.store.list(R.nodes) ?? [];
      return nodes.find(
        ({ metadata }) => metadata.labels?.['node-role.kubernetes.io/control-plane'] === undefined,
      );
    };
    const taint = { key: 'dedicated', value: 'gpu', effect: 'NoSchedule' };
    await site.want(document([], { labels: { tier: 'gold', rack: 'r1' }, taints: [taint] }));
    await site.phase('Running');
    await site.until(
      'given',
      () => node()?.metadata.annotations?.['pcg.internal/managed-settings'] !== undefined,
    );
    expect(node()?.metadata.labels).toMatchObject({ tier: 'gold', rack: 'r1' });
    const name = node()?.metadata.name ?? '';
    site.kubernetes.inside()[0]?.core.edit(R.nodes, { name }, (draft) => {
      draft.metadata.labels = { ...draft.metadata.labels, person: 'was-here' };
    });
    await site.want(document([], { labels: { tier: 'silver' } }));
    // Kubernetes has taints of its own, which it takes away when it comes to it.
    await site.until(
      'changed',
      () =>
        node()?.metadata.labels?.['tier'] === 'silver' &&
        !('rack' in (node()?.metadata.labels ?? {})) &&
        (node()?.spec?.taints ?? []).length === 0,
    );
    expect(node()?.metadata.labels).toMatchObject({ person: 'was-here' });
  });
});
