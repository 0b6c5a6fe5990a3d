/**
 * Every recorded exchange that the client can issue is understood, success and error. For each recording the
 * call that would issue it is found, made against a double that answers with the recorded status, headers
 * and body, and its outcome is compared with what the table below (from status and content type alone)
 * demands. What the client can never issue is counted by reason; the counts are part of the test.
 */
import { isIP } from 'node:net';
import { type DefaultBodyType, http, HttpResponse } from 'msw';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import type { MachineFilter, MaasClient } from '../../src/maas/client.ts';
import type { MaasRestClient } from '../../src/maas/rest-client.ts';
import { STATUS_NAMES } from '../../src/maas/status.ts';
import { type Exchange, loadRecordings, replayable } from '../support/maas-recordings.ts';
import { clientOf, never, type Seen, serveHandlers, type Wire, wireMachine } from '../support/maas-wire.ts';

const API = '/MAAS/api/2.0/';

/** Headers that a client can learn from; the others belong to the connection. */
const REPLAYED_HEADERS = new Set([
  'content-type',
  'retry-after',
  'location',
  'www-authenticate',
  'x-maas-api-hash',
  'x-frame-options',
]);

type Asked = Pick<Seen, 'method' | 'path' | 'query'>;

function seenOf(request: Request): Asked {
  const url = new URL(request.url);
  return { method: request.method, path: url.pathname.replace(API, ''), query: url.searchParams };
}

interface Replay {
  /** Name of the client's call. */
  readonly call: string;
  readonly make: (client: MaasRestClient) => Promise<unknown>;
  /** The request that carries the recorded answer; others are the client's own looking around. */
  readonly isIt: (seen: Asked) => boolean;
}
type Mapped =
  | { readonly kind: 'replay'; readonly replay: Replay }
  | { readonly kind: 'not-applicable'; readonly why: string };

const no = (why: string): Mapped => ({ kind: 'not-applicable', why });

