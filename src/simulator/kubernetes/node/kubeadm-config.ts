/**
 * Reading kubeadm's configuration files as strictly as kubeadm: known API versions and kinds only, unknown
 * fields are errors, values are validated with kubeadm's own words. Independent of whoever wrote the file.
 */
import { parseAllDocuments } from 'yaml';
import { type Json, isRecord } from '../api/json.ts';

/** A kubeadm failure; `text` is what kubeadm prints on stderr. */
export class KubeadmError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'KubeadmError';
  }
}

export interface KubeadmDocuments {
  readonly cluster: Json | undefined;
  readonly init: Json | undefined;
  readonly join: Json | undefined;
}

/** A control-plane node of this product brings its keys; kubeadm would invent new ones, which no other node has. */
export const ANY_MISSING_CA = 'failure loading certificates';

const ARGS = 'args';
const ENVS = 'envs';
type Shape = {
  readonly [field: string]:
    | Shape
    | 'string'
    | 'number'
    | 'boolean'
    | 'strings'
    | 'any'
    | typeof ARGS
    | typeof ENVS;
};

const NODE_REGISTRATION: Shape = {
  name: 'string',
  criSocket: 'string',
  taints: 'any',
  kubeletExtraArgs: ARGS,
  ignorePreflightErrors: 'strings',
  imagePullPolicy: 'string',
  imagePullSerial: 'boolean',
};
const ENDPOINT: Shape = { advertiseAddress: 'string', bindPort: 'number' };
const COMPONENT: Shape = { extraArgs: ARGS, extraVolumes: 'any', extraEnvs: ENVS };
const TIMEOUTS: Shape = Object.fromEntries(
  [
    'controlPlaneComponentHealthCheck',
    'kubeletHealthCheck',
    'kubernetesAPICall',
    'etcdAPICall',
    'tlsBootstrap',
    'discovery',
    'upgradeManifests',
  ].map((name) => [name, 'string' as const]),
);

const SHAPES: Record<string, Shape> = {
  ClusterConfiguration: {
    etcd: {
      local: {
        imageRepository: 'string',
        imageTag: 'string',
        dataDir: 'string',
        extraArgs: ARGS,
        extraEnvs: ENVS,
        serverCertSANs: 'strings',
        peerCertSANs: 'strings',
      },
      external: {
        endpoints: 'strings',
        caFile: 'string',
        certFile: 'string',
        keyFile: 'string',
        httpEndpoints: 'strings',
      },
    },
    networking: { serviceSubnet: 'string', podSubnet: 'string', dnsDomain: 'string' },
    kubernetesVersion: 'string',
    controlPlaneEndpoint: 'string',
    apiServer: { ...COMPONENT, certSANs: 'strings' },
    controllerManager: COMPONENT,
    scheduler: COMPONENT,
    dns: { imageRepository: 'string', imageTag: 'string', disabled: 'boolean' },
    proxy: { disabled: 'boolean' },
    certificatesDir: 'string',
    imageRepository: 'string',
    featureGates: 'any',
    clusterName: 'string',
    encryptionAlgorithm: 'string',
    certificateValidityPeriod: 'string',
    caCertificateValidityPeriod: 'string',
  },
  InitConfiguration: {
    bootstrapTokens: 'any',
    dryRun: 'boolean',
    nodeRegistration: NODE_REGISTRATION,
    localAPIEndpoint: ENDPOINT,
    certificateKey: 'string',
    skipPhases: 'strings',
    patches: { directory: 'string' },
    timeouts: TIMEOUTS,
  },
  JoinConfiguration: {
    dryRun: 'boolean',
    nodeRegistration: NODE_REGISTRATION,
    caCertPath: 'string',
    discovery: {
      bootstrapToken: {
        token: 'string',
        apiServerEndpoint: 'string',
        caCertHashes: 'strings',
        unsafeSkipCAVerification: 'boolean',
      },
      file: { kubeConfigPath: 'string' },
      tlsBootstrapToken: 'string',
    },
    controlPlane: { localAPIEndpoint: ENDPOINT, certificateKey: 'string' },
    skipPhases: 'strings',
    patches: { directory: 'string' },
    timeouts: TIMEOUTS,
  },
};
/** Documents of other groups that may stand in the same file. */
const COMPONENT_KINDS: Record<string, string> = {
  KubeletConfiguration: 'kubelet.config.k8s.io/v1beta1',
  KubeProxyConfiguration: 'kubeproxy.config.k8s.io/v1alpha1',
};
/** v1beta3 was removed in kubeadm 1.37. */
const V1BETA3_LAST_MINOR = 36;

