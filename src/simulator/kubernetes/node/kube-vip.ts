/**
 * kube-vip as a static pod: elects by a Lease through the API server that its kubeconfig names, and the winner
 * answers for the virtual address. It gets nowhere with a certificate of another CA, a server name that the API
 * server's certificate lacks, or without rights on leases: then the address simply never comes up.
 */
import { X509Certificate } from 'node:crypto';
import { parse } from 'yaml';
import { type Json, isRecord } from '../api/json.ts';
import { forbidden, isAllowed } from '../api/rbac.ts';
import type { UserInfo } from '../api/request.ts';
import { R } from '../api/resources.ts';
import type { ControlPlane } from './control-plane.ts';
import type { NodeFile } from './cloud-config.ts';

export const KUBE_VIP_MANIFEST = '/etc/kubernetes/manifests/kube-vip.yaml';
const KUBECONFIG_IN_POD = '/etc/kubernetes/admin.conf';
/** Elections are not simulated faster than this, or many clusters would do nothing else (real milliseconds). */
const MIN_PERIOD_MS = 50;
const RETRY_JITTER = 1.2;

export interface KubeVipSettings {
  readonly address: string;
  readonly port: number;
  readonly leaseName: string;
  readonly namespace: string;
  readonly leaseMs: number;
  readonly renewMs: number;
  readonly retryMs: number;
  readonly user: UserInfo;
  readonly serverHost: string;
}

/** Throws an Error with the reason why kube-vip would crash-loop or do nothing. */
export function readKubeVip(files: ReadonlyMap<string, NodeFile>, control: ControlPlane): KubeVipSettings {
  const manifest: Json = parse(files.get(KUBE_VIP_MANIFEST)?.content ?? '');
  if (!isRecord(manifest) || manifest.kind !== 'Pod') throw new Error('the manifest is no Pod');
  if (manifest.spec?.hostNetwork !== true) throw new Error('kube-vip needs hostNetwork to add an address');
  const container = manifest.spec?.containers?.[0];
  if (!container?.args?.includes('manager')) throw new Error('kube-vip runs without the argument "manager"');
  const capabilities: string[] = container.securityContext?.capabilities?.add ?? [];
  if (!capabilities.includes('NET_ADMIN')) throw new Error('operation not permitted: NET_ADMIN is missing');
  const env = new Map<string, string>();
  for (const entry of container.env ?? []) {
    if (entry.value !== undefined && typeof entry.value !== 'string')
      throw new Error(`env ${entry.name}: the value is no string, kubelet rejects the pod`);
    env.set(
      entry.name,
      entry.value ?? (entry.valueFrom?.fieldRef?.fieldPath === 'spec.nodeName' ? control.nodeName : ''),
    );
  }
  if (env.get('vip_arp') !== 'true' || env.get('cp_enable') !== 'true')
    throw new Error('neither ARP nor control-plane mode is on');
  const address = env.get('address') ?? env.get('vip_address') ?? '';
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(address)) throw new Error(`"${address}" is no address`);
  const seconds = (name: string, fallback: number) => Number(env.get(name) ?? fallback) * 1000;
  const leaseMs = seconds('vip_leaseduration', 5);
  const renewMs = seconds('vip_renewdeadline', 3);
  const retryMs = seconds('vip_retryperiod', 1);
  // client-go refuses any other times of an election.
  if (!(retryMs > 0 && renewMs > RETRY_JITTER * retryMs && leaseMs > renewMs))
    throw new Error(
      `no election with a lease of ${leaseMs} ms, ${renewMs} to renew it and ${retryMs} to retry`,
    );
  const mount = (container.volumeMounts ?? []).find((item: Json) => item.mountPath === KUBECONFIG_IN_POD);
  const volume = (manifest.spec.volumes ?? []).find((item: Json) => item.name === mount?.name);
  const path: string | undefined = volume?.hostPath?.path;
  const kubeconfig = path === undefined ? undefined : files.get(path);
  if (!kubeconfig) throw new Error(`no kubeconfig at ${path ?? KUBECONFIG_IN_POD}`);
  return {
    address,
    port: Number(env.get('port') ?? control.port),
    leaseName: env.get('vip_leasename') ?? 'plndr-cp-lock',
    namespace: env.get('cp_namespace') ?? 'kube-system',
    leaseMs,
    renewMs,
    retryMs,
    ...readKubeconfig(kubeconfig.content, manifest.spec?.hostAliases ?? [], control),
  };
}

/** Who the kubeconfig makes the client, checked as the local API server would check it. */
function readKubeconfig(
  text: string,
  aliases: Json[],
  control: ControlPlane,
): { user: UserInfo; serverHost: string } {
  const config: Json = parse(text);
  const context = config?.contexts?.find((item: Json) => item.name === config['current-context'])?.context;
  const cluster = config?.clusters?.find((item: Json) => item.name === context?.cluster)?.cluster;
  const user = config?.users?.find((item: Json) => item.name === context?.user)?.user;
  if (!cluster?.server || !user) throw new Error('the kubeconfig has no current context');
  const server = new URL(cluster.server);
  const host = server.hostname;
  const local =
    ['127.0.0.1', 'localhost', control.machine.ip, control.nodeName].includes(host) ||
    aliases.some((alias: Json) => alias.ip === '127.0.0.1' && alias.hostnames?.includes(host));
  if (!local)
    throw new Error(`the kubeconfig points at ${host}, which does not answer before the address is up`);
  if (Number(server.port || 443) !== control.port)
    throw new Error(`the API server does not listen on port ${server.port || 443}`);
  if (!control.sans.includes(host))
    throw new Error(`x509: certificate is valid for ${control.sans.join(', ')}, not ${host}`);
  const ca = new X509Certificate(Buffer.from(cluster['certificate-authority-data'] ?? '', 'base64'));
  if (!ca.publicKey.equals(new X509Certificate(control.cluster.keys.ca.certPem).publicKey))
    throw new Error('x509: certificate signed by unknown authority');
  const certificate = new X509Certificate(Buffer.from(user['client-certificate-data'] ?? '', 'base64'));
  const now = control.cluster.site.clock.now();
  if (!certificate.verify(ca.publicKey))
    throw new Error('Unauthorized: the client certificate is of another CA');
  if (now < certificate.validFromDate.getTime() || now > certificate.validToDate.getTime())
    throw new Error('Unauthorized: the client certificate is not valid now');
  const subject = new Map<string, string[]>();
  for (const line of certificate.subject.split('\n')) {
    const [key = '', ...value] = line.split('=');
    subject.set(key, [...(subject.get(key) ?? []), value.join('=')]);
  }
  const name = subject.get('CN')?.[0] ?? '';
  return { serverHost: host, user: { name, groups: [...(subject.get('O') ?? []), 'system:authenticated'] } };
}