/** The call that would issue the recorded request. */
function mapped(exchange: Exchange): Mapped {
  const { method, path, content_type: contentType } = exchange.request;
  if (method === null || path === null) return no('a measurement over many calls');
  if (exchange.response.status === null) return no('a summary of parallel or aborted calls');
  if (!['GET', 'POST', 'PUT', 'DELETE'].includes(method)) return no('method that the client never uses');
  if (!path.startsWith(API) || path.slice(API.length).includes('..'))
    return no('address outside the region API');
  if (exchange.request.body !== null && typeof exchange.request.body !== 'string')
    return no('a summary of parallel or aborted calls');
  if (exchange.name === 'pipelined two GETs') return no('two answers on one connection');
  const rest = path.slice(API.length);
  if (rest !== '' && !rest.endsWith('/')) return no('address without its trailing slash');
  if (contentType !== null && !contentType.startsWith('application/x-www-form-urlencoded')) {
    return no('body that is not a form');
  }
  const query = new URLSearchParams(exchange.request.query ?? '');
  const form = new URLSearchParams((exchange.request.body as string | null) ?? '');
  const op = query.get('op');
  const keys = [...query.keys()].filter((key) => key !== 'op');
  const formKeys = [...form.keys()];
  const only = (given: readonly string[], allowed: readonly string[]) =>
    given.every((key) => allowed.includes(key));
  const as = (call: string, make: Replay['make']): Mapped => ({
    kind: 'replay',
    replay: {
      call,
      make,
      isIt: (seen) =>
        seen.method === method && seen.path === rest && (seen.query.get('op') ?? null) === aliasOf(op),
    },
  });
  const option = () => no('option, filter or constraint that the client never sends');
  const unused = () => no('resource or operation that the product does not use');

  const machine = /^(?:machines)\/([a-z0-9]{6})\/$/.exec(rest)?.[1];
  if (machine !== undefined) {
    if (method === 'GET' && op === null) {
      return keys.length === 0 ? as('machines.get', (c) => c.machines.get(machine, never())) : option();
    }
    if (method === 'GET' && op === 'query_power_state') {
      return as('machines.queryPower', (c) => c.machines.queryPower(machine, never()));
    }
    if (method !== 'POST') return unused();
    switch (op) {
      case 'deploy': {
        if (!only(formKeys, ['distro_series', 'user_data', 'hwe_kernel', 'comment'])) return option();
        const hweKernel = form.get('hwe_kernel');
        const request = {
          image: form.get('distro_series') ?? 'jammy',
          userData: Buffer.from(form.get('user_data') ?? '', 'base64').toString(),
          ...(hweKernel === null ? {} : { hweKernel }),
        };
        return as('machines.deploy', (c) => c.machines.deploy(machine, request, never()));
      }
      case 'release': {
        if (!only(formKeys, ['comment', 'erase', 'quick_erase', 'secure_erase'])) return option();
        const erase = form.get('quick_erase')
          ? 'quick'
          : form.get('secure_erase')
            ? 'secure'
            : form.get('erase')
              ? 'full'
              : 'none';
        return as('machines.release', (c) => c.machines.release(machine, { erase, comment: '' }, never()));
      }
      case 'abort':
        return as('machines.abort', (c) => c.machines.abort(machine, '', never()));
      case 'power_on':
        return as('machines.powerOn', (c) => c.machines.powerOn(machine, never()));
      case 'power_off':
        return as('machines.powerOff', (c) => c.machines.powerOff(machine, 'hard', never()));
      case 'mark_broken':
        return as('machines.markBroken', (c) => c.machines.markBroken(machine, '', never()));
      case 'set_owner_data':
      case 'set_workload_annotations': {
        const annotations = Object.fromEntries(form);
        if (
          !only(
            formKeys,
            formKeys.filter((key) => /^[\w.-]{1,255}$/.test(key)),
          )
        )
          return option();
        if ([...form.values()].some((value) => value.length > 4096)) return option();
        return as('machines.setAnnotations', (c) => c.machines.setAnnotations(machine, annotations, never()));
      }
      default:
        return unused();
    }
  }
  if (rest === 'machines/' && method === 'GET') {
    if (op !== null) return unused();
    const fields: Record<string, keyof MachineFilter> = {
      id: 'ids',
      status: 'statuses',
      pool: 'pools',
      zone: 'zones',
      tags: 'tags',
      not_tags: 'notTags',
      hostname: 'hostnames',
      agent_name: 'agentName',
      owner: 'owner',
      cpu_count: 'minCpu',
      mem: 'minMemoryMiB',
    };
    if (!only(keys, Object.keys(fields))) return option();
    const filter: Record<string, unknown> = {};
    for (const key of new Set(keys)) {
      const values = query.getAll(key);
      filter[fields[key] ?? ''] = ['agent_name', 'owner', 'cpu_count', 'mem'].includes(key)
        ? values[0]
        : values;
    }
    return as('machines.list', (c) => c.machines.list(filter as MachineFilter, never()));
  }
  if (rest === 'machines/' && method === 'POST') {
    if (op !== 'allocate') return unused();
    if (keys.length > 0) return option();
    if (formKeys.length === 0) return no('allocate without any constraint, which takes a random machine');
    const allowed = [
      'system_id',
      'pool',
      'zone',
      'cpu_count',
      'mem',
      'tags',
      'not_tags',
      'agent_name',
      'comment',
      'dry_run',
      'storage',
    ];
    if (!only(formKeys, allowed)) return option();
    if (form.getAll('system_id').length > 1) return option();
    const disk = form.get('storage');
    if (disk !== null && !disk.startsWith('root:')) return option();
    const number = (key: string) => form.get(key) as unknown as number;
    return as('machines.allocate', (c) =>
      c.machines.allocate(
        {
          agentName: form.get('agent_name') ?? 'gw.c.n.o',
          comment: form.get('comment') ?? '',
          ...(form.has('system_id') ? { systemId: form.get('system_id') ?? '' } : {}),
          ...(form.has('pool') ? { pool: form.get('pool') ?? '' } : {}),
          ...(form.has('zone') ? { zones: form.getAll('zone') } : {}),
          ...(form.has('cpu_count') ? { minCpu: number('cpu_count') } : {}),
          ...(form.has('mem') ? { minMemoryMiB: number('mem') } : {}),
          ...(form.has('tags') ? { tags: form.getAll('tags') } : {}),
          ...(form.has('not_tags') ? { notTags: form.getAll('not_tags') } : {}),
          ...(disk === null ? {} : { minDiskGb: disk.slice(5) as unknown as number }),
          ...(form.has('dry_run') ? { dryRun: true } : {}),
        },
        never(),
      ),
    );
  }
  const subnet = /^subnets\/(\d+)\/$/.exec(rest)?.[1];
  if (subnet !== undefined && method === 'GET' && keys.length === 0) {
    if (op === 'statistics')
      return as('subnetStatistics', (c) => c.subnetStatistics(Number(subnet), never()));
    if (op === 'unreserved_ip_ranges')
      return as('unreservedRanges', (c) => c.unreservedRanges(Number(subnet), never()));
  }
  const dns = /^dnsresources\/(\d+)\/$/.exec(rest)?.[1];
  if (dns !== undefined && method === 'PUT' && only(formKeys, ['ip_addresses'])) {
    const addresses = (form.get('ip_addresses') ?? '').split(' ').filter(Boolean);
    return as('updateDnsResource', (c) => c.updateDnsResource(Number(dns), addresses, never()));
  }
  if (dns !== undefined && method === 'DELETE') {
    return as('deleteDnsResource', (c) => c.deleteDnsResource(Number(dns), never()));
  }
  const plain: Record<string, [string, (c: MaasClient & MaasRestClient) => Promise<unknown>]> = {
    'version/': ['version', (c) => c.version(never())],
    'zones/': ['zones', (c) => c.zones(never())],
    'resourcepools/': ['pools', (c) => c.pools(never())],
    'domains/': ['domains', (c) => c.domains(never())],
    'tags/': ['tags', (c) => c.tags(never())],
    'subnets/': ['subnets', (c) => c.subnets(never())],
    'fabrics/': ['fabrics', (c) => c.fabrics(never())],
    'boot-resources/': ['images', (c) => c.images(never())],
  };
  const known = plain[rest];
  if (known !== undefined && method === 'GET' && op === null && keys.length === 0) return as(...known);
  if (rest === 'users/' && method === 'GET' && op === 'whoami' && only(keys, [])) {
    return as('whoami', (c) => c.whoami(never()));
  }
  if (
    rest === 'maas/' &&
    method === 'GET' &&
    op === 'get_config' &&
    only(keys, ['name']) &&
    query.has('name')
  ) {
    return as('config', (c) => c.config(query.get('name') ?? '', never()));
  }
  if (rest === 'events/' && method === 'GET' && op === 'query') {
    if (!only(keys, ['id', 'level', 'after', 'limit'])) return option();
    const limit = Number(query.get('limit') ?? '100');
    if (!(limit >= 1 && limit <= 1000)) return option();
    return as('events', (c) =>
      c.events(
        {
          limit,
          ...(query.has('id') ? { ids: query.getAll('id') } : {}),
          ...(query.has('after') ? { after: Number(query.get('after')) } : {}),
          ...(query.has('level') ? { level: query.get('level') as 'INFO' } : {}),
        },
        never(),
      ),
    );
  }
  if (rest === 'ipaddresses/') {
    if (method === 'GET' && op === null && keys.length === 0)
      return as('reservedAddresses', (c) => c.reservedAddresses(never()));
    const ip = form.get('ip') ?? '';
    const named = isIP(ip) !== 0;
    if (op === 'reserve' && method === 'POST' && named && only(formKeys, ['ip', 'subnet'])) {
      return as('reserveAddress', (c) => c.reserveAddress({ ip }, never()));
    }
    if (op === 'release' && method === 'POST' && named && only(formKeys, ['ip'])) {
      return as('releaseAddress', (c) => c.releaseAddress(ip, never()));
    }
  }
  if (rest === 'dnsresources/') {
    if (method === 'GET' && op === null && only(keys, ['fqdn']) && query.has('fqdn')) {
      return as('dnsResources', (c) => c.dnsResources(query.get('fqdn') ?? '', never()));
    }
    const addresses = (form.get('ip_addresses') ?? '').split(' ').filter(Boolean);
    const good = addresses.every((ip) => /^(?:\d{1,3}\.){3}\d{1,3}$/.test(ip) && !ip.startsWith('300.'));
    if (
      method === 'POST' &&
      form.has('fqdn') &&
      good &&
      only(formKeys, ['fqdn', 'ip_addresses', 'address_ttl'])
    ) {
      return as('createDnsResource', (c) =>
        c.createDnsResource(form.get('fqdn') ?? '', addresses, 30, never()),
      );
    }
  }
  return unused();
}

