/**
 * The machines that the MAAS user of an account owns, each with its stamp: one list for everybody who asks at the
 * same time, because each machine in it costs MAAS about 30 ms. Between allocate and the annotations a machine
 * carries its stamp only as agent name, which MAAS does not show; but the comment of allocate stands in the event
 * log, and MAAS confirms the name that it tells.
 */
import type { MaasClient, Machine } from '../maas/client.ts';
import { createRounds } from '../maas/rounds.ts';
import { agentName, parseAgentName, type Stamp, stampOf } from './ownership.ts';

export interface OwnedMachine {
  readonly machine: Machine;
  /** Of the annotations, else of the agent name; undefined: not allocated by any gateway, as far as MAAS tells. */
  readonly stamp: Stamp | undefined;
}

/** Resolves with a list begun after the question. Rejects when MAAS cannot be asked or `signal` aborts. */
export type AskOwned = (signal: AbortSignal) => Promise<readonly OwnedMachine[]>;

/** MAAS's event of an allocate; its description is "(user) - comment". */
const ACQUIRED = 'User acquiring node';
/** Newest events of a machine that are looked through; what follows an allocate is a handful before annotations. */
const EVENTS_READ = 100;
/** So many machines without annotations are looked up for one list; a person's own machines may be many. */
const LOOKED_UP = 20;

const COMMENT = /pcg (\S+) for cluster /;

/** What allocate leaves in MAAS's event log. */
export function allocateComment(stamp: Stamp, clusterName: string): string {
  return `pcg ${agentName(stamp)} for cluster ${clusterName}`;
}

export function createAskOwned(maas: MaasClient): AskOwned {
  const ask = createRounds<undefined, readonly OwnedMachine[]>(async (_wishes, signal) => {
    const { username } = await maas.whoami(signal);
    const machines = await maas.machines.list({ owner: username }, signal);
    let lookUps = LOOKED_UP;
    const owned: OwnedMachine[] = [];
    for (const machine of machines) {
      const stamp = stampOf(machine);
      const named = stamp === undefined && lookUps-- > 0 ? await stampByName(maas, machine, signal) : stamp;
      owned.push({ machine, stamp: named });
    }
    return owned;
  });
  return (signal) => ask(undefined, signal);
}

/** The event only says what to ask for: that the machine still stands under that name is MAAS's word. */
async function stampByName(
  maas: MaasClient,
  { systemId }: Machine,
  signal: AbortSignal,
): Promise<Stamp | undefined> {
  const events = await maas.events({ ids: [systemId], level: 'DEBUG', limit: EVENTS_READ }, signal);
  const last = events.findLast(({ type, systemId: of }) => type === ACQUIRED && of === systemId);
  const stamp = parseAgentName(COMMENT.exec(last?.description ?? '')?.[1] ?? '');
  if (stamp === undefined) return undefined;
  const found = await maas.machines.list({ ids: [systemId], agentName: agentName(stamp) }, signal);
  return found.some((machine) => machine.systemId === systemId) ? stamp : undefined;
}