const isCidr = (text: string) => {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  return match !== null && match.slice(1, 5).every((part) => Number(part) <= 255) && Number(match[5]) <= 32;
};
export const isIpv4 = (text: string) => isCidr(`${text}/32`);
const TOKEN = /^[a-z0-9]{6}\.[a-z0-9]{16}$/;
const DURATION = /^(\d+(\.\d+)?(ns|us|ms|s|m|h))+$/;

/** `minor` is the minor version of the installed kubeadm. Throws KubeadmError. */
export function readKubeadmFile(text: string, path: string, minor: number): KubeadmDocuments {
  const found: { cluster?: Json; init?: Json; join?: Json } = {};
  for (const document of parseAllDocuments(text, { version: '1.1', uniqueKeys: true })) {
    if (document.errors.length > 0)
      throw new KubeadmError(
        `error unmarshaling JSON: while decoding ${path}: ${document.errors[0]?.message.split('\n')[0]}`,
      );
    const value: Json = document.toJS();
    if (value === null || value === undefined) continue;
    if (!isRecord(value) || typeof value.apiVersion !== 'string' || typeof value.kind !== 'string')
      throw new KubeadmError('kind and apiVersion is mandatory information that must be specified');
    const { apiVersion, kind } = value;
    if (COMPONENT_KINDS[kind] !== undefined) {
      if (COMPONENT_KINDS[kind] !== apiVersion)
        throw new KubeadmError(`no kind "${kind}" is registered for version "${apiVersion}"`);
      continue;
    }
    checkVersion(apiVersion, kind, minor);
    const shape = SHAPES[kind];
    if (!shape) {
      if (['UpgradeConfiguration', 'ResetConfiguration'].includes(kind)) continue;
      throw new KubeadmError(`no kind "${kind}" is registered for version "${apiVersion}"`);
    }
    const { apiVersion: _v, kind: _k, ...fields } = value;
    if (apiVersion.endsWith('v1beta4')) checkShape(fields, shape, kind, '');
    const slot = kind === 'ClusterConfiguration' ? 'cluster' : kind === 'InitConfiguration' ? 'init' : 'join';
    if (found[slot] !== undefined)
      throw new KubeadmError(`invalid configuration: kind "${kind}" is specified twice in YAML file`);
    found[slot] = apiVersion.endsWith('v1beta4') ? fields : fromV1beta3(fields);
  }
  return { cluster: found.cluster, init: found.init, join: found.join };
}

function checkVersion(apiVersion: string, kind: string, minor: number): void {
  if (apiVersion === 'kubeadm.k8s.io/v1beta4') return;
  if (apiVersion === 'kubeadm.k8s.io/v1beta3' && minor <= V1BETA3_LAST_MINOR) return;
  if (/^kubeadm\.k8s\.io\/v(1alpha\d|1beta[123])$/.test(apiVersion))
    throw new KubeadmError(
      `your configuration file uses an old API spec: "${apiVersion}" (kind: "${kind}"). Please use kubeadm v1.${V1BETA3_LAST_MINOR} instead and run 'kubeadm config migrate --old-config old.yaml --new-config new.yaml', which will write the new, similar spec using a newer API version.`,
    );
  throw new KubeadmError(
    `no kind "${kind}" is registered for version "${apiVersion}" in scheme "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/scheme/scheme.go:30"`,
  );
}

function checkShape(value: Json, shape: Shape, kind: string, path: string): void {
  const strict = (problem: string) =>
    new KubeadmError(
      `error unmarshaling configuration schema.GroupVersionKind{Group:"kubeadm.k8s.io", Version:"v1beta4", Kind:"${kind}"}: strict decoding error: ${problem}`,
    );
  for (const [field, content] of Object.entries(value as Record<string, Json>)) {
    const at = path ? `${path}.${field}` : field;
    const wanted = shape[field];
    if (wanted === undefined) throw strict(`unknown field "${at}"`);
    if (content === null || wanted === 'any') continue;
    const wrong = (type: string) =>
      strict(
        `json: cannot unmarshal ${Array.isArray(content) ? 'array' : typeof content} into Go struct field ${kind}.${at} of type ${type}`,
      );
    if (wanted === ARGS || wanted === ENVS) {
      if (!Array.isArray(content)) throw wrong(wanted === ARGS ? '[]v1beta4.Arg' : '[]v1beta4.EnvVar');
      for (const item of content) {
        if (!isRecord(item) || typeof item.name !== 'string') throw wrong('v1beta4.Arg');
        if (wanted === ARGS && typeof item.value !== 'string')
          throw strict(
            `json: cannot unmarshal ${typeof item.value} into Go struct field Arg.${at}.value of type string`,
          );
        for (const key of Object.keys(item))
          if (!['name', 'value', ...(wanted === ENVS ? ['valueFrom'] : [])].includes(key))
            throw strict(`unknown field "${at}.${key}"`);
      }
    } else if (wanted === 'strings') {
      if (!Array.isArray(content) || content.some((item) => typeof item !== 'string'))
        throw wrong('[]string');
    } else if (typeof wanted === 'object') {
      if (!isRecord(content)) throw wrong('object');
      checkShape(content, wanted, kind, at);
    } else if (typeof content !== wanted)
      throw wrong(wanted === 'number' ? 'int32' : wanted === 'boolean' ? 'bool' : 'string');
  }
}

