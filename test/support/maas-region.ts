/**
 * A tiny region for the observer's tests: machines in a map, an event log with ids, and knobs for lies and
 * outages. It answers the calls that an observer may make and counts them; anything else is a 404.
 */
import { statusFromNumber } from '../../src/maas/status.ts';
import { json, type Script, type Seen, serveScript, text, wireMachine } from './maas-wire.ts';

export interface RegionEvent {
  readonly id: number;
  readonly node: string;
  readonly level: string;
  readonly type: string;
  readonly description?: string;
}

const LEVELS = ['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'];

export interface TinyRegion extends AsyncDisposable {
  readonly origin: string;
  readonly machines: Map<string, number>;
  readonly events: RegionEvent[];
  readonly seen: Seen[];
  /** Machines that lists have answered with: each is 30 KB and 30 ms on a real one. */
  listed: number;
  /** Machines left out of lists although they exist. */
  readonly hiddenFromLists: Set<string>;
  down: boolean;
  /** Machine -> address in 10.0.0.0/24 that MAAS keeps for it as long as it exists. */
  readonly addresses: Map<string, string>;
  refuseSubnets: boolean;
  /** Runs before a list is answered, after its content was decided. */
  beforeListAnswer: (() => Promise<void>) | undefined;
  /** Runs before an events query is answered. */
  beforeEventsAnswer: (() => void) | undefined;
  /** Sets the status and logs the event that MAAS logs for it; the status's name is `S<number>`. */
  move(systemId: string, status: number): void;
  log(node: string, level: string, type: string, id?: number): void;
  count(path: string, op?: string): number;
}

export async function tinyRegion(): Promise<TinyRegion> {
  const machines = new Map<string, number>();
  const events: RegionEvent[] = [];
  const addresses = new Map<string, string>();
  let lastId = 1000;
  const script: Script = await serveScript(async (seen, out) => {
    if (region.down) return void out.destroy();
    if (seen.path === 'users/') return json(out, { username: 'pcg', is_superuser: false });
    if (seen.path === 'events/') region.beforeEventsAnswer?.();
    if (seen.path === 'events/') return json(out, { count: 0, events: query(seen.query) });
    if (seen.path === 'machines/') {
      const ids = seen.query.getAll('id');
      if (ids.length === 0) return text(out, 400, 'an observer never lists the fleet');
      const statuses = seen.query.getAll('status');
      const found = ids
        .filter((id) => machines.has(id) && !region.hiddenFromLists.has(id))
        .filter((id) => statuses.length === 0 || statuses.includes(statusFromNumber(machines.get(id) ?? 0)))
        .map((id) => wire(id, machines.get(id) ?? 0));
      region.listed += found.length;
      await region.beforeListAnswer?.();
      return json(out, found);
    }
    if (seen.path === 'subnets/') return json(out, [{ id: 7, name: 'net', cidr: '10.0.0.0/24' }]);
    if (seen.path === 'subnets/7/' && region.refuseSubnets) return text(out, 403, '');
    if (seen.path === 'subnets/7/' && seen.query.get('op') === 'ip_addresses')
      return json(
        out,
        [...addresses].flatMap(([id, ip]) => (machines.has(id) ? { ip, alloc_type: 0 } : [])),
      );
    const id = /^machines\/([a-z0-9]+)\/$/.exec(seen.path)?.[1] ?? '';
    const status = machines.get(id);
    return status === undefined
      ? text(out, 404, 'No Machine matches the given query.')
      : json(out, wire(id, status));
  });

  function wire(id: string, status: number): Record<string, unknown> {
    const ip = addresses.get(id);
    const links = ip === undefined ? [] : [{ mode: 'auto', ip_address: ip, subnet: { cidr: '10.0.0.0/24' } }];
    const nic = { name: 'eno1', mac_address: '52:54:00:00:00:01', links };
    return wireMachine(id, status, { status_name: `S${status}`, interface_set: [nic] });
  }

  /** As MAAS: newest first; `after` gives the oldest page beyond an id. */
  function query(params: URLSearchParams): RegionEvent[] {
    const level = LEVELS.indexOf(params.get('level') ?? 'INFO');
    const ids = params.getAll('id');
    const limit = Number(params.get('limit') ?? '100');
    const fitting = events
      .filter(
        (event) => LEVELS.indexOf(event.level) >= level && (ids.length === 0 || ids.includes(event.node)),
      )
      .sort((a, b) => a.id - b.id);
    const after = params.get('after');
    const page =
      after === null
        ? fitting.slice(-limit)
        : fitting.filter((event) => event.id > Number(after)).slice(0, limit);
    return page.toReversed();
  }

  const region: TinyRegion = {
    origin: script.origin,
    machines,
    events,
    seen: script.seen,
    listed: 0,
    hiddenFromLists: new Set(),
    down: false,
    addresses,
    refuseSubnets: false,
    beforeListAnswer: undefined,
    beforeEventsAnswer: undefined,
    move(systemId, status) {
      const before = machines.get(systemId);
      machines.set(systemId, status);
      const description = `From 'S${before}' to 'S${status}'`;
      events.push({ id: ++lastId, node: systemId, level: 'DEBUG', type: 'Node changed status', description });
    },
    log(node, level, type, id) {
      events.push({ id: id ?? ++lastId, node, level, type });
    },
    count: (path, op) =>
      script.seen.filter((seen) => seen.path === path && (op === undefined || seen.query.get('op') === op))
        .length,
    [Symbol.asyncDispose]: () => script[Symbol.asyncDispose](),
  };
  return region;
}
