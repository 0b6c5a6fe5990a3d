/**
 * All that is done with machines, each call with the guard against its trap. Reading is in
 * `read-machines.ts`, allocate in `allocate.ts`, how an effect is made and resolved in `act.ts`.
 */
import { PcgError } from '../base/errors.ts';
import { createAct } from './act.ts';
import { createAllocate } from './allocate.ts';
import type { Machine, MaasClient } from './client.ts';
import type { DeployEvidence } from './deploy-evidence.ts';
import { toError } from './errors.ts';
import type { MaasCall, Pairs } from './http.ts';
import { annotationForm, commentForm, deployForm, eraseForm, machinePath } from './machine-forms.ts';
import { createMachineReader } from './read-machines.ts';
import type { Caller } from './retry.ts';
import { PowerWire } from './schema.ts';

/** Deploys in a row that fail to render the preseed; the wrapper hides a conflict that is gone a moment later. */
const PRESEED_TRIES = 4;

export interface MachineDeps {
  readonly caller: Caller;
  readonly evidence: DeployEvidence;
}

export function createMachines({ caller, evidence }: MachineDeps): MaasClient['machines'] {
  const reader = createMachineReader(caller);
  const { get, list } = reader;
  const act = createAct(caller, reader);

  return {
    list,
    get,
    allocate: createAllocate(caller, reader),
    deploy: async (systemId, request, signal) => {
      const outcome = await act(
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
      );
      if (outcome.kind === 'accepted') refuseOtherKernel(request.hweKernel, outcome.machine);
      return outcome;
    },
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
      const form = annotationForm(annotations);
      if (form.length === 0) return;
      const path = machinePath(systemId);
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
        path: machinePath(systemId),
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
        path: `${machinePath(systemId, 'nodes')}results/current-installation/`,
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

/** MAAS replaces a kernel that it does not have by its default, and says nothing. */
function refuseOtherKernel(wanted: string | undefined, machine: Machine): void {
  const { hweKernel: got = '', hostname, systemId } = machine;
  if (wanted === undefined || got === '' || got === wanted) return;
  throw new PcgError(
    'MAAS_IMAGE_MISSING',
    `${hostname} installs kernel ${got}, because MAAS has no ${wanted}`,
    {
      field: 'hweKernel',
      details: { systemId, wanted, got },
    },
  );
}

function isLetGo(machine: Machine): boolean {
  return ['releasing', 'disk_erasing', 'ready', 'new'].includes(machine.status);
}

function isOn(machine: Machine): boolean {
  return machine.powerState === 'on';
}