function aliasOf(op: string | null): string | null {
  return op === 'set_owner_data' ? 'set_workload_annotations' : op;
}

/** What the client may look at besides: as empty as a region can be, in the state that the recording names. */
function lookAround(exchange: Exchange, seen: Asked, created: boolean): DefaultBodyType {
  const id = /^machines\/([a-z0-9]{6})\/$/.exec(seen.path)?.[1];
  if (id !== undefined) return wireMachine(id, statusBefore(exchange));
  switch (seen.path) {
    case 'dnsresources/':
      return created && exchange.response.status === 200
        ? [JSON.parse(exchange.response.body ?? 'null')]
        : [];
    case 'users/':
      return { username: 'operator', is_superuser: false };
    case 'subnets/':
      return [
        { id: 1, cidr: '10.0.0.0/8', name: 'all' },
        { id: 2, cidr: '192.0.0.0/8', name: 'rest' },
        { id: 3, cidr: '172.16.0.0/12' },
        { id: 4, cidr: '203.0.113.0/24' },
        { id: 5, cidr: '0.0.0.0/0' },
      ];
    default:
      return seen.query.get('op') === 'statistics' ? { num_available: 7 } : [];
  }
}

/** `07` names the state that an operation was tried from; elsewhere Missing stands for "something else". */
function statusBefore(exchange: Exchange): number {
  if (exchange.request.query === 'op=power_on' && !exchange.name.includes(' from ')) return 6;
  const from = / from ([A-Z_]+)$/.exec(exchange.name)?.[1]?.toLowerCase();
  const index = STATUS_NAMES.findIndex((name) => name === from);
  return index < 0 ? 3 : index;
}

