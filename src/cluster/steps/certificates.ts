/**
 * The certificates of a running control plane. kubeadm's leaf certificates live a year and are seen only in what the
 * servers show; the CAs are the gateway's own, and kube-vip's certificate lives as long as its CA. Leafs that come
 * near their end are renewed in place, one node at a time, by kubeadm on the node itself: no machine moves.
 */
import { describeError, PcgError, toProblem } from '../../base/errors.ts';
import type { KubeTarget } from '../../kube/client.ts';
import { certificateValidity } from '../../kube/pki.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { type ClusterRecord, findNode, heldSystemId, type NodeRecord, withNode } from '../model.ts';
import { nodeAddresses } from '../node-address.ts';
import { API_PORT, apiHosts } from '../observe.ts';
import { renewCertificatesJob } from '../policies-manifests.ts';
import { followJob } from '../policy-runs.ts';
import { kubeNodeOf } from '../situation.ts';
import { EXPIRY, warnBeforeMs } from '../timings.ts';

const ETCD_PORT = 2379;
const DAY_MS = 24 * 60 * 60 * 1000;
/** The next step where the policy lets no Job renew them. */
export const RENEW_BY_HAND =
  'Renewing in place is switched off (policies.certificates): run "kubeadm certs renew all" on each control-plane node and restart its components, or rotate the certificates, which replaces the control plane node by node.';
/** A run that failed is looked at this rarely; the next day brings a new one. */
const FAILED_PAUSE_MS = 60 * 60 * 1000;

export async function checkCertificates(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const { pki, nodes } = context.record();
  if (!pki) return DONE;
  const ends = new Map<string, number>();
  for (const node of nodes) {
    const end = node.role === 'control-plane' ? await firstEnd(node, context, signal) : undefined;
    if (end !== undefined) ends.set(node.name, end);
  }
  const now = context.clock.now();
  await warn(await note(ends, now, context), context);
  return DONE;
}

/** The first end of what the API server and the etcd member of a node show; undefined when the node is away. */
async function firstEnd(
  node: NodeRecord,
  context: StepContext,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { pki, endpoint } = context.record();
  const systemId = heldSystemId(node);
  const machine = systemId === undefined ? undefined : context.observed.machines.get(systemId)?.machine;
  const told = kubeNodeOf(node, context.observed)?.internalIp;
  const host = machine?.status === 'deployed' ? (told ?? nodeAddresses(machine, endpoint)[0]) : undefined;
  if (host === undefined || !pki) return undefined;
  const { target } = context.kube();
  const { certPem: _cert, keyPem: _key, ...bare } = target;
  const servers: KubeTarget[] = [
    { ...target, server: `https://${host}:${API_PORT}` },
    { ...bare, server: `https://${host}:${ETCD_PORT}`, caPem: pki.etcdCa.certPem },
  ];
  let first: number | undefined;
  for (const server of servers) {
    try {
      const end = await context.certificateExpiry(server, signal);
      first = Math.min(first ?? end, end);
    } catch (error) {
      signal.throwIfAborted();
      // A node that is away shows nothing; the next look asks again.
      context.log.debug({ server: server.server, error: describeError(error) }, 'no certificate was shown');
    }
  }
  return first;
}

/**
 * Writes down what was seen. The regular look and the step that follows the Job may both be the first to see a new
 * certificate, so either of them tells, and whichever comes second finds nothing new.
 */
async function note(
  ends: ReadonlyMap<string, number>,
  checkedAt: number,
  context: StepContext,
): Promise<ClusterRecord> {
  const now = context.clock.now();
  let renewed: readonly NodeRecord[] = [];
  const record = await context.commit((current) => {
    renewed = current.nodes.filter((node) => isRenewed(node, ends.get(node.name), now));
    return noted(current, ends, checkedAt, now);
  });
  for (const { name } of renewed) {
    const end = iso(ends.get(name) ?? now);
    const message = `the certificates of ${name} were renewed and end ${end}`;
    await context.event({ severity: 'info', reason: 'CertificatesRenewed', message, node: name });
  }
  return record;
}

/** They were due, and are not any more. */
function isRenewed(
  { certificatesExpireAt: before }: NodeRecord,
  end: number | undefined,
  now: number,
): boolean {
  return (
    before !== undefined && end !== undefined && before - now < EXPIRY.renewMs && end - now >= EXPIRY.renewMs
  );
}

