/**
 * One run of five clusters that live and die at the same time on a site where everything goes wrong by chance, and
 * the verdict of the simulator's ledger, which no client can talk to. A seed repeats its faults.
 */
import { ANNOTATION } from '../../src/cluster/ownership.ts';
import { DEFAULT_TIMINGS } from '../../src/cluster/timings.ts';
import type { ClusterDocument, ClusterStatus } from '../../src/contract/cluster.ts';
import { faultCatalogue } from '../../src/simulator/maas/faults.ts';
import { type Random, seededRandom } from '../../src/simulator/random.ts';
import { defaultScenario } from '../../src/simulator/scenario.ts';
import { document as wanted } from './engine.ts';
import { clusterSpec } from './node-input.ts';
import { SimulatedSite } from './simulated-site.ts';

const CLUSTERS = 5;
const MACHINES = 36;
/** Every so many seeds the machines run the simulated Kubernetes; in between one in memory, which costs half. */
const FULL_EVERY = 8;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
/** No cluster takes longer to run, to fail with a cause or to be gone. */
const END_WITHIN_MS = 24 * 60 * MINUTE;
/** Longer than any other deadline, as the product's own of a day is, which would be a day of looks. */
const ERASE_DEADLINE_MS = 4 * 60 * MINUTE;
/** All other times are the product's own; looks are rarer, since each costs more than the waiting that it saves. */
const LOOKS = { activeMs: MINUTE, kubeProbeMs: MINUTE, kubeBootProbeMs: 20 * SECOND } as const;

/** Chances per request or machine; each seed has its own selection and strength. */
const FAULTS: readonly (readonly [name: string, most: number])[] = [
  ['http-409-retry-after', 0.06],
  ['http-503', 0.04],
  ['http-504-after-success', 0.06],
  ['http-500', 0.02],
  ['http-502', 0.03],
  ['lost-reply', 0.06],
  ['reset-mid-body', 0.06],
  ['refused', 0.03],
  ['preseed-conflict', 0.1],
  ['power-failure', 0.08],
  ['rack-disconnected', 0.05],
  ['deploy-failed', 0.08],
  ['cloud-init-failed', 0.05],
  ['wrong-machine', 0.1],
  ['double-allocation', 0.05],
  ['slow-bmc=20', 0.1],
  [`slow=${20 * SECOND}`, 0.05],
  ['hang', 0.01],
  ['late-events=60', 0.5],
  ['stale-address', 0.5],
];
/** On the way of one kind of request alone. */
const AIMED: readonly (readonly [name: string, most: number, op: string])[] = [
  // MAAS's own retries take up to 90 s.
  [`lands-late=${90 * SECOND}`, 0.3, 'allocate'],
  [`lands-late=${10 * SECOND}`, 0.3, 'allocate'],
  [`lands-late=${10 * SECOND}`, 0.3, 'release'],
  ['http-504-after-success', 0.3, 'release'],
  ['http-409-retry-after', 0.3, 'release'],
];
/** So many times, then no more: each costs a deadline. */
const RARE: readonly string[] = [
  'deploy-stuck',
  'release-stuck',
  'erase-failed',
  'erase-stuck',
  'machine-dies=30',
  'init-fails',
  'deploy-timeout',
  'image-missing',
  'ip-exhausted',
  'compose-vm=1',
];
/** As long as the run lasts. */
const LASTING: readonly string[] = ['clock-skew=900', 'clock-skew=-900'];

const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z' } as const;

function faultsOf(random: Random): string[] {
  const strength = (most: number) => Math.max(0.005, random.next() * most).toFixed(3);
  return [
    ...FAULTS.filter(() => random.next() < 0.6).map(([name, most]) => `${name}:${strength(most)}`),
    ...AIMED.filter(() => random.next() < 0.3).map(
      ([name, most, op]) => `${name}:${strength(most)}@op=${op}`,
    ),
    ...RARE.filter(() => random.next() < 0.3).map((name) => `${name}:${1 + random.int(2)}`),
    ...(random.next() < 0.2 ? [random.pick(LASTING)] : []),
  ];
}

function clusterOf(index: number, random: Random): ClusterDocument {
  const placement = { resourcePool: 'kubernetes' };
  return wanted({
    id: `cl-${index}`,
    spec: {
      ...clusterSpec({
        pools: [
          { role: 'control-plane', name: 'cp', size: random.pick([1, 1, 1, 1, 3]), placement },
          { role: 'worker', name: 'workers', size: random.pick([0, 1, 1, 2]), placement },
        ],
        policies: { erase: { mode: random.pick(['none', 'none', 'quick', 'secure', 'full']) } },
      }),
      name: `demo-${index}`,
    },
  });
}

/** Machines that are nobody's business of ours. */
function foreigners(site: SimulatedSite): string[] {
  return [...site.simulator.region.machines.values()]
    .filter(({ owner, status }) => owner === 'operator' || (owner === null && status !== 'ready'))
    .map(({ systemId, owner, status, powerState }) => `${systemId} ${owner} ${status} ${powerState}`);
}

/** One life: created, perhaps aborted on the way, else watched until it runs or says why not; then deleted. */
async function live(site: SimulatedSite, cluster: ClusterDocument, random: Random): Promise<string> {
  const options = { cluster: cluster.id, withinMs: END_WITHIN_MS };
  await site.clock.sleep(random.next() * MINUTE);
  await site.want(cluster);
  const aborted = random.next() < 0.3;
  let end = 'aborted';
  if (aborted) await site.clock.sleep(random.next() * random.next() * 20 * MINUTE);
  else {
    const { phase, error } = await site.until('Running, or Failed with a cause', isSettled, options);
    end = phase === 'Failed' ? `Failed ${error?.code}: ${error?.message}` : phase;
  }
  await site.want({ ...cluster, intent: { ...DELETE, reason: aborted ? 'abort' : 'delete' } });
  await site.phase('Deleted', options);
  return end;
}

