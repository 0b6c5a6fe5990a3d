/**
 * One effect on one machine (deploy, release, abort, power, mark broken). After an answer that cannot be
 * trusted (504, reset, deadline) the machine is read back; the effect is never repeated blindly, because in
 * between the machine may have become somebody else's.
 */
import { PcgError } from '../base/errors.ts';
import type { ActionOutcome, Machine } from './client.ts';
import { toError } from './errors.ts';
import type { MaasFailure, MaasReply } from './failure.ts';
import type { MaasCall, Pairs } from './http.ts';
import { machinePath } from './machine-forms.ts';
import type { MachineReader } from './read-machines.ts';
import type { Caller } from './retry.ts';
import { MaybeMachineWire } from './schema.ts';

/** An effect on one machine, and how to see afterwards that it has happened. */
export interface Action {
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
  /** Tries while MAAS answers 400 as text and a moment may help. */
  readonly refusedTries?: number;
  /** The answer shows the state before the action. */
  readonly staleAnswer?: boolean;
}

export type Act = (systemId: string, action: Action, signal: AbortSignal) => Promise<ActionOutcome>;

export function createAct(caller: Caller, { get }: Pick<MachineReader, 'get'>): Act {
  async function act(systemId: string, action: Action, signal: AbortSignal): Promise<ActionOutcome> {
    const call: MaasCall = {
      what: action.what,
      lane: 'action',
      method: 'POST',
      path: machinePath(systemId),
      query: [['op', action.op]],
      form: action.form,
    };
    let answer = await caller.effect(call, signal);
    for (let tried = 1; tried < (action.refusedTries ?? 1) && isRefusal(answer); tried += 1) {
      await caller.pause(tried, signal);
      answer = await caller.effect(call, signal);
    }
    if (answer.kind === 'ok') {
      const answered = readAnswer(answer.reply);
      if (answered.kind === 'machine' && answered.machine.systemId === systemId && !action.staleAnswer) {
        return { kind: 'accepted', machine: answered.machine };
      }
      const seen = await look(systemId, signal);
      if (seen.kind !== 'machine') return seen;
      // Success without a readable machine may come from something else than MAAS.
      const sure = answered.kind !== 'unreadable' || action.took(seen.machine);
      return sure ? { kind: 'accepted', machine: seen.machine } : { kind: 'unknown', cause: answered.cause };
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
        // A locked machine is refused like a machine of somebody else, by a 403 without a word.
        if (machine?.locked && failure.kind === 'forbidden' && failure.text === '')
          return { kind: 'wrong-state', machine };
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

  /** `nothing`: MAAS says `null` when it cannot control the machine's power. */
  function readAnswer(
    reply: MaasReply,
  ): { kind: 'machine'; machine: Machine } | { kind: 'nothing' } | { kind: 'unreadable'; cause: unknown } {
    try {
      const machine = caller.parse(MaybeMachineWire, reply, 'an action on a machine');
      return machine === null ? { kind: 'nothing' } : { kind: 'machine', machine };
    } catch (cause) {
      return { kind: 'unreadable', cause };
    }
  }

  return act;
}

function isRefusal(answer: { kind: 'ok' } | { kind: 'failed'; failure: MaasFailure }): boolean {
  return answer.kind === 'failed' && answer.failure.kind === 'refused' && answer.failure.status === 400;
}
