/**
 * Packs: checks what users may set (API server and kubelet arguments, typed parameters) and turns a manifest pack
 * into objects. Values are put into parsed strings, never into YAML text, so no value can add or change a field;
 * `${...}` that is no declared parameter stays as it is (shell snippets in ConfigMaps are full of them).
 * `${name:-text}` is the text when an optional parameter has no value.
 */
import { parseAllDocuments, type Tags } from 'yaml';
import { PcgError } from '../base/errors.ts';
import type { ManifestPack } from '../contract/profile.ts';
import type { KubeObject } from '../kube/client.ts';
import { parseVersion } from '../kube/versions.ts';

export type PackValue = string | number | boolean;

/** Facts of the cluster that fill parameters of these names when nothing else does. */
export interface ClusterFacts {
  readonly clusterName: string;
  readonly podCidr: string;
  readonly serviceCidr: string;
  readonly endpointHost: string;
  readonly endpointPort: number;
}

/** Longest value of a parameter; longer things belong into the pack. */
const MAX_VALUE_CHARS = 4096;

/** Parameter values of one pack: facts < default < profile < cluster. Throws INVALID_INPUT naming the field. */
export function resolveValues(
  pack: ManifestPack,
  overrides: Record<string, PackValue>,
  facts: ClusterFacts,
): Record<string, PackValue> {
  const field = (name: string) => `spec.packValues.${pack.name}.${name}`;
  const known = new Set(pack.parameters.map((parameter) => parameter.name));
  for (const name of Object.keys({ ...pack.values, ...overrides }))
    if (!known.has(name))
      throw new PcgError('INVALID_INPUT', `pack ${pack.name} has no parameter "${name}"`, {
        field: field(name),
        fix: `Parameters of this pack: ${[...known].join(', ') || 'none'}.`,
      });
  const values: Record<string, PackValue> = {};
  for (const parameter of pack.parameters) {
    const { name } = parameter;
    const value =
      overrides[name] ??
      pack.values[name] ??
      parameter.default ??
      (facts as unknown as Record<string, PackValue>)[name];
    if (value === undefined) {
      if (!parameter.required) continue;
      throw new PcgError('INVALID_INPUT', `pack ${pack.name} needs a value for "${name}"`, {
        field: field(name),
      });
    }
    values[name] = checkValue(parameter, value, field(name));
  }
  return values;
}

type Parameter = ManifestPack['parameters'][number];

function checkValue(parameter: Parameter, value: PackValue, field: string): PackValue {
  const refuse = (what: string): never => {
    throw new PcgError('INVALID_INPUT', `${parameter.name} ${what}`, { field });
  };
  if (parameter.enum !== undefined && !parameter.enum.includes(String(value)))
    refuse(`must be one of ${parameter.enum.join(', ')}`);
  switch (parameter.type) {
    case 'integer': {
      const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
      return typeof number === 'number' && Number.isSafeInteger(number)
        ? number
        : refuse('must be an integer');
    }
    case 'boolean':
      if (value === 'true' || value === true) return true;
      return value === 'false' || value === false ? false : refuse('must be true or false');
    case 'cidr':
      return isIpv4Cidr(value) ? value : refuse('must be a network like 192.168.0.0/16');
    case 'string': {
      const text = String(value);
      if (text.length > MAX_VALUE_CHARS) refuse(`is longer than ${MAX_VALUE_CHARS} characters`);
      return /\p{Cc}/u.test(text) ? refuse('must not contain control characters') : text;
    }
  }
}

function isIpv4Cidr(value: PackValue): value is string {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(String(value));
  return match !== null && match.slice(1, 5).every((part) => Number(part) <= 255) && Number(match[5]) <= 32;
}

/** The pack's objects with all values in place, in the order of the text; `List`s are opened. */
export function renderPack(
  pack: ManifestPack,
  overrides: Record<string, PackValue>,
  facts: ClusterFacts,
): KubeObject[] {
  const values = resolveValues(pack, overrides, facts);
  const declared = new Set(pack.parameters.map(({ name }) => name));
  return parseManifests(pack.manifests, `pack ${pack.name}`).map(
    (object) => substitute(object, { declared, values }) as KubeObject,
  );
}

