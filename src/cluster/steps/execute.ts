/**
 * One executor per step kind, total over the union: a step without an executor does not compile. Each is
 * idempotent; each may be cut off at any await and run again from the start.
 */
import type { StepContext, StepOutcome } from '../context.ts';
import { setUpBackups } from '../policies/backup-setup.ts';
import { runPolicy } from '../policies/run.ts';
import { publishEndpoint, releaseEndpoint, reportEndpoint, reserveEndpoint } from '../endpoint.ts';
import type { Step, StepKind } from '../steps.ts';
import { allocate } from './allocate.ts';
import { checkCertificates, renewCertificates } from './certificates.ts';
import { beginDelete, finishDelete, forceDelete } from './delete.ts';
import { deploy } from './deploy.ts';
import { abortDeploy, failNode, reportLoss } from './fail-node.ts';
import { adjustNode, applyPack, grantRights, grantToken, removePack, revokeToken } from './kubernetes.ts';
import { cordonNode, deleteNodeObject, forgetNode } from './leave.ts';
import { addNodes, checkPlacement, electInit, prepare, removeNodes } from './prepare.ts';
import { checkOrigin, releaseStrays } from './strays.ts';
import { release } from './release.ts';
import { removeStrayMember } from './remove-stray-member.ts';
import { settleClaim, settleDoubt } from './settle-doubt.ts';
import { acknowledgeAction, settle } from './settle.ts';
import { powerCycle } from './power-cycle.ts';
import { prepareUpgrade } from './upgrade.ts';
import { upgradeAddons } from './upgrade-addons.ts';
import { drainNode, removeEtcdMember } from './withdraw.ts';

type Executor<S> = (step: S, context: StepContext, signal: AbortSignal) => Promise<StepOutcome>;

const EXECUTORS: { readonly [K in StepKind]: Executor<Extract<Step, { kind: K }>> } = {
  prepare: (_step, context) => prepare(context),
  'check-origin': (_step, context, signal) => checkOrigin(context, signal),
  'check-placement': (_step, context, signal) => checkPlacement(context, signal),
  'reserve-endpoint': (_step, context, signal) =>
    context.account.candidates.exclusive(() => reserveEndpoint(context, signal)),
  'publish-endpoint': publishEndpoint,
  'add-nodes': addNodes,
  'remove-nodes': removeNodes,
  'elect-init': electInit,
  'grant-rights': (_step, context, signal) => grantRights(context, signal),
  'apply-pack': applyPack,
  'remove-pack': removePack,
  'adjust-node': adjustNode,
  'prepare-upgrade': prepareUpgrade,
  'upgrade-addons': upgradeAddons,
  'remove-stray-member': removeStrayMember,
  'check-certificates': (_step, context, signal) => checkCertificates(context, signal),
  'report-endpoint': (_step, context) => reportEndpoint(context),
  'report-loss': reportLoss,
  'run-policy': runPolicy,
  'set-up-backups': setUpBackups,
  'acknowledge-action': acknowledgeAction,
  settle: (_step, context) => settle(context),
  allocate,
  deploy,
  'grant-token': grantToken,
  'revoke-token': revokeToken,
  'abort-deploy': abortDeploy,
  'fail-node': failNode,
  'power-cycle': powerCycle,
  'renew-certificates': renewCertificates,
  'cordon-node': cordonNode,
  'drain-node': drainNode,
  'remove-etcd-member': removeEtcdMember,
  'settle-claim': settleClaim,
  release,
  'settle-doubt': settleDoubt,
  'delete-node-object': deleteNodeObject,
  'forget-node': forgetNode,
  'begin-delete': beginDelete,
  'release-strays': (_step, context, signal) => releaseStrays(context, signal),
  'release-endpoint': (_step, context, signal) => releaseEndpoint(context, signal),
  'finish-delete': (_step, context) => finishDelete(context),
  'force-delete': (_step, context, signal) => forceDelete(context, signal),
};

export async function executeStep(
  step: Step,
  context: StepContext,
  signal: AbortSignal,
): Promise<StepOutcome> {
  // The record's type ties each kind to its executor; a lookup by a union key loses that tie.
  const execute = EXECUTORS[step.kind] as Executor<Step>;
  return await execute(step, context, signal);
}
