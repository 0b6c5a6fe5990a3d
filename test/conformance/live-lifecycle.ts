/**
 * The recorded life of a machine, repeated on one that this run allocates for itself and gives back whatever
 * happens, even when this process is killed. Everything recorded for it is translated to this machine; no other is touched.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../src/base/clock.ts';
import type { Exchange } from '../support/maas-recordings.ts';
import { exchanges, type Finding } from './drive.ts';
import { giveBack, mark } from './give-back.ts';
import { startGuard } from './guard.ts';
import type { LiveSite } from './live-site.ts';
import type { LiveMachine, Words } from './live-words.ts';

export interface LifecycleOptions {
  readonly clock: Clock;
  /** How long a status may take to come, and an action that waits for a BMC to be answered, milliseconds. */
  readonly patienceMs: number;
  readonly pollMs: number;
  /** System id or hostname; default: the smallest Ready machine that has an image. */
  readonly machine?: string | undefined;
  /**
   * How long, milliseconds, an allocation is looked for that may still be under way. Without it the run ends at once, and
   * the guard looks for `LATE_MS`.
   */
  readonly lateMs?: number | undefined;
}

type Step =
  | { readonly do: 'repeat'; readonly file: string; readonly name: string }
  | { readonly do: 'await'; readonly status: string };

const repeat = (file: string, name: string): Step => ({ do: 'repeat', file, name });
const until = (status: string): Step => ({ do: 'await', status });

/** In this order; the machine is Allocated to us at the start. */
const STEPS: readonly Step[] = [
  repeat('05', 'allocate same system_id again (mine)'),
  repeat('04', 'set_owner_data on Allocated'),
  repeat('04', 'set_owner_data merge+remove'),
  repeat('04', 'set_owner_data multipart'),
  repeat('04', 'set_owner_data JSON (silently ignored?)'),
  repeat('04', 'set_owner_data nothing'),
  repeat('04', 'set_owner_data key with spaces/odd'),
  repeat('04', 'set_owner_data key 300 chars'),
  repeat('04', 'read owner_data back'),
  repeat('07', 'lock from ALLOCATED'),
  repeat('07', 'unlock from ALLOCATED'),
  repeat('07', 'abort from ALLOCATED'),
  repeat('07', 'mark_fixed from ALLOCATED'),
  repeat('07', 'override_failed_testing from ALLOCATED'),
  repeat('07', 'exit_rescue_mode from ALLOCATED'),
  repeat('07', 'get_curtin_config from ALLOCATED'),
  repeat('07', 'set_storage_layout from ALLOCATED'),
  repeat('06', 'deploy: bad series'),
  repeat('06', 'deploy: install_rackd'),
  repeat('06', 'deploy: bridge_fd bad'),
  repeat('06', '2 deploy with user_data, jammy (FULL body)'),
  until('Deploying'),
  repeat('07', 'deploy from DEPLOYING'),
  repeat('07', 'allocate(system_id) from DEPLOYING'),
  repeat('07', 'lock from DEPLOYING'),
  repeat('06', 'release locked'),
  repeat('06', 'lock again'),
  repeat('06', 'unlock'),
  repeat('07', 'abort from DEPLOYING'),
  until('Allocated'),
  repeat('05', 'allocate same system_id again (mine)'),
  repeat('07', 'release from ALLOCATED'),
  until('Ready'),
  repeat('06', 'release Ready machine (no-op)'),
  repeat('06', 'lock a Ready machine'),
  repeat('04', 'set_owner_data on Ready (unowned)'),
];

/** Ids and names that the recordings use for the machine in question. */
const RECORDED_IDS = ['ay7beq', 'bn3wxy', 'ftms8t', 'dfcey6', 'kgw36g'];
const RECORDED_NAMES = ['node-01', 'node-02', 'node-04', 'node-05', 'node-09'];

function find(file: string, name: string): Exchange {
  const exchange = exchanges.find((one) => one.file.startsWith(file) && one.name === name);
  if (!exchange) throw new Error(`no recording "${name}" in ${file}`);
  return exchange;
}

interface Choice {
  readonly machine: LiveMachine;
  /** As deploy takes it. */
  readonly image: string;
}

const REMOTE_POWER = (machine: LiveMachine) => machine.power_type !== '' && machine.power_type !== 'manual';
const size = ({ cpu_count: cpus, memory }: LiveMachine) => cpus + memory / 1024;