type Outcome = { readonly ok: unknown } | { readonly code: string };

const ACTIONS = new Set([
  'machines.deploy',
  'machines.release',
  'machines.abort',
  'machines.powerOn',
  'machines.powerOff',
  'machines.markBroken',
]);

/** What must come out, from status, headers and content type of the recorded answer. */
function demanded(
  call: string,
  exchange: Exchange,
): Outcome | { readonly anyOf: readonly string[] } | { readonly kind: string } {
  const status = exchange.response.status ?? 0;
  const headers = Object.fromEntries(
    exchange.response.headers.map(([name, value]) => [name.toLowerCase(), value]),
  );
  const type = (headers['content-type'] ?? '').split(';')[0];
  const retryAfter = headers['retry-after'] !== undefined;
  const before = STATUS_NAMES[statusBefore(exchange)] ?? 'missing';
  const action = ACTIONS.has(call);
  // The client looks first and does not switch on a machine that this would deploy.
  if (call === 'machines.powerOn' && before !== 'deployed' && before !== 'deploying')
    return { kind: 'wrong-state' };
  if (status < 300) {
    // MAAS took another kernel than the one that was asked for, without a word.
    const kernel = new URLSearchParams((exchange.request.body as string | null) ?? '').get('hwe_kernel');
    const installs = (exchange.response.body_summary as { hwe_kernel?: string } | null)?.hwe_kernel;
    if (call === 'machines.deploy' && kernel && installs !== undefined && installs !== kernel)
      return { code: 'MAAS_IMAGE_MISSING' };
    if (action) return { kind: 'accepted' };
    if (call === 'machines.allocate') return { kind: 'allocated' };
    if (call === 'reserveAddress') return { kind: 'reserved' };
    return { ok: true };
  }
  switch (status) {
    case 400: {
      if (type === 'text/html') return { code: 'MAAS_PROTOCOL' };
      if (type === 'text/plain') {
        if (call === 'releaseAddress') return { ok: true };
        if (call === 'reserveAddress') return { code: 'SUBNET_UNKNOWN' };
        if (call === 'machines.deploy') return { anyOf: ['MAAS_CONFLICT', 'MAAS_IMAGE_MISSING'] };
        return { code: 'MAAS_BAD_REQUEST' };
      }
      const field = Object.keys(JSON.parse(exchange.response.body ?? '{}') as object)[0] ?? '';
      const named: Record<string, string> = {
        zone: 'ZONE_UNKNOWN',
        pool: 'POOL_UNKNOWN',
        distro_series: 'MAAS_IMAGE_MISSING',
        hwe_kernel: 'MAAS_IMAGE_MISSING',
      };
      return { code: named[field] ?? 'MAAS_BAD_REQUEST' };
    }
    case 401:
      return { code: 'MAAS_UNAUTHORIZED' };
    case 403:
      if (call === 'machines.get') return { ok: undefined };
      if (call === 'reserveAddress') return { kind: 'taken' };
      if (call === 'machines.markBroken' && before === 'broken') return { kind: 'accepted' };
      return { code: 'MAAS_FORBIDDEN' };
    case 404:
      if (call === 'machines.get') return { ok: undefined };
      if (action) return { kind: 'gone' };
      if (call === 'reserveAddress') return { kind: 'taken' };
      if (call === 'createDnsResource') return { code: 'DOMAIN_UNKNOWN' };
      if (call === 'deleteDnsResource') return { ok: undefined };
      return { code: 'MAAS_NOT_FOUND' };
    case 409:
      if (type === 'text/html' || retryAfter) return { code: 'MAAS_CONFLICT' };
      if (call === 'machines.allocate') return { anyOf: ['none', 'taken'] };
      if (call === 'machines.setAnnotations') return { code: 'MAAS_WRONG_STATE' };
      if (call === 'machines.deploy' && before === 'deploying') return { kind: 'accepted' };
      if (call === 'machines.release' && ['disk_erasing', 'new', 'ready', 'releasing'].includes(before))
        return { kind: 'accepted' };
      return { kind: 'wrong-state' };
    case 413:
    case 414:
      return { code: 'MAAS_BAD_REQUEST' };
    case 500:
      if (call === 'machines.queryPower') return { code: 'MAAS_POWER_FAILED' };
      return action ? { code: 'MAAS_POWER_FAILED' } : { code: 'MAAS_OVERLOADED' };
    case 502:
      return exchange.request.method === 'GET'
        ? { code: 'MAAS_UNREACHABLE' }
        : { code: 'MAAS_OUTCOME_UNKNOWN' };
    case 503:
      if (retryAfter) return { code: 'MAAS_RACK_DISCONNECTED' };
      if (call === 'reserveAddress') return { kind: 'full' };
      return { code: 'MAAS_POWER_FAILED' };
    default:
      throw new Error(`no demand for status ${status}`);
  }
}