/** Runs until the machine stops. */
export async function runKubeVip(
  control: ControlPlane,
  files: ReadonlyMap<string, NodeFile>,
  signal: AbortSignal,
): Promise<void> {
  const { cluster, machine } = control;
  const { site } = cluster;
  const log = site.log.child({ machine: machine.hostname });
  /** All times of an election alike: a lease that is as short as the pause between two renewals belongs to nobody. */
  const period = (ms: number) =>
    ms * Math.max(1, (MIN_PERIOD_MS * site.pace.speed) / (settings?.retryMs ?? ms));
  let settings: KubeVipSettings | undefined;
  let complaint = '';
  let lastSeen = { text: '', at: 0 };
  let renewedAt = Number.NEGATIVE_INFINITY;
  let taken: boolean | undefined;
  while (!signal.aborted) {
    try {
      settings ??= readKubeVip(files, control);
      const { lease, changedText } = elect(
        control,
        settings,
        lastSeen,
        site.clock.monotonic(),
        period(settings.leaseMs) / site.pace.speed,
      );
      if (changedText !== lastSeen.text) lastSeen = { text: changedText, at: site.clock.monotonic() };
      if (lease) {
        renewedAt = site.clock.monotonic();
        taken ??= site.faults.take('vip-taken', machine);
        // The other's answer wins on the segment: the address is up, but nobody serves 6443 there.
        if (taken) site.network.setAddressUp(settings.address, true);
        else if (inSubnet(settings.address, machine.subnetCidr))
          control.takeVirtualAddress(settings.address, settings.port);
      } else control.dropVirtualAddress();
      complaint = '';
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (text !== complaint) log.warn({ reason: text }, 'simulated kube-vip makes no progress');
      complaint = text;
      // Without a renewal in time the leader gives up and leaves the address.
      if (settings && site.clock.monotonic() - renewedAt > period(settings.renewMs) / site.pace.speed)
        control.dropVirtualAddress();
    }
    await site.pace.sleep(period(settings?.retryMs ?? 5000), signal).catch(() => {});
  }
  control.dropVirtualAddress();
}

/** One round of client-go's election. `lease` true: this node leads. */
function elect(
  control: ControlPlane,
  settings: KubeVipSettings,
  lastSeen: { text: string; at: number },
  now: number,
  leaseMs: number,
): { lease: boolean; changedText: string } {
  const { core } = control.cluster;
  if (!control.serving) throw new Error('dial tcp 127.0.0.1: connect: connection refused');
  core.guard();
  const at = {
    group: 'coordination.k8s.io',
    resource: 'leases',
    subresource: '',
    namespace: settings.namespace,
    name: settings.leaseName,
  };
  for (const verb of ['get', 'create', 'update'])
    if (!isAllowed(core.store, settings.user, { ...at, verb }))
      throw forbidden(settings.user, { ...at, verb });
  const time = `${new Date(core.clock.now()).toISOString().slice(0, -1)}000Z`;
  const existing = core.store.get(R.leases, settings.namespace, settings.leaseName);
  const spec = {
    holderIdentity: control.nodeName,
    leaseDurationSeconds: settings.leaseMs / 1000,
    acquireTime: time,
    renewTime: time,
  };
  if (!existing) {
    core.objects.create(
      core.type(R.leases),
      settings.namespace,
      {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: settings.leaseName, namespace: settings.namespace },
        spec: { ...spec, leaseTransitions: 0 },
      },
      core.as(settings.user),
    );
    return { lease: true, changedText: '' };
  }
  const mine = existing.spec.holderIdentity === control.nodeName;
  const text = JSON.stringify(existing.spec);
  // Expiry is judged by when we last saw the lease change, never by the other's clock.
  const expired =
    existing.spec.holderIdentity === '' || (lastSeen.text === text && now - lastSeen.at > leaseMs);
  if (!mine && !expired) return { lease: false, changedText: text };
  const next = core.objects.change(
    core.type(R.leases),
    settings.namespace,
    settings.leaseName,
    (draft) => {
      draft.spec = mine
        ? { ...draft.spec, renewTime: time }
        : { ...draft.spec, ...spec, leaseTransitions: (draft.spec.leaseTransitions ?? 0) + 1 };
    },
    core.as(settings.user),
  );
  return { lease: true, changedText: JSON.stringify(next?.spec ?? {}) };
}

export function inSubnet(ip: string, cidr: string): boolean {
  const value = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const [base = '', prefix = '32'] = cidr.split('/');
  const size = 2 ** (32 - Number(prefix));
  return Math.floor(value(ip) / size) === Math.floor(value(base) / size);
}
