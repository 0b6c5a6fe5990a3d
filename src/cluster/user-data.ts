/**
 * One machine's cloud-config: everything that turns a freshly installed Ubuntu into a Kubernetes node.
 * Pure: same input, same text. All file contents travel as base64, so no quoting and no template header can
 * change them. The last runcmd entry is the bootstrap script, whose exit code becomes cloud-init's verdict.
 * Workers get a bootstrap token and the CA's hash and no private key of the cluster.
 */
import { stringify } from 'yaml';
import { PcgError } from '../base/errors.ts';
import type { ClusterSpec } from '../contract/cluster.ts';
import type { ResolvedProfile } from '../contract/profile.ts';
import type { ClusterPki } from '../kube/pki.ts';
import { kubeVipRbac } from '../kube/rbac.ts';
import { assertSupported } from '../kube/versions.ts';
import { BOOTSTRAP_SCRIPT, BOOTSTRAP_SCRIPT_PATH, renderBootstrapEnvironment } from './bootstrap-script.ts';
import { INIT_CONFIG_PATH, JOIN_CONFIG_PATH, renderKubeadmConfig, apiServerPort } from './kubeadm.ts';
import {
  KUBE_VIP_KUBECONFIG_PATH,
  KUBE_VIP_MANIFEST_PATH,
  renderKubeVipKubeconfig,
  renderKubeVipManifest,
} from './kube-vip.ts';
import {
  aptProxyConfig,
  composeNoProxy,
  environmentFile,
  proxyEnvironment,
  systemdProxyDropIn,
} from './node-proxy.ts';
import { mergeNodeSettings, type SiteSettings } from './site-settings.ts';

export type { SiteSettings } from './site-settings.ts';

export interface NodeInput {
  readonly kind: 'init' | 'join-control-plane' | 'worker';
  readonly cluster: { readonly id: string; readonly name: string };
  readonly spec: ClusterSpec;
  readonly profile: ResolvedProfile;
  /** `vip`: host is an address that kube-vip holds. */
  readonly endpoint: { readonly host: string; readonly port: number; readonly vip: boolean };
  readonly node: {
    readonly name: string;
    readonly hostname: string;
    readonly systemId: string;
    readonly zone: string;
    readonly pool: string;
    readonly role: 'control-plane' | 'worker';
  };
  /** Control-plane kinds only. */
  readonly pki?: ClusterPki;
  /** `sha256:<hex>` */
  readonly caHash: string;
  readonly token: { readonly id: string; readonly secret: string };
  readonly site: SiteSettings;
}

interface File {
  readonly path: string;
  readonly permissions: string;
  readonly content: string;
  /** Added to an existing file instead of replacing it. */
  readonly append?: boolean;
}

/** RBAC that lets kube-vip take its lease; the script applies it where the gateway is not there to do it. */
export const KUBE_VIP_RBAC_PATH = '/run/kubeadm/kube-vip-rbac.json';

/** Text that starts with `#cloud-config\n`. Throws PcgError INVALID_INPUT when the input contradicts itself. */
export function renderUserData(input: NodeInput): string {
  checkInput(input);
  const settings = mergeNodeSettings(input.site, input.spec.nodes);
  const files: File[] = [
    ...baseFiles(input),
    ...proxyFiles(input),
    ...settings.caCertificates.map((content, index) => ({
      path: `/usr/local/share/ca-certificates/pcg-${index + 1}.crt`,
      permissions: '0644',
      content: `${content.trim()}\n`,
    })),
    ...mirrorFiles(settings.registryMirrors),
    ...(input.kind === 'worker' ? [] : controlPlaneFiles(input, requirePki(input))),
  ];
  const config = {
    ...(settings.ntpServers.length > 0 ? { ntp: { enabled: true, servers: settings.ntpServers } } : {}),
    ...(settings.sshAuthorizedKeys.length > 0 ? { ssh_authorized_keys: settings.sshAuthorizedKeys } : {}),
    write_files: files.map((file) => ({
      path: file.path,
      owner: 'root:root',
      permissions: file.permissions,
      encoding: 'b64',
      content: Buffer.from(file.content, 'utf8').toString('base64'),
      ...(file.append === true ? { append: true } : {}),
    })),
    runcmd: [[BOOTSTRAP_SCRIPT_PATH]],
  };
  return `#cloud-config\n${stringify(config, { lineWidth: 0, version: '1.1' })}`;
}

