/** `events/?op=query`: the tail that clients follow. */
import type { Call, Handler } from '../call.ts';
import { integer } from '../call.ts';
import { LEVELS, type Level, type LoggedEvent } from '../events.ts';
import { json, raisedText } from '../reply.ts';
import { API, proseTime } from '../render.ts';
import type { Resource } from '../router.ts';

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1000;

const isLevel = (text: string): text is Level => Object.hasOwn(LEVELS, text);

/** Which machines the filters select; undefined when no filter looks at machines. */
function wantedNodes({ region, query }: Call): ReadonlySet<string> | undefined {
  const tests: [string, (systemId: string, value: string) => boolean][] = [
    ['id', (systemId, value) => systemId === value],
    ['hostname', (systemId, value) => region.machines.get(systemId)?.hostname === value],
    [
      'mac_address',
      (systemId, value) => region.machines.get(systemId)?.nics.some((nic) => nic.mac === value) ?? false,
    ],
    ['zone', (systemId, value) => region.zone(region.machines.get(systemId)?.zoneId ?? -1).name === value],
    ['pool', (systemId, value) => region.pool(region.machines.get(systemId)?.poolId ?? -1).name === value],
    [
      'domain',
      (systemId, value) => region.domain(region.machines.get(systemId)?.domainId ?? -1).name === value,
    ],
    ['agent_name', (systemId, value) => region.machines.get(systemId)?.agentName === value],
  ];
  const used = tests.filter(([key]) => query.has(key));
  if (used.length === 0) return undefined;
  return new Set(
    [...region.machines.keys()].filter((systemId) =>
      used.every(([key, test]) => query.all(key).some((value) => test(systemId, value))),
    ),
  );
}

/** The query repeated with another page; parameters keep their order, before and after go last. */
function pageUri(call: Call, page: string | undefined): string {
  const kept = call.query
    .entries()
    .filter(([key]) => key !== 'before' && key !== 'after')
    .flatMap(([key, values]) => values.map((value) => `${key}=${encodeURIComponent(value)}`));
  return `${API}/events/?${[...kept, ...(page ? [page] : [])].join('&')}`;
}

const renderEvent = (event: LoggedEvent) => ({
  username: event.username,
  node: event.systemId,
  hostname: event.hostname,
  id: event.id,
  level: event.level,
  created: proseTime(event.at),
  type: event.type,
  description: event.description,
});

const query: Handler = (call) => {
  const { region } = call;
  const level = call.query.get('level') ?? 'INFO';
  const limit = integer(call.query, 'limit', LIMIT_DEFAULT);
  const before = call.query.has('before') ? integer(call.query, 'before', 0) : undefined;
  const after = call.query.has('after') ? integer(call.query, 'after', 0) : undefined;
  if (before !== undefined && after !== undefined)
    throw raisedText(400, 'There is undetermined behaviour when both `after` and `before` are specified.');
  if (limit > LIMIT_MAX)
    throw raisedText(400, `Requested number of events ${limit} is greater than limit: ${LIMIT_MAX}`);
  if (!isLevel(level)) throw raisedText(400, `Unrecognised log level: ${level}`);
  const nodes = wantedNodes(call);
  const owner = call.query.get('owner');
  const events = region.events.query({
    level,
    limit: Math.max(1, limit),
    before,
    after,
    matches: (event) =>
      (!nodes || nodes.has(event.systemId)) && (owner === undefined || event.username === owner),
  });
  const newest = events[0]?.id;
  const oldest = events.at(-1)?.id;
  const next =
    newest !== undefined ? `after=${newest}` : before !== undefined ? `after=${before - 1}` : undefined;
  const prev =
    oldest !== undefined ? `before=${oldest}` : after !== undefined ? `before=${after + 1}` : undefined;
  return json({
    count: events.length,
    events: events.map(renderEvent),
    next_uri: pageUri(call, next),
    prev_uri: prev === undefined ? null : pageUri(call, prev),
  });
};

export const eventsResource: Resource = { path: /^events\/$/, name: 'events', get: { query } };