/** What was seen now, and what was seen last of nodes that are away; a failed renewal ends with a renewed node. */
function noted(
  record: ClusterRecord,
  ends: ReadonlyMap<string, number>,
  checkedAt: number,
  now: number,
): ClusterRecord {
  const nodes = record.nodes.map((node) => {
    const end = ends.get(node.name);
    if (end === undefined) return node;
    const { renewal, ...rest } = node;
    const kept = renewal === undefined || isRenewed(node, end, now) ? rest : { ...rest, renewal };
    return { ...kept, certificatesExpireAt: end };
  });
  const authorities = record.pki
    ? [record.pki.kubeVip, record.pki.ca, record.pki.etcdCa, record.pki.frontProxyCa]
    : [];
  const all = [
    ...nodes.flatMap(({ certificatesExpireAt }) => certificatesExpireAt ?? []),
    ...authorities.map(({ certPem }) => certificateValidity(certPem).notAfterMs),
  ];
  return { ...record, nodes, certificatesCheckedAt: checkedAt, certificatesExpireAt: Math.min(...all) };
}

/** Said once when the month begins: by then renewal has failed for a month, or the CA itself ends. */
async function warn({ name, ...record }: ClusterRecord, context: StepContext): Promise<void> {
  const at = record.certificatesExpireAt;
  const policy = context.document.spec.policies.certificates;
  const near = at !== undefined && at - context.clock.now() < warnBeforeMs(policy);
  if (near === (record.certificatesWarned === true)) return;
  await context.commit((current) => ({ ...current, certificatesWarned: near }));
  if (!near) return;
  const error = toProblem(
    new PcgError('CERTIFICATES_EXPIRING', `the first certificate of ${name} ends ${iso(at)}`, {
      ...(policy.renewInPlace ? {} : { fix: RENEW_BY_HAND }),
    }),
  );
  await context.event({ severity: 'warning', reason: 'CertificatesExpiring', message: error.message, error });
}

const iso = (ms: number) => new Date(ms).toISOString();

/** One pass: the Job is named by what it renews, so a repeated pass starts nothing twice. */
export async function renewCertificates(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const { clock, timings } = context;
  const node = findNode(context.record(), step.node);
  const kubeNode = node && kubeNodeOf(node, context.observed);
  if (node?.certificatesExpireAt === undefined || !kubeNode) return DONE;
  if (apiHosts(context.record(), context.observed.machines).length === 0)
    return { kind: 'later', waitingFor: 'MAAS to be read' };
  const sick = await unhealthyMember(context, signal);
  if (sick !== undefined) return { kind: 'later', waitingFor: `etcd member ${sick} to be healthy` };
  // A run that failed is repeated once a day.
  const day = Math.floor(clock.now() / DAY_MS);
  const run = { id: `${node.certificatesExpireAt.toString(36)}-${day.toString(36)}` };
  const job = await followJob(context.kube(), [renewCertificatesJob(run, kubeNode.name)], signal);
  switch (job.kind) {
    case 'running':
      return {
        kind: 'later',
        waitingFor: `kubeadm to renew the certificates of ${kubeNode.name}`,
        afterMs: timings.kubeProbeMs,
      };
    case 'failed':
      await tell(node, run.id, `the certificates of ${kubeNode.name} were not renewed: ${job.why}`, context);
      return { kind: 'later', waitingFor: 'the next day', afterMs: FAILED_PAUSE_MS };
    case 'ended':
      return await renewed(node, context, signal);
  }
}

/** Two months ahead a failure is no trouble of the cluster yet: one line of the timeline, and the condition says it. */
async function tell(node: NodeRecord, run: string, message: string, context: StepContext): Promise<void> {
  if (findNode(context.record(), node.name)?.renewal?.run === run) return;
  const error = toProblem(new PcgError('CERTIFICATES_EXPIRING', message));
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({ ...current, renewal: { run, error } })),
  );
  await context.event({ severity: 'warning', reason: 'RenewalFailed', message, node: node.name, error });
}

/** kubeadm wrote them; what counts is what the restarted servers show. */
async function renewed(node: NodeRecord, context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const now = context.clock.now();
  const end = await firstEnd(node, context, signal);
  if (end === undefined || end - now < EXPIRY.renewMs)
    return { kind: 'later', waitingFor: `the servers of ${node.name} to show their new certificates` };
  await note(new Map([[node.name, end]]), context.record().certificatesCheckedAt ?? now, context);
  return DONE;
}

/** Renewing restarts one etcd member: all others must carry on. */
export async function unhealthyMember(
  context: StepContext,
  signal: AbortSignal,
): Promise<string | undefined> {
  await using etcd = await context.etcd();
  const members = await etcd.health(signal);
  const sick = members.find(({ healthy, learner }) => !healthy || learner);
  return sick && (sick.name || 'without a name');
}