function checkInput(input: NodeInput): void {
  const refuse = (field: string, message: string): never => {
    throw new PcgError('INVALID_INPUT', message, { field });
  };
  assertSupported(input.profile.kubernetes.kubernetesVersion);
  if ((input.kind === 'worker') !== (input.node.role === 'worker'))
    refuse('node.role', `a node of role ${input.node.role} cannot be of kind ${input.kind}`);
  if (!/^sha256:[0-9a-f]{64}$/.test(input.caHash)) refuse('caHash', 'the CA hash is malformed');
  if (!/^[a-z0-9]{6}$/.test(input.token.id) || !/^[a-z0-9]{16}$/.test(input.token.secret))
    refuse('token', 'the bootstrap token is malformed');
  // The names below end up in file paths, kubelet arguments and kubeadm's YAML.
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(input.node.hostname))
    refuse('node.hostname', `"${input.node.hostname}" cannot be the name of a Kubernetes node`);
  if (!/^[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?$/.test(input.endpoint.host))
    refuse('spec.network.endpoint', `"${input.endpoint.host}" is no endpoint host`);
  for (const registry of Object.keys(mergeNodeSettings(input.site, input.spec.nodes).registryMirrors))
    if (!/^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:\d{1,5})?|_default)$/.test(registry))
      refuse(`spec.nodes.registryMirrors.${registry}`, `"${registry}" is no registry host`);
}

function requirePki(input: NodeInput): ClusterPki {
  if (input.pki !== undefined) return input.pki;
  throw new PcgError('INVALID_INPUT', `a node of kind ${input.kind} needs the PKI of its cluster`, {
    field: 'pki',
  });
}

function baseFiles(input: NodeInput): File[] {
  return [
    { path: BOOTSTRAP_SCRIPT_PATH, permissions: '0700', content: BOOTSTRAP_SCRIPT },
    { path: '/etc/pcg/bootstrap.env', permissions: '0600', content: renderBootstrapEnvironment(input) },
    {
      path: input.kind === 'init' ? INIT_CONFIG_PATH : JOIN_CONFIG_PATH,
      permissions: '0600', // holds the bootstrap token
      content: renderKubeadmConfig(input),
    },
    { path: '/etc/modules-load.d/kubernetes.conf', permissions: '0644', content: 'overlay\nbr_netfilter\n' },
    { path: '/etc/sysctl.d/99-kubernetes.conf', permissions: '0644', content: SYSCTL },
    { path: '/etc/systemd/networkd.conf.d/pcg.conf', permissions: '0644', content: NETWORKD },
    {
      path: '/etc/crictl.yaml',
      permissions: '0644',
      content:
        'runtime-endpoint: unix:///var/run/containerd/containerd.sock\nimage-endpoint: unix:///var/run/containerd/containerd.sock\n',
    },
    {
      path: '/etc/apt/apt.conf.d/52pcg-unattended-upgrades',
      permissions: '0644',
      content: UNATTENDED_UPGRADES,
    },
  ];
}

function proxyFiles(input: NodeInput): File[] {
  const settings = mergeNodeSettings(input.site, input.spec.nodes);
  const noProxy = composeNoProxy({
    settings,
    podCidr: input.spec.network.podCidr,
    serviceCidr: input.spec.network.serviceCidr,
    nodeCidrs: input.site.nodeCidrs ?? [],
    endpointHost: input.endpoint.host,
    domain: input.spec.domain,
    maasHost: input.site.maasHost,
  });
  const environment = proxyEnvironment(settings, noProxy);
  if (Object.keys(environment).length === 0) return [];
  // 0600 where only root's programs read them: proxy URLs may hold a password.
  return [
    {
      path: '/etc/systemd/system/containerd.service.d/http-proxy.conf',
      permissions: '0600',
      content: systemdProxyDropIn(environment),
    },
    { path: '/etc/apt/apt.conf.d/95proxy', permissions: '0644', content: aptProxyConfig(settings, noProxy) },
    { path: '/etc/environment', permissions: '0644', content: environmentFile(environment), append: true },
    { path: '/etc/pcg/proxy.env', permissions: '0600', content: shellEnvironment(environment) },
  ];
}

