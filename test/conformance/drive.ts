/** Drives recorded exchanges against a simulator and collects what differs. */
import { startSimulator, type Simulator } from '../../src/simulator/simulator.ts';
import { type Exchange, loadRecordings } from '../support/maas-recordings.ts';
import { compare, type Difference } from './compare.ts';
import { type Preconditions, preconditionsOf } from './preconditions.ts';
import { exchangeRaw, type RawResponse } from './raw-http.ts';
import { recordedSite } from './recorded-site.ts';
import { type ApiKey, buildRequest } from './request.ts';
import { stillClock } from './still-clock.ts';

export interface Finding {
  readonly file: string;
  readonly name: string;
  readonly differences: readonly Difference[];
}

/** Recorded rows that hold a measurement or a summary of many requests, not an exchange. */
export function isExchange({ request, response }: Exchange): boolean {
  return (
    request.method !== null &&
    response.status !== null &&
    (response.headers.length > 0 || response.status === 100)
  );
}

export const exchanges: readonly Exchange[] = loadRecordings();

/**
 * Exchanges that build on each other share a site; the others get one of their own. Inside 04 two stretches
 * create, change and delete one machine.
 */
export function sessions(file: string): Exchange[][] {
  const mine = exchanges.filter((exchange) => exchange.file.startsWith(file) && isExchange(exchange));
  if (['01', '02', '03'].includes(file)) return [mine];
  const sequence = (exchange: Exchange) =>
    file === '04' && /^(machine create|update |delete New|delete again|read deleted)/.test(exchange.name);
  const together = mine.filter(sequence);
  const alone = mine.filter((exchange) => !sequence(exchange)).map((exchange) => [exchange]);
  return together.length > 0 ? [...alone, together] : alone;
}

async function post(base: URL, path: string, body: unknown, method = 'POST'): Promise<void> {
  const response = await fetch(new URL(path, base), {
    method,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}

async function establish(base: URL, wanted: Preconditions): Promise<void> {
  for (const [systemId, state] of wanted.machines)
    await post(base, `/simulator/machines/${systemId}/force`, state);
  if (wanted.faults.length > 0) await post(base, '/simulator/faults', wanted.faults);
  for (const [name, value] of Object.entries(wanted.config))
    await post(base, `/simulator/config/${name}`, value);
  if (wanted.disabledUser) await post(base, `/simulator/users/${wanted.disabledUser}/disable`, '');
}

async function undo(base: URL, wanted: Preconditions): Promise<void> {
  if (wanted.faults.length > 0) await post(base, '/simulator/faults', '', 'DELETE');
  if (wanted.disabledUser) await post(base, `/simulator/users/${wanted.disabledUser}/enable`, '');
}

function keysOf(simulator: Simulator): Record<string, ApiKey> {
  const keys: Record<string, ApiKey> = {};
  for (const { username, consumer, key, secret } of simulator.region.tokens)
    keys[username] ??= { consumer, key, secret };
  return keys;
}

/** Remembers where created things live today. */
function learn(exchange: Exchange, today: RawResponse, paths: Map<string, string>): void {
  const uri = (text: string): string | undefined =>
    /"resource_uri": "(\/MAAS\/api\/2\.0\/[^"]+)"\s*}\s*$/.exec(text)?.[1];
  if (exchange.request.method !== 'POST' || today.status >= 300) return;
  const machineId = (text: string) => /"system_id": "([a-z0-9]{6})"/.exec(text)?.[1];
  const recorded = exchange.response.body ?? '';
  const now = today.body.toString('utf8');
  if (exchange.name.startsWith('machine create')) {
    paths.set(
      `/MAAS/api/2.0/machines/${machineId(recorded) ?? ''}/`,
      `/MAAS/api/2.0/machines/${machineId(now) ?? ''}/`,
    );
    return;
  }
  const [before, after] = [uri(recorded), uri(now)];
  if (before && after) paths.set(before, after);
}

/** "status after: READY, owner None, power off" of the matrix. */
async function afterwards(simulator: Simulator, exchange: Exchange): Promise<Difference[]> {
  const match = /status after: ([A-Z_]+), owner (\w+), power (\w+)/.exec(exchange.note ?? '');
  if (!match) return [];
  const systemId = 'ftms8t';
  const machine = simulator.region.machines.get(systemId);
  const now = `${machine?.status.toUpperCase()}, owner ${machine?.owner ?? 'None'}, power ${machine?.powerState}`;
  const recorded = `${match[1]}, owner ${match[2]}, power ${match[3]}`;
  return now === recorded ? [] : [{ aspect: 'afterwards', detail: `${recorded} became ${now}` }];
}

const ABOUT_NONCES = /nonce|\.\.\. then reused/;

async function driveSession(session: readonly Exchange[]): Promise<Finding[]> {
  await using simulator = await startSimulator({ scenario: recordedSite, clock: stillClock });
  const base = new URL(simulator.maasUrl);
  const paths = new Map<string, string>();
  const findings: Finding[] = [];
  const keys = keysOf(simulator);
  for (const exchange of session) {
    const wanted = preconditionsOf(exchange);
    await establish(base, wanted);
    const newest = simulator.region.tokens.find((token) => token.name === 'gateway');
    if (newest) keys['new'] = { ...newest };
    const request = buildRequest(exchange, {
      base,
      keys,
      paths,
      nowS: Math.floor(Date.now() / 1000),
      keepNonces: ABOUT_NONCES.test(exchange.name) ? '' : undefined,
    });
    const today = await exchangeRaw(base, request, { headOnly: exchange.request.method === 'HEAD' });
    await new Promise((resolve) => setImmediate(resolve));
    learn(exchange, today, paths);
    const secrets = keys['admin']?.secret ?? '';
    const masked = { ...today, body: mask(today.body, secrets, keys['admin']) };
    const differences = [
      ...compare(withTodaysIds(exchange, paths), masked),
      ...(await afterwards(simulator, exchange)),
    ];
    await undo(base, wanted);
    findings.push({ file: exchange.file, name: exchange.name, differences });
  }
  return findings;
}

/** Machines that the session created have another id today. */
function withTodaysIds(exchange: Exchange, paths: ReadonlyMap<string, string>): Exchange {
  let body = exchange.response.body;
  for (const [recorded, now] of paths) {
    const [before, after] = [recorded, now].map((path) => /machines\/([a-z0-9]{6})\//.exec(path)?.[1]);
    if (before && after) body = body?.replaceAll(before, after) ?? null;
  }
  return { ...exchange, response: { ...exchange.response, body } };
}

/** As the recordings mask them. */
function mask(body: Buffer, secret: string, key: ApiKey | undefined): Buffer {
  if (!body.includes('Authorization Error')) return body;
  let text = body.toString('utf8').replaceAll(secret, '<secret>');
  if (key) text = text.replaceAll(key.consumer, '<consumer>').replaceAll(key.key, '<token>');
  return Buffer.from(text);
}

export async function drive(file: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const session of sessions(file)) findings.push(...(await driveSession(session)));
  return findings;
}
