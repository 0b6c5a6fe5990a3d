/**
 * OS patching, one node at a time: a privileged Job upgrades packages (Kubernetes' own are on hold); where a
 * reboot is due and allowed the node is drained, rebooted, awaited with a new boot id, and put back to work.
 */
import { PcgError } from '../../base/errors.ts';
import type { KubeClient } from '../../kube/client.ts';
import { drainPass } from '../../kube/drain.ts';
import { asRecord } from '../../kube/errors.ts';
import type { KubeNode } from '../observed.ts';
import { runJob } from './job.ts';
import type { PolicyStep } from './run.ts';

/** Small and present on every node: the control plane's own images would have no shell. */
const IMAGE = 'docker.io/library/busybox:1.37';
const ENTER = ['nsenter', '-t', '1', '-m', '-u', '-i', '-n', '--', '/bin/sh', '-c'];
const UPGRADE =
  'export DEBIAN_FRONTEND=noninteractive; apt-get -o DPkg::Lock::Timeout=300 update && ' +
  'apt-get -o DPkg::Lock::Timeout=300 -y --with-new-pkgs upgrade && ' +
  '{ [ -e /var/run/reboot-required ] && echo PCG-REBOOT=yes || echo PCG-REBOOT=no; }';

/** Kept in the policy's record between calls. */
interface Progress {
  readonly done: readonly string[];
  readonly reboots: readonly string[];
  readonly rebooting?: { readonly node: string; readonly bootId: string };
}

function readProgress(summary: Readonly<Record<string, unknown>>): Progress {
  const rebooting = asRecord(summary['rebooting']);
  const list = (value: unknown) => (Array.isArray(value) ? value.map(String) : []);
  return {
    done: list(summary['done']),
    reboots: list(summary['reboots']),
    ...(typeof rebooting['node'] === 'string' && typeof rebooting['bootId'] === 'string'
      ? { rebooting: { node: rebooting['node'], bootId: rebooting['bootId'] } }
      : {}),
  };
}

export async function patchNodes(
  client: KubeClient,
  nodes: readonly KubeNode[],
  options: {
    run: string;
    rebootIfRequired: boolean;
    summary: Readonly<Record<string, unknown>>;
    nowMs: number;
  },
  signal: AbortSignal,
): Promise<PolicyStep> {
  const progress = readProgress(options.summary);
  if (progress.rebooting) return await awaitReboot(client, nodes, progress, signal);
  const next = nodes.find((node) => !progress.done.includes(node.name));
  if (!next) return { kind: 'done', summary: { done: progress.done, reboots: progress.reboots } };
  // One node at a time, and only while all others work.
  const sick = nodes.find((node) => !node.ready);
  if (sick) return { kind: 'later', waitingFor: `${sick.name} to be Ready` };
  const marked = progress.reboots.includes(next.name);
  if (!marked) {
    const outcome = await runJob(
      client,
      job(`patch-${next.name}-${options.run}`, next.name, UPGRADE),
      signal,
    );
    if (outcome.kind === 'running') return { kind: 'later', waitingFor: `packages on ${next.name}` };
    if (outcome.kind === 'failed')
      throw new PcgError('ADDON_NOT_READY', `patching ${next.name} failed`, {
        details: { log: outcome.log.slice(-2000) },
      });
    const reboot = options.rebootIfRequired && outcome.log.includes('PCG-REBOOT=yes');
    if (!reboot)
      return {
        kind: 'later',
        waitingFor: 'the next node',
        progress: { ...progress, done: [...progress.done, next.name] },
      };
    return {
      kind: 'later',
      waitingFor: `${next.name} to be drained`,
      progress: { ...progress, reboots: [...progress.reboots, next.name] },
    };
  }
  const path = `/api/v1/nodes/${encodeURIComponent(next.name)}`;
  await client.patch(path, { spec: { unschedulable: true } }, 'merge', signal);
  const drain = await drainPass(
    client,
    next.name,
    { unreachable: false, force: false, nowMs: options.nowMs },
    signal,
  );
  if (drain.kind !== 'drained') return { kind: 'later', waitingFor: `${next.name} to be drained` };
  // Written down before the reboot: the answer of the Job dies with the machine.
  const rebooting = { node: next.name, bootId: next.bootId ?? '' };
  return { kind: 'later', waitingFor: `${next.name} to reboot`, progress: { ...progress, rebooting } };
}

async function awaitReboot(
  client: KubeClient,
  nodes: readonly KubeNode[],
  progress: Progress,
  signal: AbortSignal,
): Promise<PolicyStep> {
  const { rebooting } = progress;
  const node = nodes.find((candidate) => candidate.name === rebooting?.node);
  if (!rebooting || !node)
    return { kind: 'later', waitingFor: 'the rebooting node to come back', progress: without(progress) };
  if (node.bootId === rebooting.bootId) {
    if (node.ready) await runJob(client, job(`reboot-${node.name}`, node.name, 'systemctl reboot'), signal);
    return { kind: 'later', waitingFor: `${node.name} to reboot` };
  }
  if (!node.ready) return { kind: 'later', waitingFor: `${node.name} to be Ready again` };
  await client.patch(
    `/api/v1/nodes/${encodeURIComponent(node.name)}`,
    { spec: { unschedulable: false } },
    'merge',
    signal,
  );
  await client.delete(`/apis/batch/v1/namespaces/pcg-system/jobs/reboot-${node.name}`, signal, {
    propagation: 'Background',
  });
  return {
    kind: 'later',
    waitingFor: 'the next node',
    progress: { ...without(progress), done: [...progress.done, node.name] },
  };
}

function without({ rebooting: _rebooting, ...progress }: Progress): Progress {
  return progress;
}

function job(name: string, nodeName: string, script: string) {
  return { name, image: IMAGE, command: [...ENTER, script], nodeName, privileged: true, hostPaths: [] };
}
