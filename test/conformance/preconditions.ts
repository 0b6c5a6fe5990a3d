/**
 * The state in which each exchange was recorded, read off the exchange itself: the matrix names it, the
 * others show it in their answer. Applied through the simulator's console before the request is sent.
 */
import type { Exchange } from '../support/maas-recordings.ts';

/** Body of `POST /simulator/machines/<id>/force`. */
export interface Forced {
  readonly status: string;
  readonly owner?: string | null;
  readonly power?: 'on' | 'off' | 'unknown';
  readonly zone?: string;
  readonly locked?: boolean;
  readonly previousStatus?: string;
  readonly osystem?: string;
  readonly distroSeries?: string;
  readonly hweKernel?: string | null;
  readonly errorDescription?: string;
  readonly netboot?: boolean;
  readonly ephemeralDeploy?: boolean;
  readonly agentName?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Claims its automatic addresses, as a deployed machine has. */
  readonly addressed?: boolean;
  readonly layout?: 'flat' | 'blank' | 'unlinked';
}

export interface Preconditions {
  readonly machines: readonly (readonly [systemId: string, state: Forced])[];
  /** As in `--fault`. */
  readonly faults: readonly string[];
  readonly config: Readonly<Record<string, string>>;
  readonly disabledUser?: string;
}

interface Summary {
  readonly [key: string]: unknown;
  readonly system_id: string;
  readonly status_name: string;
}

function summaryOf(exchange: Exchange): Summary | undefined {
  const { body, body_summary: summary } = exchange.response;
  const isMachine = (value: unknown): value is Summary =>
    typeof value === 'object' &&
    value !== null &&
    'system_id' in value &&
    'status_name' in value &&
    'hostname' in value;
  if (isMachine(summary)) return summary;
  try {
    const parsed: unknown = JSON.parse(body ?? '');
    return isMachine(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

const snake = (title: string): string => {
  const special: Record<string, string> = {
    'Releasing failed': 'failed_releasing',
    'Failed to enter rescue mode': 'failed_entering_rescue_mode',
    'Failed to exit rescue mode': 'failed_exiting_rescue_mode',
  };
  return special[title] ?? title.toLowerCase().replaceAll(' ', '_');
};

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

const powerOf = (summary: Summary): 'on' | 'off' | 'unknown' => {
  const power = summary['power_state'];
  return power === 'on' || power === 'unknown' ? power : 'off';
};

/** A machine that is exactly as the answer shows it. */
function asShown(summary: Summary): Forced {
  return {
    status: snake(summary.status_name),
    owner: typeof summary['owner'] === 'string' ? summary['owner'] : null,
    power: powerOf(summary),
    locked: summary['locked'] === true,
    osystem: text(summary['osystem']),
    distroSeries: text(summary['distro_series']),
    hweKernel: typeof summary['hwe_kernel'] === 'string' ? summary['hwe_kernel'] : null,
    errorDescription: text(summary['error_description']),
    netboot: summary['netboot'] === true,
    ephemeralDeploy: summary['ephemeral_deploy'] === true,
    annotations: (summary['owner_data'] ?? {}) as Record<string, string>,
    addressed: ['Deploying', 'Deployed', 'Failed deployment'].includes(summary.status_name),
  };
}

function zoneOf(summary: Summary): string | undefined {
  const zone = summary['zone'];
  if (typeof zone === 'string') return zone;
  return typeof zone === 'object' && zone !== null && 'name' in zone ? String(zone.name) : undefined;
}

const opOf = (exchange: Exchange): string | undefined =>
  /(?:^|&)op=([a-z_]+)/.exec(exchange.request.query ?? '')?.[1] ??
  /(?:^|&)op=([a-z_]+)/.exec(typeof exchange.request.body === 'string' ? exchange.request.body : '')?.[1];

const idOf = (exchange: Exchange): string | undefined =>
  /\/(?:machines|nodes)\/([a-z0-9]{6})\//.exec(exchange.request.path ?? '')?.[1];

/** What a refusal says about the state that it met. */
function fromRefusal(exchange: Exchange): Forced | undefined {
  const body = exchange.response.body ?? '';
  const named =
    /that is in the '([^']+)' state/.exec(body) ??
    /current state \('([^']+)'\)/.exec(body) ??
    /is in state ([A-Z][a-z ]+)\./.exec(body) ??
    /Invalid transition: ([A-Z][a-z ]+) ->/.exec(body);
  if (named?.[1]) return { status: snake(named[1]) };
  if (
    body === 'Machine is already locked' ||
    (exchange.response.status === 403 && /locked/i.test(exchange.name))
  )
    return { status: 'deployed', locked: true };
  if (body === 'Machine is not locked') return { status: 'deployed' };
  if (/hasn't been (allocated|acquired)|Can't lock|non-broken/.test(body)) return { status: 'ready' };
  if (exchange.name === 'mark_broken again') return { status: 'broken' };
  if (exchange.name === 'commission Deployed?') return { status: 'failed_deployment' };
  if (exchange.response.status === 403 && exchange.request.as_user === 'operator' && body === '')
    return { status: 'deployed', owner: 'admin' };
  return undefined;
}

