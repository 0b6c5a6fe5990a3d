/**
 * Machines: reading, allocating, and the actions that change their state. After an answer that cannot be
 * trusted (504, reset, deadline) the machine is read back; an effect is never repeated blindly, because in
 * between the machine may have become somebody else's. Traps of the API are guarded here, not by callers.
 */
import { PcgError } from '../base/errors.ts';
import type {
  ActionOutcome,
  AllocateOutcome,
  AllocateRequest,
  DeployRequest,
  EraseMode,
  Machine,
  MachineFilter,
  MaasClient,
} from './client.ts';
import type { DeployEvidence } from './deploy-evidence.ts';
import { type MaasFailure, toError } from './errors.ts';
import type { MaasCall, Pairs } from './http.ts';
import type { Caller } from './retry.ts';
import { MachineWire, MaybeMachineWire, PowerWire } from './schema.ts';

/** nginx in front of MAAS takes request lines of 8 KiB: `id=abcdef&` x 150 is 1.5 KiB with room for names. */
export const IDS_PER_REQUEST = 150;
/** Look-ups by agent name after an allocate whose answer was lost; the region may still be working on it. */
const LOOKUPS_AFTER_LOSS = 4;
/** Sendings of one allocate for a named machine; MAAS answers 409 to a second one, so repeating is safe. */
const ALLOCATE_SENDINGS = 3;
/** Deploys in a row that fail to render the preseed; the wrapper hides a conflict that is gone a moment later. */
const PRESEED_TRIES = 4;
/** MAAS's nginx refuses bodies over 10 MiB; leave room for the other fields. */
const MAX_FORM_BYTES = 10 * 1024 * 1024 - 65_536;
/** MAAS stores annotations of any size and then sends them twice with every reading of the machine. */
const MAX_ANNOTATION_CHARS = 4096;
const MAX_COMMENT_CHARS = 255;

const AGENT_NAME = /^[A-Za-z0-9._-]{1,255}$/;
const SYSTEM_ID = /^[A-Za-z0-9]{1,64}$/;
const ANNOTATION_KEY = /^[\w.-]{1,255}$/;

export interface MachineDeps {
  readonly caller: Caller;
  readonly evidence: DeployEvidence;
}

/** An effect on one machine, and how to see afterwards that it has happened. */
interface Action {
  readonly what: string;
  readonly op: string;
  readonly form: Pairs;
  /** After a lost answer: this reading shows that the action took effect. */
  readonly took: (machine: Machine) => boolean;
  /** After 409: this reading shows that it had been done before. */
  readonly already: (machine: Machine) => boolean;
  /** A deploy that was refused or failed: look for the cause. Default: `toError`. */
  readonly explain?: (
    failure: MaasFailure,
    machine: Machine | undefined,
    signal: AbortSignal,
  ) => Promise<PcgError>;
  /** Tries while MAAS answers 400 as text (see PRESEED_TRIES). */
  readonly refusedTries?: number;
  /** The answer shows the state before the action. */
  readonly staleAnswer?: boolean;
}

