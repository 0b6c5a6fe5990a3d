/**
 * The recorded rows that sum up many requests sent at once: as many are sent to the simulator, which must answer with
 * the same statuses as often, and refuse in the same words. Only how long it took is not compared.
 */
import { describe, expect, it } from 'vitest';
import type { MachineSeed, Scenario } from '../../src/simulator/scenario.ts';
import { type Simulator, startSimulator } from '../../src/simulator/simulator.ts';
import { type Called, type Caller, maasCaller, sideBySide } from '../support/maas-caller.ts';
import type { Exchange } from '../support/maas-recordings.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { exchanges } from './drive.ts';
import { recordedSite } from './recorded-site.ts';

interface Outcome {
  readonly n: number;
  readonly statuses: Readonly<Record<string, number>>;
  /** By `status text`, cut after 160 characters. */
  readonly error_bodies: Readonly<Record<string, number>>;
}

interface Site {
  readonly clock: ManualClock;
  readonly simulator: Simulator;
  readonly call: Caller;
  readonly ids: readonly string[];
}

type Ask = readonly [method: 'GET' | 'POST' | 'PUT', path: string, form?: Readonly<Record<string, string>>];

interface Row {
  readonly name: string;
  /** The request number `index`, when it is not the recorded one over and over. */
  readonly ask?: (index: number, ids: readonly string[]) => Ask;
  readonly faults?: readonly string[];
  readonly deployed?: boolean;
  readonly before?: Ask;
}

/** Thirteen were Ready. All like the first one, so that all can be deployed. */
const MACHINES = 13;

function site(): Scenario {
  const [first, second] = recordedSite.machines;
  if (!first || !second) throw new Error('the recorded site has no machines');
  const { systemId: _systemId, ...like } = first;
  const nics = first.nics.map(({ mac: _mac, ...nic }) => nic);
  const more = Array.from(
    { length: MACHINES - 2 },
    (_, index): MachineSeed => ({ ...like, nics, hostname: `like-${index}` }),
  );
  return { ...recordedSite, machines: [first, { ...like, ...second, disks: first.disks }, ...more] };
}

const each =
  (op: string, form?: Readonly<Record<string, string>>) =>
  (index: number, ids: readonly string[]): Ask => ['POST', `machines/${ids[index]}/?op=${op}`, form ?? {}];
const deploys = each('deploy', { distro_series: 'jammy' });
const releases = each('release');

const ROWS: readonly Row[] = [
  { name: '2 clients allocate the same name' },
  { name: '2 clients allocate, no constraints' },
  { name: '30 parallel allocates, 13 Ready machines' },
  {
    name: '8 parallel deploys, the first deploys ever on this installation',
    ask: deploys,
    faults: ['preseed-conflict:7'],
  },
  { name: 'release all 1', ask: releases, deployed: true },
  ...[1, 2, 3].flatMap((pass): Row[] => [
    { name: `8 parallel deploys (fast BMC), pass ${pass}`, ask: deploys },
    { name: `8 parallel releases, pass ${pass}`, ask: releases, deployed: true },
  ]),
  { name: 'deploy the same machine from 4 clients' },
  { name: 'release the same machine from 4 clients', deployed: true },
  {
    name: 'set_owner_data x8 different keys, same machine',
    ask: (index, [id]) => ['POST', `machines/${id}/?op=set_owner_data`, { [`k${index}`]: String(index) }],
    deployed: true,
  },
  {
    name: 'set_owner_data x8 same key, same machine',
    ask: (index, [id]) => ['POST', `machines/${id}/?op=set_owner_data`, { k: String(index) }],
    deployed: true,
  },
  {
    name: 'PUT description x8 same machine',
    ask: (index, [id]) => ['PUT', `machines/${id}/`, { description: String(index) }],
  },
  {
    name: 'tag update_nodes x8 same tag, different nodes',
    ask: (index, ids) => ['POST', 'tags/ct/?op=update_nodes', { add: ids[index] ?? '' }],
    before: ['POST', 'tags/', { name: 'ct' }],
  },
  { name: 'tag create same name x4' },
  { name: 'zone create same name x4' },
  { name: 'dnsresource create same fqdn x4' },
  {
    name: 'dnsresource create different fqdn x8',
    ask: (index) => [
      'POST',
      'dnsresources/',
      { fqdn: `cdns${index}.pcg.internal`, ip_addresses: `10.10.0.${160 + index}` },
    ],
  },
  { name: 'ip reserve x8 same subnet' },
  { name: 'ip reserve x4 same ip' },
  { name: 'whoami x64 distinct nonces, 32 connections' },
  { name: 'machine read x32, 16 connections' },
  { name: 'machines list x8' },
  {
    name: '6 lists + 2 allocates(dry_run)',
    ask: (index) =>
      index < 6 ? ['GET', 'machines/'] : ['POST', 'machines/?op=allocate', { dry_run: 'true' }],
  },
  { name: '11 parallel deploys with a 10 s BMC', ask: each('deploy'), faults: ['slow-bmc=7'] },
  {
    name: '11 releases + 15 query_power_state with a 10 s BMC (16 request slots)',
    ask: (index, ids) =>
      index < 11
        ? releases(index, ids)
        : ['GET', `machines/${ids[index % ids.length]}/?op=query_power_state`],
    faults: ['slow-bmc=7'],
    deployed: true,
  },
];

