/** Endpoints and EndpointSlices of services with a selector, and of the API itself. */
import type { ApiCore } from '../api/core.ts';
import { type Json, type KubeObject, sameJson } from '../api/json.ts';
import { R } from '../api/resources.ts';
import { matchesSelector } from '../api/selectors.ts';
import type { SimCluster } from '../node/cluster.ts';
import { isReady } from './pods.ts';

export function fillEndpoints(cluster: SimCluster): void {
  const { core } = cluster;
  const serving = [...cluster.controlPlanes.values()].filter((node) => node.serving);
  for (const service of core.store.all(R.services)) {
    const { name, namespace } = service.metadata;
    if (name === 'kubernetes' && namespace === 'default') {
      write(
        core,
        service,
        serving.map((node) => ({ ip: node.machine.ip })),
        [{ name: 'https', port: 6443, protocol: 'TCP' }],
      );
      continue;
    }
    if (!service.spec?.selector || service.spec.type === 'ExternalName') continue;
    const pods = core.store
      .all(R.pods)
      .filter(
        (pod) =>
          pod.metadata.namespace === namespace &&
          matchesSelector({ matchLabels: service.spec.selector }, pod.metadata.labels) &&
          isReady(pod) &&
          pod.status?.podIP,
      );
    const ports = (service.spec.ports ?? []).map((port: Json) => ({
      ...(port.name ? { name: port.name } : {}),
      port: targetPort(port, pods[0]),
      protocol: port.protocol,
    }));
    write(
      core,
      service,
      pods.map((pod) => ({
        ip: pod.status.podIP,
        nodeName: pod.spec.nodeName,
        targetRef: { kind: 'Pod', namespace, name: pod.metadata.name, uid: pod.metadata.uid },
      })),
      ports,
    );
  }
}

function targetPort(port: Json, pod: KubeObject | undefined): number {
  if (typeof port.targetPort === 'number') return port.targetPort;
  const named = (pod?.spec?.containers ?? [])
    .flatMap((container: Json) => container.ports ?? [])
    .find((item: Json) => item.name === port.targetPort);
  return named?.containerPort ?? port.port;
}

function write(core: ApiCore, service: KubeObject, addresses: Json[], ports: Json[]): void {
  const { name, namespace } = service.metadata;
  const subsets = addresses.length > 0 ? [{ addresses, ports }] : undefined;
  const endpoints = core.ensure(R.endpoints, {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name, namespace: namespace ?? 'default' },
  });
  if (!sameJson(endpoints.subsets, subsets))
    core.edit(R.endpoints, endpoints.metadata, (draft) => {
      if (subsets) draft.subsets = subsets;
      else delete draft.subsets;
    });
  const slice = core.ensure(R.endpointslices, {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: name === 'kubernetes' ? name : `${name}-1`,
      namespace: namespace ?? 'default',
      labels: { 'kubernetes.io/service-name': name },
      ownerReferences: [
        { apiVersion: 'v1', kind: 'Service', name, uid: service.metadata.uid ?? '', controller: true },
      ],
    },
    addressType: 'IPv4',
    endpoints: [],
    ports,
  });
  const wanted = addresses.map((address) => ({
    addresses: [address.ip],
    conditions: { ready: true },
    ...(address.nodeName ? { nodeName: address.nodeName } : {}),
    ...(address.targetRef ? { targetRef: address.targetRef } : {}),
  }));
  if (!sameJson(slice.endpoints, wanted) || !sameJson(slice.ports, ports))
    core.edit(R.endpointslices, slice.metadata, (draft) => {
      draft.endpoints = wanted;
      draft.ports = ports;
    });
}
