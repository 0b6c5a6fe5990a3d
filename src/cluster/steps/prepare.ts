/**
 * First things: keys of the cluster, the site check, node records, and which node runs init. None of these
 * touches a machine; whatever fails here leaves nothing behind.
 */
import { PcgError } from '../../base/errors.ts';
import { createBootstrapToken } from '../../kube/bootstrap-token.ts';
import { createClusterPki } from '../../kube/pki.ts';
import { assertSupported } from '../../kube/versions.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { siteOf } from '../endpoint.ts';
import type { NodeRecord, RemovalReason } from '../model.ts';
import { leavingNode, withNode } from '../model.ts';
import { nodeName } from '../names.ts';

export async function prepare(context: StepContext): Promise<StepOutcome> {
  const { kubernetesVersion } = context.document.profile.kubernetes;
  assertSupported(kubernetesVersion);
  const record = context.record();
  if (record.pki) return DONE;
  // A missing PKI of an initialised control plane is an error and never a reason to make a new one.
  if (record.initializedAt !== undefined)
    throw new PcgError('INTERNAL', 'the keys of a running cluster are missing');
  const pki = await createClusterPki({
    nowMs: context.clock.now(),
    keyAlgorithm: context.keyAlgorithm,
  });
  await context.commit((current) =>
    current.pki
      ? current
      : { ...current, pki, controlPlaneVersion: kubernetesVersion, addonsVersion: kubernetesVersion },
  );
  return DONE;
}

export async function checkPlacement(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  const { report, machineNetworks } = await siteOf(context, signal);
  const [first, ...more] = report.problems;
  if (first)
    throw new PcgError(first.code, first.message, {
      field: first.field,
      fix: first.fix,
      retryable: first.retryable,
      details: { ...first.details, ...(more.length === 0 ? {} : { more }), pools: report.pools },
    });
  const placementCheckedAt = context.clock.now();
  await context.commit((record) => ({ ...record, machineNetworks, placementCheckedAt }));
  return DONE;
}

export async function addNodes(
  step: { pool: string; role: 'control-plane' | 'worker'; count: number },
  context: StepContext,
): Promise<StepOutcome> {
  const now = context.clock.now();
  await context.commit((record) => {
    const taken = new Set(record.nodes.map((node) => node.name));
    const existing = record.nodes.filter(
      (node) => node.role === 'control-plane' && node.intent.kind === 'keep',
    );
    const added: NodeRecord[] = [];
    for (let index = 0; index < step.count; index += 1) {
      const name = nodeName(context.document.spec.name, step.pool, taken, context.random);
      taken.add(name);
      added.push({
        name,
        pool: step.pool,
        role: step.role,
        createdAt: now,
        // While nothing is initialised exactly one control-plane node runs init.
        init:
          step.role === 'control-plane' &&
          record.initializedAt === undefined &&
          index === 0 &&
          !existing.some((node) => node.init),
        intent: { kind: 'keep' },
        claim: { kind: 'none' },
        token: createBootstrapToken(),
        maintenance: false,
        tasks: {},
      });
    }
    return { ...record, nodes: [...record.nodes, ...added] };
  });
  return DONE;
}

export async function removeNodes(
  step: { nodes: readonly { name: string; reason: RemovalReason }[] },
  context: StepContext,
): Promise<StepOutcome> {
  const since = context.clock.now();
  for (const { name, reason } of step.nodes) {
    await context.commit((record) => withNode(record, name, (node) => leavingNode(node, reason, since)));
    await context.event({
      severity: 'info',
      reason: 'NodeLeaving',
      message: `${name} leaves the cluster: ${reason}`,
      node: name,
      task: 'drain',
    });
  }
  return DONE;
}

export async function electInit(step: { node: string }, context: StepContext): Promise<StepOutcome> {
  await context.commit((record) =>
    record.initializedAt !== undefined ||
    record.nodes.some((node) => node.init && node.intent.kind === 'keep')
      ? record
      : withNode(record, step.node, (node) => ({ ...node, init: true })),
  );
  return DONE;
}