export function createMachines({ caller, evidence }: MachineDeps): MaasClient['machines'] {
  async function get(systemId: string, signal: AbortSignal): Promise<Machine | undefined> {
    const call: MaasCall = {
      what: 'machines.get',
      lane: 'read',
      method: 'GET',
      path: `machines/${checkedId(systemId)}/`,
    };
    const answer = await caller.tryAsk(call, signal);
    if (answer.kind === 'failed') {
      if (answer.failure.kind === 'absent' || answer.failure.kind === 'forbidden') return undefined;
      throw toError(answer.failure, call);
    }
    const machine = caller.parse(MachineWire, answer.reply, call.what);
    if (machine.systemId !== systemId) {
      throw new PcgError(
        'MAAS_PROTOCOL',
        `MAAS answered with machine ${machine.systemId} when asked for ${systemId}`,
      );
    }
    return machine;
  }

  async function list(filter: MachineFilter, signal: AbortSignal): Promise<Machine[]> {
    const choices = [filter.ids, filter.statuses, filter.pools, filter.zones, filter.tags, filter.hostnames];
    // An empty choice matches nothing; sent as no filter it would be the whole fleet.
    if (choices.some((choice) => choice?.length === 0)) return [];
    const { ids } = filter;
    const found: Machine[] = [];
    for (const some of ids === undefined ? [undefined] : chunks([...new Set(ids)], IDS_PER_REQUEST)) {
      const query = filterQuery(filter, some);
      const page = await caller.getEach(
        MachineWire,
        { what: 'machines.list', lane: 'list', path: 'machines/', query, urgent: isSmall(filter) },
        signal,
      );
      found.push(...(some === undefined ? page : page.filter((machine) => some.includes(machine.systemId))));
    }
    return found;
  }

  async function allocate(request: AllocateRequest, signal: AbortSignal): Promise<AllocateOutcome> {
    let call: MaasCall = {
      what: 'machines.allocate',
      lane: 'allocate',
      method: 'POST',
      path: 'machines/',
      query: [['op', 'allocate']],
      form: allocateForm(request),
    };
    const { systemId, agentName } = request;
    const mine = async () => {
      const found = await list({ agentName }, signal);
      return found.find((machine) => systemId === undefined || machine.systemId === systemId);
    };
    for (let sending = 1; ; sending += 1) {
      const answer = request.dryRun ? await caller.tryAsk(call, signal) : await caller.effect(call, signal);
      let cause: unknown;
      if (answer.kind === 'ok') {
        try {
          return { kind: 'allocated', machine: caller.parse(MachineWire, answer.reply, call.what) };
        } catch (error) {
          if (request.dryRun) throw error;
          cause = error;
        }
      } else {
        const { failure } = answer;
        if (failure.kind === 'invalid' && 'not_pod_type' in failure.fields && isConstrained(request)) {
          // After 3.7 MAAS has no VM hosts any more, neither to compose on nor to name.
          call = { ...call, form: allocateForm({ ...request, allowVirtual: true }) };
          continue;
        }
        if (failure.kind === 'state') {
          if (systemId === undefined) return { kind: 'none', reason: failure.text };
          // MAAS words "unknown", "busy" and "already yours" alike.
          const machine = request.dryRun ? undefined : await mine();
          return machine === undefined ? { kind: 'taken', systemId } : { kind: 'allocated', machine };
        }
        if (request.dryRun || !mayHaveHappened(failure)) throw toError(failure, call);
        cause = toError(failure, call);
      }
      const found = await lookUp(mine, signal);
      if (found !== undefined) return { kind: 'allocated', machine: found };
      // Without a named machine a second sending could take a second machine.
      if (systemId === undefined || sending >= ALLOCATE_SENDINGS) return { kind: 'unknown', cause };
    }
  }

  /** Several looks for the machine of a lost allocate; undefined also when MAAS cannot be asked. */
  async function lookUp(
    mine: () => Promise<Machine | undefined>,
    signal: AbortSignal,
  ): Promise<Machine | undefined> {
    for (let attempt = 0; attempt < LOOKUPS_AFTER_LOSS; attempt += 1) {
      if (attempt > 0) await caller.pause(attempt, signal);
      try {
        const machine = await mine();
        if (machine !== undefined) return machine;
      } catch (error) {
        if (signal.aborted) throw error;
      }
    }
    return undefined;
  }

  async function act(systemId: string, action: Action, signal: AbortSignal): Promise<ActionOutcome> {
    const call: MaasCall = {
      what: action.what,
      lane: 'action',
      method: 'POST',
      path: `machines/${checkedId(systemId)}/`,
      query: [['op', action.op]],
      form: action.form,
    };
    let answer = await caller.effect(call, signal);
    for (let tried = 1; tried < (action.refusedTries ?? 1) && isRefusal(answer); tried += 1) {
      await caller.pause(tried, signal);
      answer = await caller.effect(call, signal);
    }
    if (answer.kind === 'ok') {
      try {
        const machine = caller.parse(MaybeMachineWire, answer.reply, call.what);
        if (machine?.systemId === systemId && !action.staleAnswer) return { kind: 'accepted', machine };
      } catch {
        // 2xx without a readable body: it happened, only the picture is missing
      }
      const seen = await look(systemId, signal);
      return seen.kind === 'machine' ? { kind: 'accepted', machine: seen.machine } : seen;
    }
    const { failure } = answer;
    switch (failure.kind) {
      case 'absent':
        return { kind: 'gone' };
      case 'state': {
        const machine = await get(systemId, signal);
        if (machine === undefined) return { kind: 'gone' };
        return action.already(machine) ? { kind: 'accepted', machine } : { kind: 'wrong-state', machine };
      }
      case 'lost':
      case 'busy':
      case 'foreign': {
        const seen = await look(systemId, signal);
        if (seen.kind !== 'machine') return seen;
        // Not seen is not "did not happen": the region may still be working on it.
        if (!action.took(seen.machine)) return { kind: 'unknown', cause: toError(failure, call) };
        return { kind: 'accepted', machine: seen.machine };
      }
      case 'fault': {
        // The region broke, or the BMC did not obey and the region put the machine back.
        const seen = await look(systemId, signal);
        if (seen.kind !== 'machine') return seen;
        if (action.took(seen.machine)) return { kind: 'accepted', machine: seen.machine };
        throw new PcgError('MAAS_POWER_FAILED', `MAAS answered ${call.what} with: ${failure.text}`, {
          details: { systemId, status: seen.machine.status, powerState: seen.machine.powerState },
        });
      }
      case 'forbidden':
      case 'unable':
      case 'refused': {
        const machine = await get(systemId, signal);
        if (machine !== undefined && action.already(machine)) return { kind: 'accepted', machine };
        throw (await action.explain?.(failure, machine, signal)) ?? toError(failure, call);
      }
      default:
        throw toError(failure, call);
    }
  }

  /** Reads the machine after an answer that proves nothing. */
  async function look(
    systemId: string,
    signal: AbortSignal,
  ): Promise<{ kind: 'machine'; machine: Machine } | { kind: 'gone' } | { kind: 'unknown'; cause: unknown }> {
    try {
      const machine = await get(systemId, signal);
      return machine === undefined ? { kind: 'gone' } : { kind: 'machine', machine };
    } catch (cause) {
      if (signal.aborted) throw cause;
      return { kind: 'unknown', cause };
    }
  }

  return {
    list,
    get,
    allocate,
    deploy: async (systemId, request, signal) =>
      await act(
        systemId,
        {
          what: 'machines.deploy',
          op: 'deploy',
          form: deployForm(request),
          took: (machine) => machine.status === 'deploying' || machine.status === 'deployed',
          already: (machine) => machine.status === 'deploying',
          explain: (failure, machine, within) => evidence.explain(failure, request.image, machine, within),
          refusedTries: PRESEED_TRIES,
        },
        signal,
      ),
    release: (systemId, options, signal) =>
      act(
        systemId,
        {
          what: 'machines.release',
          op: 'release',
          form: [...eraseForm(options.erase), ...commentForm(options.comment)],
          took: isLetGo,
          already: isLetGo,
        },
        signal,
      ),
    abort: (systemId, comment, signal) =>
      act(
        systemId,
        {
          what: 'machines.abort',
          op: 'abort',
          form: commentForm(comment),
          took: (machine) => machine.status !== 'deploying' && machine.status !== 'disk_erasing',
          already: () => false,
          staleAnswer: true,
        },
        signal,
      ),
    async powerOn(systemId, signal) {
      // op=power_on DEPLOYS an Allocated machine: only machines with a system on them are switched on.
      const machine = await get(systemId, signal);
      if (machine === undefined) return { kind: 'gone' };
      if (machine.status !== 'deployed' && machine.status !== 'deploying')
        return { kind: 'wrong-state', machine };
      return await act(
        systemId,
        { what: 'machines.powerOn', op: 'power_on', form: [], took: isOn, already: isOn },
        signal,
      );
    },
    powerOff: (systemId, mode, signal) =>
      act(
        systemId,
        {
          what: 'machines.powerOff',
          op: 'power_off',
          form: [['stop_mode', mode]],
          took: (machine) => machine.powerState === 'off',
          already: (machine) => machine.powerState === 'off',
        },
        signal,
      ),
    markBroken: (systemId, comment, signal) =>
      act(
        systemId,
        {
          what: 'machines.markBroken',
          op: 'mark_broken',
          form: commentForm(comment),
          took: (machine) => machine.status === 'broken',
          already: (machine) => machine.status === 'broken',
        },
        signal,
      ),
    async setAnnotations(systemId, annotations, signal) {
      const form = Object.entries(annotations).map(([key, value]): [string, string] => {
        if (!ANNOTATION_KEY.test(key)) {
          throw new PcgError('INVALID_INPUT', 'annotation keys are 1-255 of letters, digits, _ . -', {
            field: key,
          });
        }
        if (value.length > MAX_ANNOTATION_CHARS) {
          throw new PcgError('INVALID_INPUT', `annotations are at most ${MAX_ANNOTATION_CHARS} characters`, {
            field: key,
          });
        }
        return [key, value];
      });
      if (form.length === 0) return;
      const path = `machines/${checkedId(systemId)}/`;
      const query: Pairs = [['op', 'set_workload_annotations']];
      // Merging the same values again changes nothing, so this may be repeated freely.
      await caller.ask(
        { what: 'machines.setAnnotations', lane: 'read', method: 'POST', path, query, form },
        signal,
      );
    },
    async queryPower(systemId, signal) {
      const call: MaasCall = {
        what: 'machines.queryPower',
        lane: 'power',
        method: 'GET',
        path: `machines/${checkedId(systemId)}/`,
        query: [['op', 'query_power_state']],
      };
      // Once only: a BMC that does not answer costs the region a slot for a minute each time.
      const answer = await caller.effect(call, signal);
      if (answer.kind === 'ok') return caller.parse(PowerWire, answer.reply, call.what).state;
      const error = toError(answer.failure, call);
      if (answer.failure.kind !== 'fault') throw error;
      throw new PcgError('MAAS_POWER_FAILED', error.message, { details: { systemId } });
    },
    async installationOutput(systemId, maxBytes, signal) {
      const call: MaasCall = {
        what: 'machines.installationOutput',
        lane: 'download',
        method: 'GET',
        path: `nodes/${checkedId(systemId)}/results/current-installation/`,
        query: [
          ['op', 'download'],
          ['output', 'combined'],
          ['filetype', 'txt'],
        ],
        tailBytes: maxBytes,
      };
      const answer = await caller.tryAsk(call, signal);
      if (answer.kind === 'failed') {
        const { kind } = answer.failure;
        if (kind === 'refused' || kind === 'invalid' || kind === 'absent') return undefined;
        throw toError(answer.failure, call);
      }
      const { body, truncated } = answer.reply;
      // A cut log starts at a whole line, which also drops half a character.
      return truncated ? body.slice(body.indexOf('\n') + 1) : body;
    },
  };
}