/** A machine that may be switched on and off, and what it can install. Throws when there is none. */
function choose({ stock }: LiveSite, wanted: string | undefined): Choice {
  const asked = stock.ready.filter(
    ({ system_id: id, hostname }) => wanted === undefined || id === wanted || hostname === wanted,
  );
  if (asked.length === 0)
    throw new Error(
      wanted === undefined ? 'this MAAS has no Ready machine' : `${wanted} is not Ready in this MAAS`,
    );
  const fitting = asked
    .flatMap((machine): Choice[] => {
      const [architecture] = machine.architecture.split('/');
      const images = stock.images
        .filter(
          ({ name, architecture: of }) => name.startsWith('ubuntu/') && of.split('/')[0] === architecture,
        )
        .map(({ name }) => name);
      const image = images.includes('ubuntu/jammy') ? 'ubuntu/jammy' : images[0];
      return image === undefined || machine.locked || !REMOTE_POWER(machine) ? [] : [{ machine, image }];
    })
    .sort((a, b) => size(a.machine) - size(b.machine));
  if (fitting[0]) return fitting[0];
  const reasons = asked.slice(0, 10).map(({ hostname, architecture, locked, power_type: power }) => {
    const why = locked
      ? 'locked'
      : power === '' || power === 'manual'
        ? 'no BMC'
        : `no Ubuntu for ${architecture}`;
    return `${hostname}: ${why}`;
  });
  throw new Error(`no Ready machine can be deployed for this: ${reasons.join('; ')}`);
}

/** undefined: MAAS does not say it now. */
async function statusOf({ call }: LiveSite, id: string): Promise<string | undefined> {
  try {
    const { status, json } = await call('GET', `machines/${id}/`);
    return status === 200 ? json.status_name : undefined;
  } catch {
    return undefined; // a lost answer: whoever waits asks again
  }
}

/** MAAS carries out an allocate up to this long after the connection that asked for it is gone, milliseconds. */
const LATE_MS = 100_000;

/** Where a deployment ends that went wrong: waiting longer is in vain. */
const DEAD_ENDS = new Set([
  'Failed deployment',
  'Releasing failed',
  'Failed disk erasing',
  'Broken',
  'Deployed',
]);

export async function driveLifecycle(site: LiveSite, options: LifecycleOptions): Promise<Finding[]> {
  const { clock, patienceMs, pollMs } = options;
  const { call, door } = site;
  const erases = await call('GET', 'maas/?op=get_config&name=enable_disk_erasing_on_release');
  if (erases.json === true)
    throw new Error(
      'this MAAS erases disks at every release (enable_disk_erasing_on_release): that takes hours',
    );
  const { machine, image } = choose(site, options.machine);
  const { system_id: id, hostname } = machine;
  const agentName = `pcg-conformance-${randomUUID()}`;
  const words: Words = [
    ...RECORDED_IDS.map((recorded) => [recorded, id] as const),
    ...RECORDED_NAMES.map((recorded) => [recorded, hostname] as const),
    ['distro_series=jammy', `distro_series=${encodeURIComponent(image)}`],
  ];
  const findings: Finding[] = [];
  const statusIs = async (status: string): Promise<void> => {
    // An accepted deploy is Deploying at once; what was refused never will be.
    const deadline = clock.monotonic() + (status === 'Deploying' ? patienceMs / 10 : patienceMs);
    for (let now = 'not read yet'; ; await clock.sleep(pollMs)) {
      now = (await statusOf(site, id)) ?? now;
      if (now === status) return;
      if (DEAD_ENDS.has(now) || clock.monotonic() > deadline)
        throw new Error(`${hostname} (${id}) is ${now}, not ${status}`);
    }
  };
  const done = await startGuard({
    maasUrl: door.maasUrl,
    apiKey: site.apiKey,
    username: door.username,
    agentName,
    skewMs: door.skewMs,
    withinMs: 2 * patienceMs, // it may find a machine that has just begun to install itself
    lookMs: Math.min(options.lateMs ?? LATE_MS, 2 * patienceMs),
  });
  const failures: unknown[] = [];
  let known: string | undefined;
  /** MAAS may still carry out an allocate whose answer was lost: the guard looks for it after our end. */
  let unanswered = true;
  try {
    const form = { system_id: id, agent_name: agentName, comment: 'conformance run of pcg' };
    const taken = await call('POST', 'machines/?op=allocate', form);
    unanswered = taken.status >= 500;
    if (taken.status !== 200) throw new Error(`allocate: ${taken.status} ${taken.text.slice(0, 200)}`);
    known = id;
    await mark(call, id, agentName);
    for (const step of STEPS)
      if (step.do === 'await') await statusIs(step.status);
      else findings.push(await site.repeat(find(step.file, step.name), words, patienceMs));
  } catch (error) {
    failures.push(error);
  }
  try {
    const lookMs = unanswered ? (options.lateMs ?? 0) : 0;
    await giveBack(door, agentName, { clock, pollMs, withinMs: patienceMs, lookMs, known });
    if (!unanswered || options.lateMs !== undefined) await done();
  } catch (error) {
    failures.push(error); // the guard goes on when this process ends
  }
  if (failures.length === 0) return findings;
  const differing = findings.filter(({ differences }) => differences.length > 0);
  throw new AggregateError(
    failures,
    `${failures.map((failure) => (failure instanceof Error ? failure.message : String(failure))).join('; ')}; ` +
      `differing until then: ${JSON.stringify(differing)}`,
  );
}