/** From the answer to an accepted operation back to the state before it. */
function beforeOperation(exchange: Exchange, op: string, after: Summary): Forced | undefined {
  const shown = asShown(after);
  const caller = exchange.request.as_user ?? 'admin';
  const { owner = null, power = 'off' } = shown;
  const error = { errorDescription: shown.errorDescription ?? '' };
  switch (op) {
    case 'allocate':
      return { status: 'ready' };
    case 'deploy':
      return owner === caller && !/allocated to another/.test(exchange.name)
        ? { status: 'ready' }
        : { status: 'allocated', owner };
    case 'release':
      if (after.status_name === 'Releasing') {
        if (/second release|retry of the release/.test(exchange.name)) return { ...shown };
        return { ...error, status: 'deployed', owner, power: 'on', annotations: shown.annotations ?? {} };
      }
      if (after.status_name === 'Ready' && /no-op|Ready machine/.test(exchange.name)) return { ...shown };
      if (after.status_name === 'Ready') return { ...error, status: 'allocated' };
      return { ...shown, status: power === 'on' ? 'deployed' : 'allocated' };
    case 'abort':
      return {
        ...shown,
        previousStatus: 'ready',
        owner: after.status_name === 'Commissioning' ? 'admin' : owner,
      };
    case 'lock':
      return { ...shown, locked: false };
    case 'unlock':
      return { ...shown, locked: true };
    case 'mark_broken':
      return power === 'on' ? { status: 'deployed', power } : { status: 'allocated' };
    case 'mark_fixed':
      return { status: 'broken', previousStatus: after.status_name === 'Deployed' ? 'deployed' : 'ready' };
    case 'override_failed_testing':
      return { status: 'failed_testing' };
    case 'power_on':
      return after.status_name === 'Deploying' && power === 'off' ? { status: 'allocated', owner } : shown;
    case 'rescue_mode':
      return { ...shown, status: 'deployed' };
    case 'exit_rescue_mode':
      return { ...shown, status: 'rescue_mode', previousStatus: 'deployed' };
    case 'test':
      return { ...shown, status: 'deployed' };
    case 'commission':
      return { status: 'ready' };
    case 'set_owner_data':
    case 'set_workload_annotations':
    case 'power_off':
    case 'set_storage_layout':
      return shown;
    default:
      return undefined;
  }
}

/** Operations of the matrix that look at where the machine came from. */
const MATRIX_CAME_FROM_DEPLOYED = new Set(['TESTING', 'EXITING_RESCUE_MODE']);

function fromMatrix(exchange: Exchange): (readonly [string, Forced])[] {
  const state = / from ([A-Z_]+)$/.exec(exchange.name)?.[1];
  const id = idOf(exchange) ?? /system_id=([a-z0-9]{6})/.exec(text(exchange.request.body))?.[1];
  if (!state || !id) return [];
  const previousStatus = MATRIX_CAME_FROM_DEPLOYED.has(state) ? 'deployed' : 'ready';
  const summary = summaryOf(exchange);
  const image =
    summary && state !== 'READY' && state !== 'ALLOCATED'
      ? {
          osystem: text(summary['osystem']),
          distroSeries: text(summary['distro_series']),
          hweKernel: text(summary['hwe_kernel']) || null,
        }
      : {};
  return [[id, { status: state.toLowerCase(), previousStatus, ...image }]];
}

/** Failures of BMC, rack and addresses are recognisable in the answer. */
function faultsOf(exchange: Exchange): string[] {
  const body = exchange.response.body ?? '';
  const { status } = exchange.response;
  if (body.startsWith('Unable to connect to any rack')) return ['rack-disconnected'];
  if (body.startsWith('No more IPs available') && opOf(exchange) === 'deploy') return ['ip-exhausted'];
  if (status === 500 && /Power|BMC|bmc|^x$/.test(body)) return ['power-failure'];
  if (/^(all region workers stopped|worker sockets gone)/.test(exchange.name)) return ['http-502'];
  if (/^PostgreSQL (down|back)/.test(exchange.name) && status === 500) return ['http-500'];
  if (exchange.name.startsWith('PostgreSQL back') && status === 409) return ['http-409-retry-after'];
  if (/release: machine does not power off|release, power stays on/.test(exchange.name))
    return ['release-stuck'];
  return [];
}

