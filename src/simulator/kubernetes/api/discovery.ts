/** What the server tells clients about itself: versions, groups, resources (plain and aggregated), OpenAPI. */
import type { Json } from './json.ts';
import type { ResourceRegistry, ResourceType } from './resources.ts';

const KIND_OF_SUBRESOURCE: Record<string, Json> = {
  scale: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
  eviction: { group: 'policy', version: 'v1', kind: 'Eviction' },
  binding: { kind: 'Binding' },
  token: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' },
  exec: { kind: 'PodExecOptions' },
  attach: { kind: 'PodAttachOptions' },
  portforward: { kind: 'PodPortForwardOptions' },
  proxy: { kind: 'PodProxyOptions' },
};

const VERBS_OF_SUBRESOURCE: Record<string, string[]> = {
  status: ['get', 'patch', 'update'],
  scale: ['get', 'patch', 'update'],
  approval: ['get', 'patch', 'update'],
  ephemeralcontainers: ['get', 'patch', 'update'],
  resize: ['get', 'patch', 'update'],
  finalize: ['update'],
  eviction: ['create'],
  binding: ['create'],
  token: ['create'],
  log: ['get'],
  exec: ['create', 'get'],
  attach: ['create', 'get'],
  portforward: ['create', 'get'],
  proxy: ['create', 'delete', 'get', 'patch', 'update'],
};

export function versionInfo(gitVersion: string): Json {
  const [, major = '1', minor = '36'] = /^v(\d+)\.(\d+)/.exec(gitVersion) ?? [];
  return {
    major,
    minor,
    gitVersion,
    gitCommit: '0000000000000000000000000000000000000000',
    gitTreeState: 'clean',
    buildDate: '2026-05-12T00:00:00Z',
    goVersion: 'go1.26.2',
    compiler: 'gc',
    platform: 'linux/amd64',
  };
}

function groups(registry: ResourceRegistry): Map<string, Map<string, ResourceType[]>> {
  const found = new Map<string, Map<string, ResourceType[]>>();
  for (const type of registry.all()) {
    const versions = found.get(type.group) ?? new Map<string, ResourceType[]>();
    found.set(type.group, versions);
    versions.set(type.version, [...(versions.get(type.version) ?? []), type]);
  }
  return found;
}

function groupEntry(name: string, versions: Iterable<string>): Json {
  const list = [...versions].map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: list, preferredVersion: list[0] };
}

export function apiGroupList(registry: ResourceRegistry): Json {
  const entries = [...groups(registry)].filter(([name]) => name !== '');
  return {
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: entries.map(([name, versions]) => groupEntry(name, versions.keys())),
  };
}

export function apiGroup(registry: ResourceRegistry, name: string): Json | undefined {
  const versions = groups(registry).get(name);
  return versions && { kind: 'APIGroup', apiVersion: 'v1', ...groupEntry(name, versions.keys()) };
}

export function apiResourceList(
  registry: ResourceRegistry,
  group: string,
  version: string,
): Json | undefined {
  const types = groups(registry).get(group)?.get(version);
  if (!types) return undefined;
  const resources = types.flatMap((type) => [
    {
      name: type.plural,
      singularName: type.singular,
      namespaced: type.namespaced,
      kind: type.kind,
      verbs: type.verbs,
      ...(type.shortNames.length > 0 ? { shortNames: type.shortNames } : {}),
      ...(type.categories.length > 0 ? { categories: type.categories } : {}),
    },
    ...type.subresources.map((sub) => ({
      name: `${type.plural}/${sub}`,
      singularName: '',
      namespaced: type.namespaced,
      kind: type.kind,
      ...KIND_OF_SUBRESOURCE[sub],
      verbs: VERBS_OF_SUBRESOURCE[sub] ?? ['get'],
    })),
  ]);
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group ? `${group}/${version}` : version,
    resources,
  };
}

/** Aggregated discovery (apidiscovery.k8s.io/v2): `core` true for /api, false for /apis. */
export function aggregated(registry: ResourceRegistry, core: boolean, apiVersion: string): Json {
  const items = [...groups(registry)]
    .filter(([name]) => (name === '') === core)
    .map(([name, versions]) => ({
      metadata: name ? { name, creationTimestamp: null } : { creationTimestamp: null },
      versions: [...versions].map(([version, types]) => ({
        version,
        freshness: 'Current',
        resources: types.map((type) => ({
          resource: type.plural,
          responseKind: { group: type.group, version: type.version, kind: type.kind },
          scope: type.namespaced ? 'Namespaced' : 'Cluster',
          singularResource: type.singular,
          verbs: type.verbs,
          ...(type.shortNames.length > 0 ? { shortNames: type.shortNames } : {}),
          ...(type.categories.length > 0 ? { categories: type.categories } : {}),
          ...(type.subresources.length > 0
            ? {
                subresources: type.subresources.map((sub) => ({
                  subresource: sub,
                  responseKind: {
                    group: type.group,
                    version: type.version,
                    kind: type.kind,
                    ...KIND_OF_SUBRESOURCE[sub],
                  },
                  verbs: VERBS_OF_SUBRESOURCE[sub] ?? ['get'],
                })),
              }
            : {}),
        })),
      })),
    }));
  return { kind: 'APIGroupDiscoveryList', apiVersion, metadata: {}, items };
}