function isSettled(status: ClusterStatus): boolean {
  return status.phase === 'Running' || (status.phase === 'Failed' && status.error !== undefined);
}

/** Empty lists, or what is wrong. */
export interface Verdict {
  /** Clusters that did not end within the deadline: a defect, or a machine under load. */
  readonly unsettled: readonly string[];
  /** Failed without saying why. */
  readonly uncoded: readonly string[];
  /** Still allocated after every cluster had ended. */
  readonly leaked: readonly unknown[];
  readonly leakedAddresses: readonly unknown[];
  /** Two owners at once, other than by the fault that does just that. */
  readonly doublyAllocated: readonly unknown[];
  /** Two machines installed for one node under one stamp. */
  readonly twins: readonly string[];
  /** Somebody else's machines that are not as they were. */
  readonly touched: readonly string[];
  /** Ran out of replacements although fewer faults struck machines than that takes: the run proves nothing. */
  readonly exhausted: readonly string[];
}

export const CLEAN: Verdict = {
  unsettled: [],
  uncoded: [],
  leaked: [],
  leakedAddresses: [],
  doublyAllocated: [],
  twins: [],
  touched: [],
  exhausted: [],
};

export interface FaultRun {
  /** On the whole simulated Kubernetes. */
  readonly full: boolean;
  readonly faults: readonly string[];
  /** `Running`, `aborted` or `Failed CODE: message`, one for each cluster that ended. */
  readonly ends: readonly string[];
  /** Enough faults struck machines to use up the replacements of a cluster. */
  readonly exhausting: boolean;
  readonly verdict: Verdict;
}

export async function faultRun(seed: number): Promise<FaultRun> {
  const random = seededRandom(seed, 'fault run');
  const faults = faultsOf(random);
  const full = seed % FULL_EVERY === 0;
  await using site = await SimulatedSite.start({
    speed: 1,
    seed,
    faults,
    scenario: defaultScenario({ machines: MACHINES, seed }),
    version: random.pick(['3.5', '3.5', '3.3', '3.4', '3.6', '3.7']),
    timings: {
      claimSettleMs: DEFAULT_TIMINGS.claimSettleMs,
      eraseDeadlineMs: ERASE_DEADLINE_MS,
      ...LOOKS,
    },
    observeMs: MINUTE,
    light: !full,
  });
  const before = foreigners(site);
  const lives = Array.from({ length: CLUSTERS }, (_, index) =>
    live(site, clusterOf(index, random), seededRandom(seed, `life ${index}`)),
  );
  const kills = random.pick([0, 0, 1, 2, 3]);
  const crashes = Array.from({ length: kills }, () =>
    site.clock.sleep(random.next() * random.next() * 30 * MINUTE).then(() => site.crash()),
  );
  if (random.next() < 0.3) {
    const fate = seededRandom(seed, 'kills');
    site.killOnWrites(() => (fate.next() < 0.01 ? fate.pick(['before', 'after'] as const) : undefined));
  }
  const ended = await Promise.allSettled(lives);
  await Promise.all(crashes);
  const ends = ended.flatMap((end) => (end.status === 'fulfilled' ? end.value : []));
  const unsettled = ended.flatMap((end) => (end.status === 'rejected' ? String(end.reason) : []));
  return {
    full,
    faults,
    ends,
    exhausting: isExhausting(site),
    verdict: judge(site, before, ends, unsettled),
  };
}

/** A cluster gives up when one machine more has failed than it may replace. */
function isExhausting(site: SimulatedSite): boolean {
  const onTheWay = faultCatalogue().flatMap(({ where, name }) => (where === 'request' ? name : []));
  const struck = site.simulator.faults
    .rules()
    .reduce((sum, { name, struck: times }) => sum + (onTheWay.includes(name) ? 0 : times), 0);
  return struck > clusterSpec().policies.remediation.maxReplacements;
}

function judge(
  site: SimulatedSite,
  before: readonly string[],
  ends: readonly string[],
  unsettled: readonly string[],
): Verdict {
  const { ledger, faults } = site.simulator;
  const given = faults.rules().filter(({ name }) => name === 'double-allocation');
  const struck = given.reduce((sum, rule) => sum + rule.struck, 0);
  const doubles = ledger.doublyAllocated();
  const installed = new Map<string, Set<string>>();
  // By what the gateway noted: a double allocation puts its own agent name on somebody else's machine.
  for (const { action, annotations, agentName, systemId } of ledger.entries())
    if (action === 'deploy' && systemId !== undefined) {
      const stamp = annotations?.[ANNOTATION.operation] ?? agentName;
      installed.set(stamp, (installed.get(stamp) ?? new Set()).add(systemId));
    }
  return {
    unsettled,
    uncoded: ends.filter((end) => end.startsWith('Failed INTERNAL')),
    leaked: ledger.leaked(),
    leakedAddresses: ledger.leakedAddresses(),
    doublyAllocated: doubles.length > struck ? doubles : [],
    twins: [...installed].flatMap(([name, machines]) =>
      machines.size > 1 ? `${name}: ${[...machines].join(' ')}` : [],
    ),
    touched: foreigners(site).filter((machine) => !before.includes(machine)),
    exhausted: isExhausting(site) ? [] : ends.filter((end) => end.includes('TOO_MANY_FAILED_MACHINES')),
  };
}