/** v1beta3 has maps where v1beta4 has lists. */
function fromV1beta3(fields: Json): Json {
  const list = (args: Json) =>
    isRecord(args) ? Object.entries(args).map(([name, value]) => ({ name, value })) : args;
  const copy = structuredClone(fields);
  for (const component of [copy.apiServer, copy.controllerManager, copy.scheduler, copy.etcd?.local])
    if (component?.extraArgs) component.extraArgs = list(component.extraArgs);
  if (copy.nodeRegistration?.kubeletExtraArgs)
    copy.nodeRegistration.kubeletExtraArgs = list(copy.nodeRegistration.kubeletExtraArgs);
  return copy;
}

const invalidValue = (field: string, value: unknown, message: string) =>
  new KubeadmError(`${field}: Invalid value: ${JSON.stringify(value)}: ${message}`);

/** Values of an init file. `advertise` is filled in by the caller when the file leaves it out. */
export function validateInit(documents: KubeadmDocuments, minor: number): void {
  const cluster = documents.cluster ?? {};
  const init = documents.init ?? {};
  if (documents.join !== undefined)
    throw new KubeadmError(
      'did not find a document with GroupVersionKind matching InitConfiguration but JoinConfiguration',
    );
  const version = /^v?(\d+)\.(\d+)\.(\d+)([-+].*)?$/.exec(cluster.kubernetesVersion ?? '');
  if (!version)
    throw new KubeadmError(
      `couldn't parse Kubernetes version ${JSON.stringify(cluster.kubernetesVersion ?? '')}: could not parse as version`,
    );
  if (Number(version[2]) > minor || Number(version[2]) < minor - 1)
    throw new KubeadmError(
      `this version of kubeadm only supports deploying clusters with the control plane version >= 1.${minor - 1}.0. Current version: ${cluster.kubernetesVersion}`,
    );
  const networking = cluster.networking ?? {};
  for (const field of ['podSubnet', 'serviceSubnet'])
    if (networking[field] && !networking[field].split(',').every(isCidr))
      throw invalidValue(`networking.${field}`, networking[field], `couldn't parse subnet`);
  const pods = Number(networking.podSubnet?.split('/')[1] ?? 0);
  const mask = Number(
    (cluster.controllerManager?.extraArgs ?? []).find((arg: Json) => arg.name === 'node-cidr-mask-size')
      ?.value ?? 24,
  );
  if (networking.podSubnet && pods > mask)
    throw invalidValue(
      'networking.podSubnet',
      networking.podSubnet,
      `the size of pod subnet with mask ${pods} is smaller than the size of node subnet with mask ${mask}`,
    );
  if (networking.podSubnet && mask - pods > 16)
    throw invalidValue(
      'networking.podSubnet',
      networking.podSubnet,
      `pod subnet mask (${pods}) and node-mask (${mask}) difference is greater than 16`,
    );
  if (networking.dnsDomain && !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(networking.dnsDomain))
    throw invalidValue(
      'networking.dnsDomain',
      networking.dnsDomain,
      'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters',
    );
  if (cluster.controlPlaneEndpoint) checkEndpoint(cluster.controlPlaneEndpoint, 'controlPlaneEndpoint');
  for (const san of cluster.apiServer?.certSANs ?? [])
    if (!isIpv4(san) && !/^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(san))
      throw invalidValue(
        'apiServer.certSANs',
        san,
        'altname is not a valid IP address, DNS label or a DNS label with subdomain wildcards',
      );
  for (const token of init.bootstrapTokens ?? []) {
    if (!TOKEN.test(token.token ?? ''))
      throw invalidValue('bootstrapTokens', '<value hidden>', 'the bootstrap token is invalid');
    if (token.ttl !== undefined && !DURATION.test(String(token.ttl)))
      throw new KubeadmError(`time: invalid duration ${JSON.stringify(token.ttl)}`);
  }
  checkShared(init, cluster.featureGates, init.localAPIEndpoint);
}