/** Rows that are not repeated here, with the reason. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  'same nonce x4':
    'How many of four pass is a race of worker processes; the simulator is one process and lets one pass. The client ' +
    'never repeats a nonce (credentials.test.ts).',
};

const rows = exchanges.filter(({ file }) => file.startsWith('08'));

function recorded(name: string): { readonly ask: Ask; readonly outcome: Outcome } {
  const row = rows.find((one) => one.name === name);
  if (!row) throw new Error(`no recording named ${name}`);
  const { method, path, query, body } = row.request as Exchange['request'] & { method: Ask[0] };
  const form = JSON.parse(typeof body === 'string' ? body : 'null') as Record<string, string> | null;
  const place = `${path?.replace('/MAAS/api/2.0/', '')}${query ? `?${query}` : ''}`;
  return {
    ask: form ? [method, place, form] : [method, place],
    outcome: row.response.body_summary as Outcome,
  };
}

async function start({ faults = [], deployed = false, before }: Row): Promise<Site & AsyncDisposable> {
  const clock = new ManualClock(Date.now());
  const simulator = await startSimulator({ scenario: site(), speed: 200, faults, clock });
  const call = maasCaller(simulator.maasUrl, simulator.adminKey, () => clock.now());
  const ids = [...simulator.region.machines.keys()];
  const state = { status: 'deployed', owner: 'admin', power: 'on', addressed: true };
  if (deployed)
    for (const id of ids)
      await fetch(new URL(`/simulator/machines/${id}/force`, simulator.maasUrl), {
        method: 'POST',
        body: JSON.stringify(state),
      });
  if (before) await call(...before);
  return { clock, simulator, call, ids, [Symbol.asyncDispose]: () => simulator[Symbol.asyncDispose]() };
}

/** What a recorded refusal begins with: a conflict of a database names its own tables, JSON is written otherwise. */
function words(text: string): string {
  if (text.startsWith('Failed to render preseed:')) return 'Failed to render preseed:';
  return text
    .replace(/\s+/g, ' ')
    .replaceAll('{ ', '{')
    .replaceAll(' }', '}')
    .replaceAll('[ ', '[')
    .replaceAll(' ]', ']')
    .slice(0, 150);
}

function count(texts: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const text of texts) counts[text] = (counts[text] ?? 0) + 1;
  return counts;
}

const refusals = (answers: readonly Called[]): Record<string, number> =>
  count(answers.filter(({ status }) => status >= 400).map(({ status, text }) => `${status} ${words(text)}`));

describe('many requests at once', () => {
  it.each(ROWS)('$name: as many succeed, the others are refused alike', async (row) => {
    const { ask, outcome } = recorded(row.name);
    await using running = await start(row);
    const answers = await sideBySide(
      running,
      Array.from({ length: outcome.n }, (_, index) =>
        running.call(...(row.ask ? row.ask(index, running.ids) : ask)),
      ),
    );
    const statuses = count(answers.map(({ status }) => String(status)));
    expect(statuses, answers.map(({ text }) => text.slice(0, 200)).join('\n')).toEqual(outcome.statuses);
    const before = Object.entries(outcome.error_bodies).map(([text, times]) => {
      const [status, ...rest] = text.split(' ');
      return [`${status} ${words(rest.join(' '))}`, times];
    });
    expect(refusals(answers)).toEqual(Object.fromEntries(before));
    expect(running.simulator.ledger.doublyAllocated()).toEqual([]);
  });

  it('none of the recorded rows is forgotten', () => {
    const known = [...ROWS.map(({ name }) => name), ...Object.keys(LEFT_OUT)];
    expect(known.toSorted()).toEqual(rows.map(({ name }) => name).toSorted());
  });
});