function checkedId(systemId: string): string {
  if (SYSTEM_ID.test(systemId)) return systemId;
  throw new PcgError('INVALID_INPUT', 'not a MAAS system id', { field: 'systemId' });
}

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}

function many(name: string, values: readonly (string | number)[] | undefined): Pairs {
  return (values ?? []).map((value) => [name, String(value)]);
}

function one(name: string, value: string | number | undefined): Pairs {
  return value === undefined ? [] : [[name, String(value)]];
}

/** A list that cannot be long must not wait behind one of the whole pool. */
function isSmall({ ids, agentName, hostnames }: MachineFilter): boolean {
  return (ids ?? hostnames)?.length === 1 || agentName !== undefined;
}

function filterQuery(filter: MachineFilter, ids: readonly string[] | undefined): Pairs {
  return [
    ...many('id', ids),
    ...one('agent_name', filter.agentName),
    ...many('status', filter.statuses),
    ...many('pool', filter.pools),
    ...many('zone', filter.zones),
    ...many('tags', filter.tags),
    ...many('not_tags', filter.notTags),
    ...one('cpu_count', filter.minCpu),
    ...one('mem', filter.minMemoryMiB),
    ...one('owner', filter.owner),
    ...many('hostname', filter.hostnames),
  ];
}

function allocateForm(request: AllocateRequest): Pairs {
  if (!AGENT_NAME.test(request.agentName)) {
    throw new PcgError('INVALID_INPUT', 'an agent name is 1-255 of letters, digits, _ . -', {
      field: 'agentName',
    });
  }
  const constraints: Pairs =
    request.systemId !== undefined
      ? [['system_id', checkedId(request.systemId)], ...commonConstraints(request)]
      : [
          ...commonConstraints(request),
          ...(request.minDiskGb === undefined ? [] : [['storage', `root:${request.minDiskGb}`] as const]),
          // When nothing is Ready, MAAS would compose a VM, looking at neither pool nor name.
          ...(request.allowVirtual ? [] : many('not_pod_type', ['lxd', 'virsh'])),
        ];
  if (constraints.length === 0) {
    throw new PcgError('INVALID_INPUT', 'an allocate without any constraint would take a random machine');
  }
  return [
    ...constraints,
    ['agent_name', request.agentName],
    ...commentForm(request.comment),
    ...(request.dryRun ? [['dry_run', 'true'] as const] : []),
  ];
}