export function validateJoin(documents: KubeadmDocuments): void {
  const join = documents.join;
  if (!join) throw new KubeadmError('no JoinConfiguration was found in the config file');
  const { bootstrapToken, file } = join.discovery ?? {};
  if (!bootstrapToken && !file)
    throw new KubeadmError('discovery: Invalid value: "": bootstrapToken or file must be set');
  if (bootstrapToken) {
    if (!TOKEN.test(bootstrapToken.token ?? ''))
      throw invalidValue(
        'discovery.bootstrapToken.token',
        '<value hidden>',
        'the bootstrap token is invalid',
      );
    if (!bootstrapToken.apiServerEndpoint)
      throw new KubeadmError(
        'discovery.bootstrapToken.apiServerEndpoint: Required value: address is not set',
      );
    checkEndpoint(bootstrapToken.apiServerEndpoint, 'discovery.bootstrapToken.apiServerEndpoint', true);
    if (!bootstrapToken.caCertHashes?.length && bootstrapToken.unsafeSkipCAVerification !== true)
      throw new KubeadmError(
        'discovery.bootstrapToken: Invalid value: "": using token-based discovery without caCertHashes can be unsafe. Set unsafeSkipCAVerification as true in your kubeadm config file or pass --discovery-token-unsafe-skip-ca-verification flag to continue',
      );
    for (const hash of bootstrapToken.caCertHashes ?? [])
      if (!/^sha256:[0-9a-f]{64}$/i.test(hash))
        throw new KubeadmError(
          `invalid public key hash, expected "format:value", unknown format or length: ${hash}`,
        );
  }
  checkShared(join, undefined, join.controlPlane?.localAPIEndpoint);
}

function checkEndpoint(endpoint: string, field: string, needsPort = false): void {
  const match = /^([A-Za-z0-9.-]+)(?::(\d+))?$/.exec(endpoint);
  if (
    !match ||
    (needsPort && match[2] === undefined) ||
    (match[2] !== undefined && (Number(match[2]) < 1 || Number(match[2]) > 65535))
  )
    throw invalidValue(field, endpoint, 'address must be of the form host:port');
}

/** Feature gates of kubeadm that the supported minors know. */
const FEATURE_GATES = new Set([
  'ControlPlaneKubeletLocalMode',
  'NodeLocalCRISocket',
  'PublicKeysECDSA',
  'RootlessControlPlane',
  'WaitForAllControlPlaneComponents',
  'HTTPEndpoints',
]);

function checkShared(document: Json, gates: Json, endpoint: Json): void {
  const registration = document.nodeRegistration ?? {};
  if (registration.name !== undefined && !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(registration.name))
    throw invalidValue(
      'nodeRegistration.name',
      registration.name,
      'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters',
    );
  if (registration.criSocket !== undefined && !String(registration.criSocket).startsWith('unix:///'))
    throw invalidValue(
      'nodeRegistration.criSocket',
      registration.criSocket,
      'only URL scheme "unix" is supported',
    );
  for (const taint of registration.taints ?? [])
    if (
      !isRecord(taint) ||
      !taint.key ||
      !['NoSchedule', 'PreferNoSchedule', 'NoExecute'].includes(taint.effect)
    )
      throw invalidValue('nodeRegistration.taints', taint, 'invalid taint');
  for (const gate of Object.keys(gates ?? {}))
    if (!FEATURE_GATES.has(gate))
      throw new KubeadmError(
        `featureGates: Invalid value: "${gate}": unrecognized feature-gate key: ${gate}`,
      );
  for (const [name, value] of Object.entries(document.timeouts ?? {}))
    if (!DURATION.test(String(value)))
      throw new KubeadmError(`timeouts.${name}: time: invalid duration ${JSON.stringify(value)}`);
  if (endpoint?.advertiseAddress !== undefined && !isIpv4(endpoint.advertiseAddress))
    throw invalidValue('localAPIEndpoint.advertiseAddress', endpoint.advertiseAddress, 'ip is not valid');
  if (endpoint?.bindPort !== undefined && (endpoint.bindPort < 1 || endpoint.bindPort > 65535))
    throw invalidValue('localAPIEndpoint.bindPort', endpoint.bindPort, 'port number is not valid');
}

/** `1h0m0s` to milliseconds. */
export function durationMs(text: string): number {
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce(
    (sum, [, amount, unit]) => sum + Number(amount) * (units[unit ?? 's'] ?? 0),
    0,
  );
}