/** containerd's way to a mirror: the original registry stays in image names, only the transport changes. */
function mirrorFiles(mirrors: Record<string, string>): File[] {
  return Object.entries(mirrors).map(([registry, mirror]) => ({
    path: `/etc/containerd/certs.d/${registry}/hosts.toml`,
    permissions: '0644',
    content: [
      ...(registry === '_default' ? [] : [`server = ${tomlString(`https://${registry}`)}`, '']),
      `[host.${tomlString(mirrorBase(mirror))}]`,
      '  capabilities = ["pull", "resolve"]',
      '  override_path = true',
      '',
    ].join('\n'),
  }));
}

/** With override_path the URL is taken literally, so it must contain the registry API's /v2. */
function mirrorBase(url: string): string {
  const trimmed = url.replace(/\/+$/, '');
  return /\/v2(\/|$)/.test(new URL(trimmed).pathname) ? trimmed : `${trimmed}/v2`;
}

function tomlString(text: string): string {
  return JSON.stringify(text); // TOML basic strings have JSON's escapes
}

function controlPlaneFiles(input: NodeInput, pki: ClusterPki): File[] {
  const pair = (path: string, certificate: string, key: string): File[] => [
    { path: `/etc/kubernetes/pki/${path}.crt`, permissions: '0640', content: certificate },
    { path: `/etc/kubernetes/pki/${path}.key`, permissions: '0600', content: key },
  ];
  const keys: File[] = [
    ...pair('ca', pki.ca.certPem, pki.ca.keyPem),
    ...pair('etcd/ca', pki.etcdCa.certPem, pki.etcdCa.keyPem),
    ...pair('front-proxy-ca', pki.frontProxyCa.certPem, pki.frontProxyCa.keyPem),
    { path: '/etc/kubernetes/pki/sa.pub', permissions: '0640', content: pki.serviceAccount.publicPem },
    { path: '/etc/kubernetes/pki/sa.key', permissions: '0600', content: pki.serviceAccount.privatePem },
  ];
  if (!input.endpoint.vip) return keys;
  return [
    ...keys,
    { path: KUBE_VIP_MANIFEST_PATH, permissions: '0600', content: renderKubeVipManifest(input.endpoint) },
    {
      path: KUBE_VIP_KUBECONFIG_PATH,
      permissions: '0600',
      content: renderKubeVipKubeconfig(input.cluster.name, pki, apiServerPort(input)),
    },
    ...(input.kind === 'init'
      ? [
          {
            path: KUBE_VIP_RBAC_PATH,
            permissions: '0600',
            content: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: kubeVipRbac() }),
          },
        ]
      : []),
  ];
}

function shellEnvironment(environment: Record<string, string>): string {
  return Object.entries(environment)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`)
    .join('');
}

const SYSCTL = `net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.ipv4.ip_forward = 1
vm.overcommit_memory = 1
kernel.panic = 10
kernel.panic_on_oops = 1
fs.inotify.max_user_instances = 8192
fs.inotify.max_user_watches = 524288
`;

/** A networkd that is restarted, by an update of systemd for one, must leave the routes and rules of a CNI alone. */
const NETWORKD = `[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
`;

/** The OS may patch itself, but never the parts whose versions this product steers, and never reboot alone. */
const UNATTENDED_UPGRADES = `Unattended-Upgrade::Package-Blacklist { "kubelet"; "kubeadm"; "kubectl"; "containerd"; "cri-tools"; "kubernetes-cni"; };
Unattended-Upgrade::Automatic-Reboot "false";
`;
