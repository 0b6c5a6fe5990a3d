/**
 * The next step of a node that stays, towards Ready (those that leave: plan-removal.ts). Machines install in parallel
 * from the start; who may join when is decided by granting bootstrap tokens, since kubeadm's discovery waits until its
 * token is signed: workers as soon as the endpoint answers, control-plane nodes one after the other.
 */
import { documentInForce } from './in-force.ts';
import { ERROR_CODES, type ErrorCode, type ProblemDetails } from '../contract/errors.ts';
import { awayMs } from '../maas/outages.ts';
import { heldSystemId, type NodeRecord } from './model.ts';
import type { Scene } from './plan.ts';
import type { NodeSituation } from './situation.ts';
import type { Step } from './steps.ts';
import { nodeAdjustments } from './node-settings.ts';
import { awaitsSuccessor } from './plan-removal.ts';

export function problem(code: ErrorCode, message: string, details?: Record<string, unknown>): ProblemDetails {
  const { fix, retryable, userFixable } = ERROR_CODES[code];
  return { code, message, fix, retryable, userFixable, ...(details === undefined ? {} : { details }) };
}

export function planNode(scene: Scene, { node, situation }: NodeSituation): Step[] {
  const { record, observed, timings } = scene;
  const { now } = observed;
  const isLate = (since: number) =>
    now - since - awayMs(observed.maasOutages, since, now) > timings.deployDeadlineMs;
  if (node.failure) return []; // over the limit: stays as it is for inspection until `retry`
  switch (situation.kind) {
    case 'unclaimed':
    case 'claiming':
      return mayDeploy(scene, node) ? [{ kind: 'allocate', node: node.name }] : [];
    case 'allocated':
      if (node.deployedAt !== undefined)
        return fail(
          node,
          'DEPLOY_FAILED',
          `${situation.machine.hostname} fell back to Allocated after it ran`,
        );
      // Started long ago and back at Allocated: a deployment that was aborted for its deadline just before a crash.
      if (node.tasks.deploy?.state === 'running' && isLate(node.tasks.deploy.startedAt))
        return [{ kind: 'abort-deploy', node: node.name }];
      return mayDeploy(scene, node) ? [{ kind: 'deploy', node: node.name }] : [];
    case 'deploying':
      return isLate(node.tasks.deploy?.startedAt ?? now) ? [{ kind: 'abort-deploy', node: node.name }] : [];
    case 'deploy-failed':
      return fail(node, 'DEPLOY_FAILED', `MAAS could not deploy ${situation.machine.hostname}`, {
        status: situation.machine.statusName,
        message: situation.machine.errorDescription || situation.machine.statusMessage,
      });
    case 'out-of-order':
      // A machine that ran and was put into rescue mode or testing by a person is that person's business.
      if (node.readyAt !== undefined) return [];
      return fail(
        node,
        'MACHINE_LOST',
        `${situation.machine.hostname} is ${situation.machine.statusName} in MAAS`,
      );
    case 'lost':
      // Many at once: the account's key or rights changed, not the machines.
      if (node.joinedAt !== undefined && lostTogether(scene)) return [];
      return fail(node, 'MACHINE_LOST', situation.why);
    case 'booted':
      return planBooted(scene, node);
    case 'joined': {
      if (!scene.initialized) return planBooted(scene, node);
      // the first node is the cluster by now, whatever its script said last
      const failed = node.init || node.readyAt !== undefined ? [] : scriptFailure(scene, node);
      if (failed.length > 0) return failed;
      const cniAt = record.packs[scene.document.profile.cni.name]?.appliedAt ?? now;
      const waited = now - Math.max(node.joinedAt ?? now, cniAt, observed.crippledAt ?? 0);
      if (node.readyAt === undefined && waited > timings.joinDeadlineMs && isNetworkProven(scene))
        return fail(node, 'BOOTSTRAP_TIMEOUT', `node ${node.name} joined but did not become Ready`);
      return keepToken(scene, node);
    }
    case 'ready':
      // An image that brings its own network is Ready before kubeadm init makes the token.
      if (scene.initialized && mayLetIn(node) && isSettled(node, situation))
        return [{ kind: 'revoke-token', node: node.name }];
      return nodeAdjustments(scene, node, situation.node);
    case 'vanished':
    case 'unobserved':
      // Remediation decides later; a first node that registered and fell silent is nobody's else.
      return scene.initialized ? [] : planBooted(scene, node);
    case 'unknown':
    case 'releasing':
    case 'released':
      return [];
  }
}

/** No node becomes Ready without a network: until it has worked once it is the cause, and no machine is. */
function isNetworkProven({ document, record, nodes }: Scene): boolean {
  return (
    record.packs[document.profile.cni.name]?.readyAt !== undefined ||
    nodes.some(({ node }) => node.readyAt !== undefined)
  );
}

/** Its token opens the cluster to any machine that knows it; kubeadm makes that of the first node itself. */
function mayLetIn({ init, token }: NodeRecord): boolean {
  return (init || token.grantedAt !== undefined) && token.revokedAt === undefined;
}

/** A control-plane node has settled when kubeadm marked it, which it does after the etcd member is promoted. */
function isSettled(
  node: NodeRecord,
  situation: Extract<NodeSituation['situation'], { kind: 'ready' }>,
): boolean {
  return node.role === 'worker' || situation.node.controlPlane;
}

/** Joiners carry the endpoint and the keys; both exist from the start, so every machine may install at once. */
function mayDeploy({ document, record, initialized }: Scene, node: NodeRecord): boolean {
  if (documentInForce(document, record, node) === undefined) return false;
  return initialized || node.init || record.nodes.some((other) => other.init && other.intent.kind === 'keep');
}

