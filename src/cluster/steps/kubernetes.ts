/**
 * Steps against the cluster's own API server: rights of kube-vip, bootstrap tokens (a node's turn to join),
 * packs, labels and taints. All by server-side apply or idempotent calls.
 */
import { PcgError } from '../../base/errors.ts';
import { deleteBootstrapToken, ensureBootstrapToken } from '../../kube/bootstrap-token.ts';
import { applyObjects, unreadyObjects } from '../../kube/apply.ts';
import { type InventoryEntry, inventoryOf, pruneObjects } from '../../kube/inventory.ts';
import { syncNode } from '../../kube/nodes.ts';
import { kubeVipRbac, portalViewerBinding } from '../../kube/rbac.ts';
import type { KubeObject } from '../../kube/client.ts';
import { DONE, type StepContext, type StepOutcome } from '../context.ts';
import { endpointAddress, findNode, finishTask, startTask, withNode } from '../model.ts';
import { settingsOf } from '../node-settings.ts';
import { renderPack } from '../packs.ts';
import { wantedPacks } from '../plan.ts';
import { kubeNodeOf } from '../situation.ts';

const FIELD_MANAGER = 'pcg-gateway';

/** Rights that the cluster itself does not give: kube-vip's lease, and reading for the portal's viewers. */
export async function grantRights(context: StepContext, signal: AbortSignal): Promise<StepOutcome> {
  await applyObjects(
    context.kube(),
    [...(context.record().endpoint.kind === 'vip' ? kubeVipRbac() : []), portalViewerBinding()],
    { clock: context.clock, fieldManager: FIELD_MANAGER, force: true },
    signal,
  );
  await context.commit((record) => ({ ...record, rightsGrantedAt: context.clock.now() }));
  return DONE;
}

/** The node's token becomes valid: kubeadm on the machine, which waits for exactly that, goes on. */
export async function grantToken(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (!node || node.intent.kind === 'remove') return DONE;
  const now = context.clock.now();
  // On disk first: a control-plane joiner that may have started must count as started after a crash.
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({
      ...current,
      token: {
        ...current.token,
        grantedAt: current.token.grantedAt ?? now,
        expiresAt: now + context.timings.tokenTtlMs,
      },
    })),
  );
  await ensureBootstrapToken(
    context.kube(),
    { id: node.token.id, secret: node.token.secret },
    { nowMs: now, ttlMs: context.timings.tokenTtlMs, description: `pcg node ${node.name}` },
    signal,
  );
  return DONE;
}

export async function revokeToken(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  if (!node) return DONE;
  await deleteBootstrapToken(context.kube(), node.token.id, signal);
  await context.commit((record) =>
    withNode(record, node.name, (current) => ({
      ...current,
      token: { ...current.token, revokedAt: context.clock.now() },
    })),
  );
  return DONE;
}

