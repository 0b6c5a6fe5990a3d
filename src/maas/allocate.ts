/**
 * Allocate: the one call that must never be sent twice without looking. Its reply can be lost while the
 * machine is already ours; the agent name given along is how it is found again.
 */
import type { AllocateOutcome, AllocateRequest, Machine } from './client.ts';
import { toError } from './errors.ts';
import type { MaasFailure } from './failure.ts';
import type { MaasCall } from './http.ts';
import { allocateForm, isConstrained } from './machine-forms.ts';
import type { MachineReader } from './read-machines.ts';
import type { Caller } from './retry.ts';
import { MachineWire } from './schema.ts';

/** Look-ups by agent name after an allocate whose answer was lost; the region may still be working on it. */
const LOOKUPS_AFTER_LOSS = 4;
/** Sendings of one allocate for a named machine; MAAS answers 409 to a second one, so repeating is safe. */
const ALLOCATE_SENDINGS = 3;

export type Allocate = (request: AllocateRequest, signal: AbortSignal) => Promise<AllocateOutcome>;

export function createAllocate(caller: Caller, { list }: Pick<MachineReader, 'list'>): Allocate {
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
    // Whatever carries the name is the answer, also another machine than the one asked for: asking again would take a second one.
    const mine = async () => {
      const found = await list({ agentName }, signal);
      return found.find((machine) => machine.systemId === systemId) ?? found[0];
    };
    let doubtful = false;
    for (let sending = 1; ; sending += 1) {
      const answer = request.dryRun ? await caller.tryAsk(call, signal) : await caller.effect(call, signal);
      let cause: unknown;
      if (answer.kind === 'ok') {
        try {
          return { kind: 'allocated', machine: caller.parse(MachineWire, answer.reply, call.what), doubtful };
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
          if (systemId === undefined) return { kind: 'none', reason: failure.text, doubtful };
          // MAAS words "unknown", "busy" and "already yours" alike.
          const machine = request.dryRun ? undefined : await mine();
          return machine === undefined
            ? { kind: 'taken', systemId, doubtful }
            : { kind: 'allocated', machine, doubtful };
        }
        if (request.dryRun || !mayHaveHappened(failure)) throw toError(failure, call);
        cause = toError(failure, call);
      }
      doubtful = true;
      const found = await lookUp(mine, signal);
      if (found !== undefined) return { kind: 'allocated', machine: found, doubtful };
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

  return allocate;
}

function mayHaveHappened(failure: MaasFailure): boolean {
  return ['lost', 'busy', 'fault', 'foreign'].includes(failure.kind);
}