/** Whether the request names anything besides the guard against VMs, so that it would not take just any machine. */
function isConstrained(request: AllocateRequest): boolean {
  return !request.allowVirtual && (request.minDiskGb !== undefined || commonConstraints(request).length > 0);
}

function commonConstraints(request: AllocateRequest): Pairs {
  return [
    ...one('pool', request.pool),
    ...many('zone', request.zones),
    ...one('cpu_count', request.minCpu),
    ...one('mem', request.minMemoryMiB),
    ...many('tags', request.tags),
    ...many('not_tags', request.notTags),
  ];
}

function deployForm(request: DeployRequest): Pairs {
  const userData = Buffer.from(request.userData, 'utf8').toString('base64');
  // Base64's + / = grow threefold in a form; this bounds the worst case well enough.
  if (userData.length * 1.1 > MAX_FORM_BYTES) {
    throw new PcgError('INVALID_INPUT', 'the user-data is larger than MAAS accepts (10 MiB in a request)', {
      field: 'userData',
    });
  }
  return [
    // MAAS ignores `osystem`, so the series carries it: ubuntu/noble, custom/<image>.
    ['distro_series', request.image],
    ['user_data', userData],
    ...one('hwe_kernel', request.hweKernel),
    ...commentForm(request.comment),
  ];
}

/** Up to 3.4 quick and secure have no effect without erase; later any of them implies it. */
function eraseForm(erase: EraseMode): Pairs {
  switch (erase) {
    case 'none':
      return [];
    case 'full':
      return [['erase', 'true']];
    case 'quick':
      return [
        ['erase', 'true'],
        ['quick_erase', 'true'],
      ];
    case 'secure':
      return [
        ['erase', 'true'],
        ['secure_erase', 'true'],
      ];
  }
}

function commentForm(comment: string | undefined): Pairs {
  return comment === undefined || comment === '' ? [] : [['comment', comment.slice(0, MAX_COMMENT_CHARS)]];
}

function isLetGo(machine: Machine): boolean {
  return ['releasing', 'disk_erasing', 'ready', 'new'].includes(machine.status);
}

function isOn(machine: Machine): boolean {
  return machine.powerState === 'on';
}

function mayHaveHappened(failure: MaasFailure): boolean {
  return ['lost', 'busy', 'fault', 'foreign'].includes(failure.kind);
}

function isRefusal(answer: { kind: 'ok' } | { kind: 'failed'; failure: MaasFailure }): boolean {
  return answer.kind === 'failed' && answer.failure.kind === 'refused' && answer.failure.status === 400;
}