export async function applyPack(
  step: { pack: string; hash: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const { document, clock, timings } = context;
  const pack = wantedPacks(document).find((candidate) => candidate.name === step.pack);
  if (!pack) return DONE;
  const record = context.record();
  const endpoint = endpointAddress(record.endpoint);
  const { network } = document.spec;
  const objects = renderPack(pack, document.spec.packValues[pack.name] ?? {}, {
    clusterName: document.spec.name,
    podCidr: network.podCidr,
    serviceCidr: network.serviceCidr,
    endpointHost: endpoint?.host ?? '',
    endpointPort: endpoint?.port ?? 0,
  });
  const known = record.packs[pack.name];
  if (known?.hash !== step.hash) {
    const fieldManager = `${FIELD_MANAGER}/${pack.name}`;
    await remember(context, pack.name, objects);
    // The first application adopts what a person may have applied by hand; later ones expose drift as conflicts.
    const options = { clock, fieldManager, force: known === undefined || known.hash === '' };
    await applyObjects(context.kube(), objects, options, signal);
    const before = context.record().packs[pack.name]?.inventory ?? [];
    const pruned = await pruneObjects(context.kube(), before, objects, fieldManager, signal);
    const now = clock.now();
    await context.commit((current) => ({
      ...current,
      packs: {
        ...current.packs,
        [pack.name]: {
          hash: step.hash,
          appliedAt: now,
          inventory: inventoryOf(objects),
          task: startTask(current.packs[pack.name]?.task, now),
        },
      },
    }));
    if (pruned.deleted.length > 0 || pruned.kept.length > 0)
      await context.event({
        severity: 'info',
        reason: 'AddonPruned',
        message: `${pruned.deleted.length} objects left pack ${pack.name}`,
        data: { deleted: pruned.deleted.slice(0, 50), kept: pruned.kept.slice(0, 50) },
      });
    await context.event({
      severity: 'info',
      reason: pack.layer === 'cni' ? 'NetworkApplied' : 'AddonApplied',
      message: `pack ${pack.name} ${pack.version} is applied`,
      task: pack.layer === 'cni' ? 'apply-cni' : 'apply-addons',
    });
  }
  return await awaitPack(pack.name, pack.layer, objects, context, signal, timings.packDeadlineMs);
}

/** On disk before anything is applied: an application that was cut short is pruned by the next one. */
async function remember(context: StepContext, name: string, objects: readonly KubeObject[]): Promise<void> {
  await context.commit((record) => {
    const known = record.packs[name];
    const inventory = [...(known?.inventory ?? []), ...inventoryOf(objects)];
    const now = context.clock.now();
    const next = known
      ? { ...known, inventory: unique(inventory) }
      : { hash: '', appliedAt: now, inventory: unique(inventory), task: startTask(undefined, now) };
    return { ...record, packs: { ...record.packs, [name]: next } };
  });
}

function unique(entries: readonly InventoryEntry[]): InventoryEntry[] {
  return [...new Map(entries.map((entry) => [JSON.stringify(entry), entry])).values()];
}

/** The profile no longer has this pack: everything that it brought and still owns goes, then its record. */
export async function removePack(
  step: { pack: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const known = context.record().packs[step.pack];
  const fieldManager = `${FIELD_MANAGER}/${step.pack}`;
  const pruned = await pruneObjects(context.kube(), known?.inventory ?? [], [], fieldManager, signal);
  await context.commit((record) => {
    const { [step.pack]: _gone, ...packs } = record.packs;
    return { ...record, packs };
  });
  await context.event({
    severity: 'info',
    reason: 'AddonRemoved',
    message: `pack ${step.pack} is no longer part of the profile`,
    data: { deleted: pruned.deleted.slice(0, 50), kept: pruned.kept.slice(0, 50) },
  });
  return DONE;
}

async function awaitPack(
  name: string,
  layer: 'cni' | 'addon',
  objects: readonly KubeObject[],
  context: StepContext,
  signal: AbortSignal,
  deadlineMs: number,
): Promise<StepOutcome> {
  const unready = await unreadyObjects(context.kube(), objects, signal);
  const now = context.clock.now();
  const first = unready[0];
  if (first === undefined) {
    await context.commit((record) => {
      const known = record.packs[name];
      if (!known) return record;
      return {
        ...record,
        packs: { ...record.packs, [name]: { ...known, readyAt: now, task: finishTask(known.task, now) } },
      };
    });
    return DONE;
  }
  const appliedAt = context.record().packs[name]?.appliedAt ?? now;
  if (now - appliedAt > deadlineMs || first.final)
    throw new PcgError(
      layer === 'cni' ? 'CNI_NOT_READY' : 'ADDON_NOT_READY',
      `${first.object}: ${first.why}`,
      {
        retryable: true,
        details: { pack: name, unready: unready.slice(0, 10) },
      },
    );
  const others = unready.length === 1 ? '' : ` (and ${unready.length - 1} more)`;
  const waitingFor = `${first.object}: ${first.why}${others}`;
  return { kind: 'later', waitingFor, afterMs: context.timings.kubeProbeMs };
}

/**
 * Labels and taints of the pool; what left the pool's settings is taken away, what others set stays. Done only when a
 * later look at the node shows them: the one that planned this would plan it again at once, and so would a fight with
 * somebody who sets them otherwise.
 */
export async function adjustNode(
  step: { node: string },
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const node = findNode(context.record(), step.node);
  const pool = context.document.spec.pools.find((candidate) => candidate.name === node?.pool);
  const kubeNode = node && kubeNodeOf(node, context.observed);
  if (!node || !pool || !kubeNode) return DONE;
  await syncNode(context.kube(), kubeNode.name, settingsOf(pool), signal);
  return {
    kind: 'later',
    waitingFor: `labels and taints of ${kubeNode.name}`,
    afterMs: context.timings.kubeProbeMs,
  };
}
