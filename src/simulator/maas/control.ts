/**
 * The simulator's own door beside /MAAS: the ledger, faults at run time, and forcing machines into states
 * that a test or a training needs. No credentials: whoever reaches the simulator owns it.
 */
import { z } from 'zod';
import { FaultSyntaxError, faultCatalogue, parseFault, type Faults } from './faults.ts';
import type { MachineLife } from './life.ts';
import type { Machine } from './model.ts';
import type { Region } from './region.ts';
import { type Reply } from './reply.ts';
import type { ControlRequest, RequestStats } from './server.ts';
import { isStatus, statusTitle } from './status.ts';
import { overviewPage } from './web.ts';

export interface ControlOptions {
  readonly region: Region;
  readonly life: MachineLife;
  readonly faults: Faults;
  readonly stats: () => RequestStats;
  readonly changed: () => void;
  /** What booted machines went through. */
  readonly milestones: () => readonly unknown[];
  /** What they form, and what stopped with those that went. */
  readonly clusters: () => unknown;
  readonly moments: () => unknown;
}

const reply = (status: number, value: unknown): Reply => ({
  status,
  contentType: 'application/json; charset=utf-8',
  body: `${JSON.stringify(value, null, 2)}\n`,
  origin: 'bare',
});

const problem = (status: number, message: string): Reply => reply(status, { error: message });

/** Owner while a machine is in a forced state: these statuses have none on a real MAAS. */
const UNOWNED = new Set([
  'new',
  'commissioning',
  'failed_commissioning',
  'missing',
  'ready',
  'retired',
  'broken',
  'testing',
  'failed_testing',
]);
const POWERED = new Set([
  'commissioning',
  'deployed',
  'deploying',
  'failed_deployment',
  'disk_erasing',
  'rescue_mode',
  'testing',
]);

const StatusSchema = z.string().refine(isStatus);

const ForcedSchema = z.object({
  status: StatusSchema,
  owner: z.string().nullable().optional(),
  power: z.enum(['on', 'off', 'unknown']).optional(),
  zone: z.string().optional(),
  locked: z.boolean().default(false),
  previousStatus: StatusSchema.default('ready'),
  osystem: z.string().default(''),
  distroSeries: z.string().default(''),
  errorDescription: z.string().default(''),
  hweKernel: z.string().nullable().default(null),
  netboot: z.boolean().default(true),
  ephemeralDeploy: z.boolean().default(false),
  agentName: z.string().default(''),
  annotations: z.record(z.string(), z.string()).default({}),
  /** Claims its automatic addresses. */
  addressed: z.boolean().default(false),
  layout: z.enum(['flat', 'blank', 'unlinked']).default('flat'),
});

/** Writes the status straight into the books, past every rule, like an administrator with SQL. */
function force({ region, life }: ControlOptions, machine: Machine, body: string): Reply {
  const parsed = ForcedSchema.safeParse(parseJson(body));
  if (!parsed.success) return problem(400, z.prettifyError(parsed.error));
  const { status, owner, power, previousStatus, zone, annotations, addressed, layout, ...rest } = parsed.data;
  life.processes.interrupt(machine);
  life.halt(machine);
  region.releaseAutoIps(machine);
  const forced = power ?? (POWERED.has(status) ? 'on' : 'off');
  Object.assign(machine, rest, { status, previousStatus, powerState: forced });
  machine.bmcPower = forced === 'on' ? 'on' : 'off';
  machine.zoneId = region.zones.find((one) => one.name === zone)?.id ?? machine.zoneId;
  machine.owner = owner === undefined ? (UNOWNED.has(status) ? null : 'admin') : owner;
  machine.ownerData = new Map(Object.entries(annotations));
  if (addressed) region.claimAutoIps(machine);
  if (layout === 'blank') for (const disk of machine.disks) disk.partitions = [];
  if (layout === 'unlinked')
    for (const nic of machine.nics)
      nic.links = nic.links.map((link) => ({ ...link, mode: 'link_up', subnetId: null, ip: null }));
  return reply(200, { systemId: machine.systemId, status, owner: machine.owner, power: forced });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Things that happen to hardware. */
function happen({ life, region }: ControlOptions, machine: Machine, what: string): Reply {
  switch (what) {
    case 'fail':
      life.processes.interrupt(machine);
      life.failDeploy(machine, 'Failed from the simulator console.');
      break;
    case 'power-loss':
      machine.bmcPower = 'off';
      life.halt(machine);
      break;
    case 'break':
      life.processes.interrupt(machine);
      life.halt(machine);
      machine.errorDescription = 'Broken from the simulator console.';
      region.changeStatus(machine, 'broken');
      break;
    case 'vanish':
      life.forget(machine);
      break;
    default:
      return problem(404, `unknown action ${what}: fail, power-loss, break, vanish or force`);
  }
  return reply(200, { systemId: machine.systemId, status: statusTitle(machine.status) });
}

/** A JSON array or lines of `name[:amount][@filter]`. */
function faultTexts(body: string): string[] {
  if (body.trimStart().startsWith('[')) {
    const value: unknown = JSON.parse(body);
    return Array.isArray(value) ? value.map(String) : [];
  }
  return body
    .split(/[\n,]/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

const faultsJson = (faults: Faults) => ({
  rules: faults.rules().map((rule) => ({
    text: rule.text,
    name: rule.name,
    left: Number.isFinite(rule.left) ? rule.left : null,
    struck: rule.struck,
  })),
  catalogue: faultCatalogue(),
});

function changeFaults(options: ControlOptions, request: ControlRequest): Reply {
  try {
    const rules = faultTexts(request.body).map(parseFault);
    if (request.method === 'PUT' || request.query.has('replace')) options.faults.replace(rules);
    else for (const rule of rules) options.faults.add(rule);
    return reply(200, faultsJson(options.faults));
  } catch (error) {
    if (error instanceof FaultSyntaxError || error instanceof SyntaxError) return problem(400, error.message);
    throw error;
  }
}

export function createControl(options: ControlOptions): (request: ControlRequest) => Promise<Reply> {
  const { region, faults } = options;
  return async (request) => {
    const [, kind, id, what] = request.path.replace(/\/$/, '').split('/').slice(1);
    const writes = request.method === 'POST' || request.method === 'PUT';
    if (kind === undefined) return overviewPage(region, faults, options.stats());
    if (kind === 'ledger') return reply(200, region.ledger.toJSON());
    if (kind === 'stats') return reply(200, options.stats());
    if (kind === 'clusters') return reply(200, options.clusters());
    if (kind === 'moments') return reply(200, options.moments());
    if (kind === 'milestones') return reply(200, options.milestones());
    if (kind === 'faults' && request.method === 'DELETE') {
      faults.replace([]);
      return reply(200, faultsJson(faults));
    }
    if (kind === 'faults') return writes ? changeFaults(options, request) : reply(200, faultsJson(faults));
    if (kind === 'config' && id && writes) {
      region.config.set(id, parseJson(request.body));
      return reply(200, { [id]: region.config.get(id) });
    }
    if (kind === 'users' && id && what && writes) {
      const user = region.users.get(id);
      if (!user) return problem(404, `no user ${id}`);
      user.active = what === 'enable';
      return reply(200, { username: id, active: user.active });
    }
    if (kind !== 'machines' || !id || !what || !writes) return problem(404, `nothing at ${request.path}`);
    const machine =
      region.machines.get(id) ?? [...region.machines.values()].find((one) => one.hostname === id);
    if (!machine) return problem(404, `no machine ${id}`);
    options.changed();
    if (what === 'force') return force(options, machine, request.body);
    return happen(options, machine, what);
  };
}
