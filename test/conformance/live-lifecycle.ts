/**
 * The recorded life of a machine, repeated on one that this run allocates for itself and gives back whatever
 * happens. Everything recorded for it is translated to this machine; no other is touched.
 */
import type { Clock } from '../../src/base/clock.ts';
import type { Exchange } from '../support/maas-recordings.ts';
import { exchanges, type Finding } from './drive.ts';
import type { LiveSite } from './live-site.ts';

export interface LifecycleOptions {
  readonly clock: Clock;
  /** How long a status may take to come, milliseconds. */
  readonly patienceMs: number;
  readonly pollMs: number;
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

export async function driveLifecycle(site: LiveSite, options: LifecycleOptions): Promise<Finding[]> {
  const { clock } = options;
  const agentName = `pcg-conformance-${Date.now().toString(36)}`;
  const taken = await site.call('POST', 'machines/?op=allocate', { agent_name: agentName });
  if (taken.status !== 200) throw new Error(`allocate: ${taken.status} ${taken.text.slice(0, 200)}`);
  const id: string = taken.json.system_id;
  const words = [
    ...RECORDED_IDS.map((recorded): [string, string] => [recorded, id]),
    ...RECORDED_NAMES.map((recorded): [string, string] => [recorded, taken.json.hostname]),
  ];
  const findings: Finding[] = [];
  const statusIs = async (status: string): Promise<void> => {
    const deadline = clock.monotonic() + options.patienceMs;
    for (;;) {
      const { json } = await site.call('GET', `machines/${id}/`);
      if (json.status_name === status) return;
      if (clock.monotonic() > deadline) throw new Error(`${id} is ${json.status_name}, not ${status}`);
      await clock.sleep(options.pollMs);
    }
  };
  try {
    for (const step of STEPS)
      if (step.do === 'await') await statusIs(step.status);
      else findings.push(await site.repeat(find(step.file, step.name), words));
    return findings;
  } finally {
    await site.call('POST', `machines/${id}/?op=unlock`);
    await site.call('POST', `machines/${id}/?op=release`, { comment: 'end of the conformance run' });
    await statusIs('Ready');
  }
}