const READY_IDS =
  'ay7beq bn3wxy n66eae dfcey6 kgw36g fhed3y 77rpqc tnhatp ftms8t qr4a7m bfmfwp nmpbex 8bsfp8'.split(' ');

/** What a few exchanges need that nothing in them shows. */
function special(exchange: Exchange): Partial<Preconditions> {
  const { name } = exchange;
  const only = (id: string, state: Forced): Partial<Preconditions> => ({ machines: [[id, state]] });
  if (/when nothing/.test(name))
    return { machines: READY_IDS.map((id): readonly [string, Forced] => [id, { status: 'allocated' }]) };
  if (name.startsWith('inactive user')) return { disabledUser: 'operator' };
  if (/enable_disk_erasing|with that config/.test(name))
    return { config: { enable_disk_erasing_on_release: 'true' } };
  if (name === 'list agent_name=gw-1') return only('77rpqc', { status: 'allocated', agentName: 'gw-1' });
  if (name === 'list_allocated finds it (reconciliation)') return only('ay7beq', { status: 'allocated' });
  if (name.startsWith('ipaddresses all for deployed'))
    return only('ay7beq', { status: 'deployed', addressed: true });
  if (/^allocate same system_id|allocates operator's/.test(name))
    return only(/system_id=([a-z0-9]{6})/.exec(text(exchange.request.body))?.[1] ?? '', {
      status: 'allocated',
    });
  if (name === 'deploy: not on a network') return only('77rpqc', { status: 'ready', layout: 'unlinked' });
  if (name === 'deploy: blank storage') return only('77rpqc', { status: 'ready', layout: 'blank' });
  if (name === 'bulk release two Allocated')
    return {
      machines: ['tnhatp', 'ftms8t'].map((id): readonly [string, Forced] => [id, { status: 'allocated' }]),
    };
  if (name.startsWith('bulk release two Deployed'))
    return {
      machines: ['tnhatp', 'ftms8t'].map((id): readonly [string, Forced] => [id, { status: 'deployed' }]),
    };
  if (name === 'bulk release incl. locked') return only('ay7beq', { status: 'deployed', locked: true });
  if (name === "bulk release other user's as operator") return only('tnhatp', { status: 'allocated' });
  if (name.startsWith('bulk release: one Releasing'))
    return {
      machines: [
        ['ay7beq', { status: 'releasing' }],
        ['bn3wxy', { status: 'allocated' }],
      ],
    };
  if (name === 'query_power_state now off') return only('fhed3y', { status: 'releasing', power: 'off' });
  if (/^get_(token|curtin_config) Deployed/.test(name))
    return only('ay7beq', { status: 'deployed', osystem: 'ubuntu', distroSeries: 'jammy', addressed: true });
  if (name === 'power_on Deployed already on') return only('fhed3y', { status: 'deployed', power: 'on' });
  if (name === 'user delete with resources')
    return only('yna8q8', { status: 'allocated', owner: 'operator' });
  if (name.startsWith("read other user's allocated"))
    return only('bhxexa', { status: 'rescue_mode', owner: 'admin' });
  return {};
}

export function preconditionsOf(exchange: Exchange): Preconditions {
  const extra = special(exchange);
  const id = idOf(exchange);
  const op = opOf(exchange);
  const summary = summaryOf(exchange);
  const { status } = exchange.response;
  const machines: (readonly [string, Forced])[] = [];
  if (exchange.file.startsWith('07')) machines.push(...fromMatrix(exchange));
  else if (exchange.request.method === 'GET' && op === undefined && summary && id)
    machines.push([summary.system_id, asShown(summary)]);
  else if (op !== undefined && summary && status === 200) {
    const before = beforeOperation(exchange, op, summary);
    if (before) machines.push([summary.system_id, before]);
  } else if (id && status !== null && status >= 400) {
    const before = fromRefusal(exchange);
    if (before) machines.push([id, before]);
    else if (op === 'deploy' && (status === 500 || status === 503)) machines.push([id, { status: 'ready' }]);
    else if (op === 'release' && (status === 500 || status === 503))
      machines.push([id, { status: 'deployed' }]);
    else if (op === 'power_on') machines.push([id, { status: 'deployed' }]);
    else if (op === 'set_owner_data' && status !== 403) machines.push([id, { status: 'allocated' }]);
  }
  const zone = summary ? zoneOf(summary) : undefined;
  const placed = machines.map(([systemId, state]): readonly [string, Forced] => [
    systemId,
    zone ? { ...state, zone } : state,
  ]);
  return {
    machines: [...placed, ...(extra.machines ?? [])],
    faults: faultsOf(exchange),
    config: extra.config ?? {},
    ...(extra.disabledUser ? { disabledUser: extra.disabledUser } : {}),
  };
}
