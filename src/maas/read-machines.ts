/** Reading machines: one by id, or filtered lists. Absent and hidden are both "undefined" for a single machine. */
import { PcgError } from '../base/errors.ts';
import type { MaasClient, Machine, MachineFilter } from './client.ts';
import { toError } from './errors.ts';
import type { MaasFailure } from './failure.ts';
import type { MaasCall } from './http.ts';
import { filterQuery, machinePath } from './machine-forms.ts';
import type { Caller } from './retry.ts';
import { MachineWire } from './schema.ts';

/** nginx in front of MAAS takes request lines of 8 KiB: `id=abcdef&` x 150 is 1.5 KiB with room for names. */
export const IDS_PER_REQUEST = 150;

export type MachineReader = Pick<MaasClient['machines'], 'get' | 'list'>;

export function createMachineReader(caller: Caller): MachineReader {
  async function get(systemId: string, signal: AbortSignal): Promise<Machine | undefined> {
    const call: MaasCall = {
      what: 'machines.get',
      lane: 'read',
      method: 'GET',
      path: machinePath(systemId),
    };
    const answer = await caller.tryAsk(call, signal);
    if (answer.kind === 'failed') {
      if (isHidden(answer.failure)) return undefined;
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

  return { get, list };
}

/** A machine of somebody else is 403 without a body; a 403 with words is about the user, and says nothing of the machine. */
function isHidden(failure: MaasFailure): boolean {
  return failure.kind === 'absent' || (failure.kind === 'forbidden' && failure.text === '');
}

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}

/** A list that cannot be long must not wait behind one of the whole pool. */
function isSmall({ ids, agentName, hostnames }: MachineFilter): boolean {
  return (ids ?? hostnames)?.length === 1 || agentName !== undefined;
}
