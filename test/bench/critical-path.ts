/**
 * How long a create would have taken with an agent that needs no time at all: MAAS's serialised allocations
 * and the hardware's own phases, with the durations that the simulator noted for each machine of this very
 * run, put together again without any pause between them. Nothing here is a constant of the simulator but the
 * time of one allocation, which the bench itself has set.
 *
 * It contains, and so does not count as overhead:
 * - one allocation after the other, in the order of this run, the first one at the moment of the request;
 * - of each machine: the deploy call with its BMC, installation, boot and packages, its own `kubeadm`, its Ready;
 * - init before every join, and control-plane nodes joining one after the other, since etcd takes one learner;
 * - half a pause of kubeadm (as measured) for whoever had to wait: it asks only every few seconds to be let in.
 *
 * It does not contain, and so counts as overhead: checks and looks before an allocation, annotations and reads,
 * the queue of deploy calls for the few requests that the agent keeps in flight (here every deployment starts
 * as soon as its machine is allocated), the reservation of the endpoint, the portal and the tunnel, and the time
 * that simulator, portal and agent wait for a CPU outside of the phases above.
 */
import { median } from './results.ts';

export interface LedgerEntry {
  readonly at: number;
  readonly action: string;
  readonly systemId?: string | undefined;
}
export interface Milestone {
  readonly systemId: string;
  readonly at: number;
  readonly what: string;
}

export interface Timeline {
  /** Wall clock, ms: the user asked for the cluster. */
  readonly startedAt: number;
  readonly allocateMs: number;
  /** System ids of the control plane. */
  readonly controlPlane: ReadonlySet<string>;
  readonly ledger: readonly LedgerEntry[];
  readonly milestones: readonly Milestone[];
}

interface Phases {
  readonly systemId: string;
  /** From the deploy request to kubeadm's start: BMC, installation, first boot, packages. */
  readonly installMs: number;
  readonly init: boolean;
  /** kubeadm itself, from being let in. */
  readonly joinMs: number;
  /** From joined to Ready: the network's pod is pulled and starts. */
  readonly readyMs: number;
  readonly joinedAt: number;
}

/** Milliseconds from the request to the last node's Ready. */
export function criticalPathMs(timeline: Timeline): number {
  const machines = phasesOf(timeline);
  const first = machines.find(({ init }) => init);
  if (!first) throw new Error('no machine ran kubeadm init');
  // The first node waits for a network that the agent applies; the later ones show what its start takes.
  const networkMs = median(machines.filter(({ init }) => !init).map(({ readyMs }) => readyMs));
  const installed = new Map(
    machines.map((machine, index) => [
      machine.systemId,
      (index + 1) * timeline.allocateMs + machine.installMs,
    ]),
  );
  const askingMs = median(retryPauses(timeline.milestones)) / 2;
  const start = (machine: Phases) => installed.get(machine.systemId) ?? 0;
  const initialised = start(first) + first.joinMs;
  let end = initialised + networkMs;
  let previous = initialised;
  const joiners = machines.filter(({ init }) => !init).sort((a, b) => a.joinedAt - b.joinedAt);
  for (const machine of joiners) {
    const control = timeline.controlPlane.has(machine.systemId);
    // etcd takes one learner at a time: control-plane nodes join one after the other.
    const open = control ? previous : initialised;
    const joined = (start(machine) > open ? start(machine) : open + askingMs) + machine.joinMs;
    if (control) previous = joined;
    end = Math.max(end, joined + machine.readyMs);
  }
  return end;
}

/** Pauses between two tries of one machine to be let in; [0] when none had to wait. */
function retryPauses(milestones: readonly Milestone[]): number[] {
  const last = new Map<string, number>();
  const pauses: number[] = [];
  for (const { systemId, at, what } of milestones) {
    if (what !== 'refused') continue;
    const before = last.get(systemId);
    if (before !== undefined) pauses.push(at - before);
    last.set(systemId, at);
  }
  return pauses.length > 0 ? pauses : [0];
}

/** In the order in which MAAS handed them out. */
function phasesOf({ ledger, milestones }: Timeline): Phases[] {
  const allocated = ledger.filter(({ action }) => action === 'allocate').map(({ systemId }) => systemId);
  return allocated.flatMap((systemId) => {
    if (systemId === undefined) return [];
    const deploy = ledger.findLast((entry) => entry.action === 'deploy' && entry.systemId === systemId)?.at;
    const reached = (what: string, last: boolean) => {
      const found = milestones.filter((one) => one.systemId === systemId && one.what === what);
      return (last ? found.at(-1) : found[0])?.at;
    };
    const kubeadm = reached('kubeadm', true);
    const initDone = reached('init', true);
    const letIn = initDone === undefined ? reached('discovered', true) : kubeadm;
    const joined = initDone ?? reached('joined', true);
    const ready = reached('ready', false);
    if ([deploy, kubeadm, letIn, joined, ready].includes(undefined)) return [];
    return {
      systemId,
      installMs: (kubeadm ?? 0) - (deploy ?? 0),
      init: initDone !== undefined,
      joinMs: (joined ?? 0) - (letIn ?? 0),
      readyMs: (ready ?? 0) - (joined ?? 0),
      joinedAt: joined ?? 0,
    };
  });
}

/** When what really happened, in seconds from the request: where the time goes that is not the hardware's. */
export function actualTimes(timeline: Timeline): Record<string, string> {
  const { startedAt, ledger, milestones, controlPlane } = timeline;
  const shown = (times: readonly number[]) => times.map((at) => ((at - startedAt) / 1000).toFixed(1));
  const ends = (times: readonly number[]) => {
    const sorted = shown([...times].sort((a, b) => a - b));
    return sorted.length < 4 ? sorted.join(' ') : `${sorted[0]} .. ${sorted.at(-1)}`;
  };
  const table: Record<string, string> = {};
  for (const action of ['allocate', 'deploy', 'deployed']) {
    const entries = ledger.filter((entry) => entry.action === action);
    const ours = entries.filter(({ systemId }) => systemId !== undefined && controlPlane.has(systemId));
    table[`control ${action}`] = ends(ours.map(({ at }) => at));
    table[`all ${action}`] = ends(entries.map(({ at }) => at));
  }
  for (const what of ['kubeadm', 'init', 'discovered', 'joined', 'ready']) {
    const reached = new Map<string, number>();
    for (const one of milestones)
      if (one.what === what && !(what === 'ready' && reached.has(one.systemId)))
        reached.set(one.systemId, one.at);
    table[`control ${what}`] = ends([...reached].flatMap(([id, at]) => (controlPlane.has(id) ? [at] : [])));
    table[`all ${what}`] = ends([...reached.values()]);
  }
  return table;
}
