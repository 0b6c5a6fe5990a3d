/** Reviews: questions that are posted and stored nowhere (who am I, may I, is this token good). */
import { verifyServiceAccountToken } from './authenticate.ts';
import type { ApiCore } from './core.ts';
import type { Json } from './json.ts';
import { type Attributes, isAllowed, rulesFor } from './rbac.ts';
import type { ApiRequest, UserInfo } from './request.ts';
import type { ResourceType } from './resources.ts';

export function review(core: ApiCore, request: ApiRequest, type: ResourceType): Json {
  const { body, user } = request;
  const spec = body?.spec ?? {};
  const reply = (status: Json) => ({
    apiVersion: `${type.group ? `${type.group}/` : ''}${type.version}`,
    kind: type.kind,
    metadata: { creationTimestamp: null },
    spec,
    status,
  });
  switch (type.kind) {
    case 'SelfSubjectReview': {
      const userInfo = {
        username: user.name,
        groups: user.groups,
        ...(user.uid ? { uid: user.uid } : {}),
        ...(user.extra ? { extra: user.extra } : {}),
      };
      return reply({ userInfo });
    }
    case 'TokenReview': {
      const found = verifyServiceAccountToken(String(spec.token ?? ''), {
        store: core.store,
        now: () => core.clock.now(),
        serviceAccountKey: core.serviceAccountKeys?.publicKey,
      });
      return reply(
        found
          ? { authenticated: true, user: { username: found.name, groups: found.groups, uid: found.uid } }
          : { authenticated: false },
      );
    }
    case 'SelfSubjectRulesReview': {
      const rules = rulesFor(core.store, user, spec.namespace ?? '');
      const all = user.groups.includes('system:masters');
      return reply({
        resourceRules: all
          ? [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]
          : rules.filter((rule) => rule.resources),
        nonResourceRules: all
          ? [{ verbs: ['*'], nonResourceURLs: ['*'] }]
          : rules.filter((rule) => rule.nonResourceURLs),
        incomplete: false,
      });
    }
    default: {
      const asked: UserInfo = type.kind.startsWith('Self')
        ? user
        : { name: spec.user ?? '', groups: spec.groups ?? [] };
      const allowed = isAllowed(core.store, asked, attributes(spec, request.target?.namespace));
      return reply({ allowed, ...(allowed ? {} : { reason: '' }) });
    }
  }
}

function attributes(spec: Json, namespace: string | undefined): Attributes {
  const at = spec.resourceAttributes;
  const path = spec.nonResourceAttributes;
  const none = { group: '', resource: '', subresource: '', namespace: '', name: '' };
  if (path) return { ...none, verb: path.verb, path: path.path };
  return {
    verb: at?.verb ?? '',
    group: at?.group ?? '',
    resource: at?.resource ?? '',
    subresource: at?.subresource ?? '',
    namespace: at?.namespace ?? namespace ?? '',
    name: at?.name ?? '',
  };
}