/** Multi-document YAML to objects. Throws KUBE_REJECTED with the line of the first mistake. */
export function parseManifests(text: string, what: string): KubeObject[] {
  const objects: KubeObject[] = [];
  const documents = parseAllDocuments(text, { version: '1.1', customTags: asGoReads, uniqueKeys: true });
  for (const [index, document] of [...documents].entries()) {
    const mistake = document.errors[0];
    if (mistake !== undefined)
      throw new PcgError(
        'KUBE_REJECTED',
        `${what}, document ${index + 1}: ${mistake.message.split('\n')[0]}`,
        {
          cause: mistake,
          details: { document: index + 1 },
        },
      );
    const value: unknown = document.toJS({ maxAliasCount: 100 });
    if (value === null || value === undefined) continue; // `---` with comments only
    for (const object of openList(value))
      objects.push(expectObject(object, `${what}, document ${index + 1}`));
  }
  return objects;
}

/**
 * Manifests are written for Go's reader: YAML 1.1 (`0644` is octal, `yes` is true, `<<` merges), but without
 * base-60 numbers (`8080:80` is a string) and without dates.
 */
function asGoReads(tags: Tags): Tags {
  return tags.filter((tag) => {
    if (typeof tag === 'string') return !['intTime', 'floatTime', 'timestamp'].includes(tag);
    if (tag.tag === 'tag:yaml.org,2002:timestamp') return false;
    return !('format' in tag && tag.format === 'TIME');
  });
}

function openList(value: unknown): unknown[] {
  const list = value as { kind?: unknown; items?: unknown };
  return typeof list.kind === 'string' && list.kind.endsWith('List') && Array.isArray(list.items)
    ? list.items
    : [value];
}

function expectObject(value: unknown, what: string): KubeObject {
  const object = value as Partial<KubeObject> | null;
  if (
    typeof object !== 'object' ||
    object === null ||
    typeof object.apiVersion !== 'string' ||
    typeof object.kind !== 'string' ||
    typeof object.metadata?.name !== 'string'
  )
    throw new PcgError('KUBE_REJECTED', `${what} is not a Kubernetes object with apiVersion, kind and name`);
  return object as KubeObject;
}

/** Replaces `${name}` in every string; a string that is nothing but one parameter takes the value's own type. */
function substitute(value: unknown, parameters: Parameters): unknown {
  const { values } = parameters;
  if (typeof value === 'string') {
    const whole = /^\$\{([A-Za-z][A-Za-z0-9_]*)\}$/.exec(value)?.[1];
    if (whole !== undefined && Object.hasOwn(values, whole)) return values[whole];
    return value.replace(REFERENCE, (text, name: string, otherwise: string | undefined) => {
      if (Object.hasOwn(values, name)) return String(values[name]);
      return otherwise !== undefined && parameters.declared.has(name) ? otherwise : text;
    });
  }
  if (Array.isArray(value)) return value.map((entry) => substitute(entry, parameters));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([key, entry]) => [key, substitute(entry, parameters)]),
    );
  return value;
}

interface Parameters {
  readonly declared: ReadonlySet<string>;
  readonly values: Readonly<Record<string, PackValue>>;
}

/** `${name}` or `${name:-text}`. */
const REFERENCE = /\$\{([A-Za-z][A-Za-z0-9_]*)(?::-([^}]*))?\}/g;

/** What a value of an argument must look like. */
type ArgumentRule = RegExp;