function scriptFailure(scene: Scene, node: NodeRecord): Step[] {
  const { bootstrapFailures, now, crippledAt } = scene.observed;
  const event = bootstrapFailures.get(heldSystemId(node) ?? '');
  if (event === undefined) return [];
  const waitedForTurn = waitedInVain(scene, node);
  // The next machine would fare no better, and this one may be well: it is judged when a join can succeed again.
  if (crippledAt === now || (scene.initialized && waitedForTurn && isHeld(scene))) return [];
  return fail(node, 'BOOTSTRAP_FAILED', `the bootstrap script of ${node.name} ended with an error`, {
    event,
    waitedForTurn,
  });
}

function planBooted(scene: Scene, node: NodeRecord): Step[] {
  const { observed, timings, initialized, endpointUp } = scene;
  const failed = scriptFailure(scene, node);
  if (failed.length > 0) return failed;
  const booted = node.deployedAt ?? observed.now;
  if (!initialized) {
    if (!node.init) return []; // waits for its turn; its clock has not started
    return observed.now - booted > timings.initDeadlineMs
      ? fail(node, 'BOOTSTRAP_TIMEOUT', `no API server came up on ${node.name}`)
      : [];
  }
  if (node.init && node.token.grantedAt === undefined) {
    // kubeadm init made its own token; the Node object follows. No turn to wait for.
    return observed.now - booted > timings.initDeadlineMs
      ? fail(node, 'BOOTSTRAP_TIMEOUT', `node ${node.name} did not register`)
      : [];
  }
  const granted = node.token.grantedAt;
  if (granted === undefined)
    return endpointUp && isItsTurn(scene, node) ? [{ kind: 'grant-token', node: node.name }] : [];
  if (observed.now - Math.max(booted, granted, observed.crippledAt ?? 0) > timings.joinDeadlineMs)
    return fail(node, 'BOOTSTRAP_TIMEOUT', `node ${node.name} did not join`);
  return keepToken(scene, node);
}

/**
 * kubeadm on a joiner waits an hour for its token. When the control plane took longer than that (its first
 * machines failed), the joiner gives up although nothing is wrong with its machine.
 */
export function waitedInVain(
  { observed, timings }: Pick<Scene, 'observed' | 'timings'>,
  node: NodeRecord,
): boolean {
  const { deployedAt } = node;
  const waited = deployedAt !== undefined && observed.now - deployedAt >= timings.joinPatienceMs;
  return waited && !node.init && node.token.grantedAt === undefined;
}

/** More nodes lost than the remediation policy allows to be unhealthy. */
function lostTogether({ nodes, document }: Scene): boolean {
  const lost = nodes.filter(
    ({ node, situation }) => situation.kind === 'lost' && node.joinedAt !== undefined,
  ).length;
  return lost > 1 && (lost / nodes.length) * 100 > document.spec.policies.remediation.maxUnhealthyPercent;
}

/** A token must not expire while its node is still on the way. */
function keepToken({ observed, timings, endpointUp }: Scene, node: NodeRecord): Step[] {
  const { expiresAt, revokedAt } = node.token;
  const due =
    expiresAt !== undefined && revokedAt === undefined && expiresAt - observed.now < timings.tokenTtlMs / 2;
  return due && endpointUp ? [{ kind: 'grant-token', node: node.name }] : [];
}

/**
 * Workers join when they like. Control-plane nodes one at a time: each adds an etcd learner, and etcd permits
 * one; a member that is not healthy must not meet a membership change, nor a control plane that does not work.
 */
export function isItsTurn(scene: Scene, node: NodeRecord): boolean {
  const { nodes, observed } = scene;
  if (node.role === 'worker') return true;
  const others = nodes.filter(
    (entry) => entry.node.role === 'control-plane' && entry.node.name !== node.name,
  );
  const settled = others.every(({ node: other, situation }) => {
    const joining = other.init || other.token.grantedAt !== undefined;
    if (!joining) return situation.kind !== 'vanished';
    // kubeadm marks a node as control plane after its etcd member is promoted; etcd itself confirms it below.
    const joined = situation.kind === 'ready' || (situation.kind === 'joined' && observed.etcd !== undefined);
    const stays = other.intent.kind === 'keep' || awaitsSuccessor(nodes, other);
    return joined && situation.node.controlPlane && stays;
  });
  const first = others.find(
    ({ node: other, situation }) =>
      situation.kind === 'booted' && other.token.grantedAt === undefined && !other.init,
  );
  // Record order decides between two that wait, so that exactly one of them goes.
  return (
    settled &&
    isEtcdCalm(scene) &&
    !isHeld(scene) &&
    (first === undefined || before(nodes, node.name, first.node.name))
  );
}

/** Nobody is on the way in, and nobody is silent; also when the gateway cannot reach etcd: then others ask it. */
export function isEtcdCalm({ observed: { etcd } }: Scene): boolean {
  return etcd?.members.every((member) => !member.learner && member.healthy) ?? true;
}

/** What no turn ends, but a person: nobody joins, leaves or is replaced in such a control plane. */
export function isHeld({ observed: { etcdAlarms, kube }, blockingFaults }: Scene): boolean {
  const unread = kube.kind === 'reachable' && kube.componentsUnread !== undefined;
  return etcdAlarms.length > 0 || blockingFaults.length > 0 || unread;
}

function before(nodes: readonly NodeSituation[], a: string, b: string): boolean {
  return nodes.findIndex(({ node }) => node.name === a) < nodes.findIndex(({ node }) => node.name === b);
}

function fail(node: NodeRecord, code: ErrorCode, message: string, details?: Record<string, unknown>): Step[] {
  return [{ kind: 'fail-node', node: node.name, problem: problem(code, message, details) }];
}
