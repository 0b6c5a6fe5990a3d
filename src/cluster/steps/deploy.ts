/**
 * Starts the installation of a held machine with its own user-data. MAAS 3.5 answers only after the BMC did;
 * when the answer is lost the machine is read back before anything is repeated. The user-data is a pure
 * function of the record, so a repeated deploy sends the same text.
 */
import { PcgError } from '../../base/errors.ts';
import type { ClusterDocument, Pool } from '../../contract/cluster.ts';
import { caHash } from '../../kube/pki.ts';
import type { Machine } from '../../maas/client.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { type ClusterRecord, endpointAddress, findNode, type NodeRecord, withNode } from '../model.ts';
import { sameStamp, stampOf, verifyOwnership } from '../ownership.ts';
import { documentInForce, settingsLag } from '../in-force.ts';
import { nodeTemplate, sharedSettings } from '../template.ts';
import { renderUserData } from '../user-data.ts';

export async function deploy(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (node?.claim.kind !== 'held') return DONE;
  const { systemId, hostname } = node.claim;
  const pool = context.document.spec.pools.find((candidate) => candidate.name === node.pool);
  const document = documentInForce(context.document, context.record(), node);
  if (!pool || !document) return DONE;
  const userData = userDataOf(node, document, context);
  await refuseStranger(node.claim, context, signal);
  const mark = await context.account.eventMark(signal);
  // On disk before the call: what this machine runs must be known whatever becomes of the reply.
  const { kubernetesVersion } = document.profile.kubernetes;
  await context.commit((record) => ({
    ...withNode(record, node.name, (current) => ({
      ...current,
      template: templateOf(node, pool, document, record),
      kubernetesVersion,
      deployEventsAfter: mark,
    })),
    // Everybody after it joins what this node makes.
    ...(node.init
      ? {
          controlPlaneVersion: kubernetesVersion,
          addonsVersion: kubernetesVersion,
          controlPlaneSettings: sharedSettings(document),
        }
      : {}),
  }));
  const outcome = await context.maas.machines.deploy(
    systemId,
    {
      image: document.profile.os.image,
      userData,
      comment: `pcg cluster ${document.spec.name} node ${node.name}`,
    },
    signal,
  );
  switch (outcome.kind) {
    case 'accepted':
      await started(node, hostname, systemId, context);
      // The answer was written before MAAS assigned addresses; only its status is news.
      context.saw(outcome.machine);
      return DONE;
    case 'gone':
      throw new PcgError('MACHINE_LOST', `${hostname} is gone from MAAS`, { retryable: true });
    case 'wrong-state':
    case 'unknown': {
      const machine = await context.maas.machines.get(systemId, signal);
      if (machine) context.saw(machine);
      if (machine && isUnderWay(machine)) {
        await started(node, hostname, systemId, context);
        return DONE;
      }
      if (outcome.kind === 'unknown')
        throw new PcgError('MAAS_OUTCOME_UNKNOWN', `MAAS did not confirm the deployment of ${hostname}`, {
          cause: outcome.cause,
        });
      throw new PcgError(
        'MAAS_WRONG_STATE',
        `${hostname} is ${machine?.statusName ?? 'not visible'} and cannot be deployed`,
      );
    }
  }
}

/**
 * Released by hand and taken by somebody else since we looked? MAAS lets an administrator deploy a machine that
 * belongs to another user, so nobody but us would notice. What was seen goes to the plan, which replaces it.
 */
async function refuseStranger(
  claim: Extract<NodeRecord['claim'], { kind: 'held' }>,
  context: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const machine = await context.maas.machines.get(claim.systemId, signal);
  if (machine?.owner !== undefined && sameStamp(stampOf(machine), claim.stamp)) return;
  // Annotations may be gone while the agent name, which only a list shows, still stands.
  const owned = await verifyOwnership(context.maas, claim.systemId, claim.stamp, signal);
  if (owned.kind === 'ours') return;
  if (owned.machine) context.saw(owned.machine);
  throw new PcgError('MACHINE_LOST', `${claim.hostname} does not carry our stamp any more`, {
    retryable: true,
  });
}

function isUnderWay(machine: Machine): boolean {
  return machine.status === 'deploying' || machine.status === 'deployed';
}

async function started(
  node: NodeRecord,
  hostname: string,
  systemId: string,
  context: StepContext,
): Promise<void> {
  await context.event({
    severity: 'info',
    reason: 'MachineDeploying',
    message: `${hostname} installs ${context.document.profile.os.image}`,
    node: node.name,
    machine: systemId,
    task: 'deploy',
  });
}

/** A joiner of the control plane whose settings came from the cluster's older ones counts as outdated. */
function templateOf(node: NodeRecord, pool: Pool, document: ClusterDocument, record: ClusterRecord): string {
  const template = nodeTemplate(document, pool);
  const lags = node.role === 'control-plane' && !node.init && settingsLag(document, record);
  return lags ? `${template}-lags` : template;
}

function userDataOf(node: NodeRecord, document: ClusterDocument, context: StepContext): string {
  const { site } = context;
  const record = context.record();
  const endpoint = endpointAddress(record.endpoint);
  if (!record.pki || !endpoint || node.claim.kind !== 'held')
    throw new PcgError('INTERNAL', `node ${node.name} is deployed before its cluster is prepared`);
  const kind = node.role === 'worker' ? 'worker' : node.init ? 'init' : 'join-control-plane';
  return renderUserData({
    kind,
    cluster: { id: document.id, name: document.spec.name },
    spec: document.spec,
    profile: document.profile,
    endpoint: { ...endpoint, vip: record.endpoint.kind === 'vip' },
    node: {
      name: node.name,
      hostname: node.claim.hostname,
      systemId: node.claim.systemId,
      zone: node.claim.zone,
      pool: node.pool,
      role: node.role,
    },
    // Workers never see a private key of the cluster.
    ...(node.role === 'control-plane' ? { pki: record.pki } : {}),
    caHash: caHash(record.pki.ca.certPem),
    token: { id: node.token.id, secret: node.token.secret },
    site: { ...site, nodeCidrs: [...(site.nodeCidrs ?? []), ...(record.machineNetworks ?? [])] },
  });
}