describe('recorded exchanges', () => {
  const all = loadRecordings();
  const reasons = new Map<string, number>();
  const calls = new Map<string, number>();
  let region: Wire;
  let client: MaasRestClient;
  /** The recorded answer was given, so its effect is there. */
  let answered = false;
  let current: { exchange: Exchange; replay: Replay; body: string } | undefined;

  beforeAll(async () => {
    region = await serveHandlers([
      http.all(`*${API}*`, ({ request }) => {
        const seen = seenOf(request);
        if (current === undefined) return HttpResponse.error();
        if (!current.replay.isIt(seen))
          return HttpResponse.json(lookAround(current.exchange, seen, answered));
        answered = true;
        const { status, headers } = current.exchange.response;
        return new HttpResponse(current.body === '' ? null : current.body, {
          status: status ?? 0,
          headers: headers
            .filter(([name]) => REPLAYED_HEADERS.has(name.toLowerCase()))
            .map(([k, v]) => [k, v]),
        });
      }),
    ]);
    // As many attempts as a preseed conflict needs; the answers are always the same here.
    client = clientOf(region, { limits: { attempts: 2 } });
  });
  afterAll(async () => {
    await client[Symbol.asyncDispose]();
    await region[Symbol.asyncDispose]();
  });

  const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);

  it('are all understood when the client can issue them', async () => {
    const wrong: string[] = [];
    for (const exchange of all) {
      const target = mapped(exchange);
      if (target.kind === 'not-applicable') {
        count(reasons, target.why);
        continue;
      }
      const { replay } = target;
      const body = replayable(exchange);
      if (body === undefined) {
        count(reasons, 'answer that the recording abridged');
        continue;
      }
      current = { exchange, replay, body };
      answered = false;
      count(calls, replay.call);
      // Memory between calls would hide the next recording's answer.
      const fresh = ['domains', 'images'].includes(replay.call)
        ? clientOf(region, { limits: { attempts: 2 } })
        : client;
      const outcome = await replay.make(fresh).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      );
      if (fresh !== client) await fresh[Symbol.asyncDispose]();
      const problem = mismatch(demanded(replay.call, exchange), outcome);
      if (problem !== undefined) wrong.push(`${exchange.file} ${exchange.name}: ${problem}`);
    }
    expect(wrong).toEqual([]);
  });

  it('cover every call of the client that a recording exists for, and nearly all that a machine can answer', () => {
    const covered = [...calls.values()].reduce((a, b) => a + b, 0);
    const left = [...reasons.values()].reduce((a, b) => a + b, 0);
    expect(covered + left).toBe(all.length);
    expect({ recorded: all.length, covered }).toEqual({ recorded: 1774, covered: 739 });
    expect(Object.fromEntries(reasons)).toEqual({
      'resource or operation that the product does not use': 666,
      'option, filter or constraint that the client never sends': 131,
      'a measurement over many calls': 105,
      'body that is not a form': 36,
      'a summary of parallel or aborted calls': 34,
      'address outside the region API': 22,
      'method that the client never uses': 17,
      'address without its trailing slash': 11,
      'answer that the recording abridged': 9,
      'allocate without any constraint, which takes a random machine': 3,
      'two answers on one connection': 1,
    });
    expect([...calls.keys()].sort()).toEqual([
      'config',
      'createDnsResource',
      'deleteDnsResource',
      'dnsResources',
      'domains',
      'events',
      'fabrics',
      'images',
      'machines.abort',
      'machines.allocate',
      'machines.deploy',
      'machines.get',
      'machines.list',
      'machines.markBroken',
      'machines.powerOff',
      'machines.powerOn',
      'machines.queryPower',
      'machines.release',
      'machines.setAnnotations',
      'pools',
      'releaseAddress',
      'reserveAddress',
      'reservedAddresses',
      'subnetStatistics',
      'subnets',
      'tags',
      'unreservedRanges',
      'updateDnsResource',
      'version',
      'whoami',
      'zones',
    ]);
  });
});

function mismatch(
  wanted: ReturnType<typeof demanded>,
  outcome: { value: unknown } | { error: unknown },
): string | undefined {
  const code =
    'error' in outcome
      ? outcome.error instanceof PcgError
        ? outcome.error.code
        : `not coded: ${String(outcome.error)}`
      : undefined;
  const value = 'value' in outcome ? outcome.value : undefined;
  const kind =
    typeof value === 'object' && value !== null && 'kind' in value ? String(value.kind) : undefined;
  const got = code ?? kind ?? 'value';
  if ('code' in wanted) return code === wanted.code ? undefined : `wanted ${wanted.code}, got ${got}`;
  if ('anyOf' in wanted)
    return wanted.anyOf.includes(got) ? undefined : `wanted ${wanted.anyOf.join(' or ')}, got ${got}`;
  if ('kind' in wanted) return kind === wanted.kind ? undefined : `wanted ${wanted.kind}, got ${got}`;
  if (code !== undefined)
    return `wanted success, got ${code}: ${String('error' in outcome ? outcome.error : '')}`;
  return wanted.ok === undefined && value !== undefined ? `wanted nothing, got ${got}` : undefined;
}