const NUMBER = /^\d{1,9}$/;
const BOOLEAN = /^(true|false)$/;
const DURATION = /^(\d+(\.\d+)?(ms|s|m|h))+$/;
const PLAIN = /^[^\s"'`$\\]{1,1024}$/;

/**
 * Unknown flags let the static pod crash for ever and init time out after minutes, so only flags that all
 * supported minors (1.35 to 1.37) have are let through, and none that kubeadm or we own.
 */
const API_SERVER_ARGS: Record<string, ArgumentRule> = {
  'audit-log-maxage': NUMBER,
  'audit-log-maxbackup': NUMBER,
  'audit-log-maxsize': NUMBER,
  'default-not-ready-toleration-seconds': NUMBER,
  'default-unreachable-toleration-seconds': NUMBER,
  'default-watch-cache-size': NUMBER,
  'delete-collection-workers': NUMBER,
  'disable-admission-plugins': PLAIN,
  'enable-admission-plugins': PLAIN,
  'event-ttl': DURATION,
  'feature-gates': /^[A-Za-z0-9]+=(true|false)(,[A-Za-z0-9]+=(true|false))*$/,
  'goaway-chance': /^0(\.\d+)?$/,
  'max-mutating-requests-inflight': NUMBER,
  'max-requests-inflight': NUMBER,
  'min-request-timeout': NUMBER,
  'oidc-client-id': PLAIN,
  'oidc-groups-claim': PLAIN,
  'oidc-groups-prefix': PLAIN,
  'oidc-issuer-url': /^https:\/\/[^\s"'`$\\]{1,1000}$/,
  'oidc-required-claim': PLAIN,
  'oidc-username-claim': PLAIN,
  'oidc-username-prefix': PLAIN,
  profiling: BOOLEAN,
  'request-timeout': DURATION,
  'runtime-config': PLAIN,
  'service-node-port-range': /^\d{1,5}-\d{1,5}$/,
  'tls-cipher-suites': /^[A-Z0-9_]+(,[A-Z0-9_]+)*$/,
  'tls-min-version': /^VersionTLS1[23]$/,
  v: /^\d{1,2}$/,
};

const KUBELET_ARGS: Record<string, ArgumentRule> = {
  'container-log-max-files': NUMBER,
  'container-log-max-size': /^\d+[KMG]i$/,
  'cpu-manager-policy': /^(none|static)$/,
  'event-qps': NUMBER,
  'eviction-hard': PLAIN,
  'eviction-soft': PLAIN,
  'eviction-soft-grace-period': PLAIN,
  'feature-gates': /^[A-Za-z0-9]+=(true|false)(,[A-Za-z0-9]+=(true|false))*$/,
  'image-gc-high-threshold': NUMBER,
  'image-gc-low-threshold': NUMBER,
  'kube-reserved': PLAIN,
  'max-pods': NUMBER,
  'protect-kernel-defaults': BOOLEAN,
  'registry-burst': NUMBER,
  'registry-qps': NUMBER,
  'serialize-image-pulls': BOOLEAN,
  'system-reserved': PLAIN,
  'topology-manager-policy': /^(none|best-effort|restricted|single-numa-node)$/,
  v: /^\d{1,2}$/,
};

export function checkApiServerArgs(args: Record<string, string>, version: string): Record<string, string> {
  return checkArguments(args, API_SERVER_ARGS, version, 'profile.kubernetes.apiServerArgs');
}

export function checkKubeletArgs(args: Record<string, string>, version: string): Record<string, string> {
  return checkArguments(args, KUBELET_ARGS, version, 'profile.kubernetes.kubeletArgs');
}

function checkArguments(
  args: Record<string, string>,
  rules: Record<string, ArgumentRule>,
  version: string,
  field: string,
): Record<string, string> {
  parseVersion(version);
  for (const [name, value] of Object.entries(args)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (rule === undefined)
      throw new PcgError('INVALID_INPUT', `argument "${name}" is not on the list of allowed arguments`, {
        field: `${field}.${name}`,
        fix: `Allowed: ${Object.keys(rules).join(', ')}.`,
      });
    if (!rule.test(value))
      throw new PcgError('INVALID_INPUT', `argument "${name}" has a malformed value`, {
        field: `${field}.${name}`,
      });
  }
  return args;
}
