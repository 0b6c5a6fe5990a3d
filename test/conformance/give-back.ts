/**
 * Gives back what a run allocated, found by its agent name, until MAAS has it: unlocks, releases, looks again.
 * MAAS forgets the name when a release starts, so machines seen once are followed by their id.
 */
import type { Clock } from '../../src/base/clock.ts';
import type { Caller } from '../support/maas-caller.ts';

export interface GiveBackOptions {
  readonly clock: Clock;
  readonly pollMs: number;
  /** How long MAAS may take, milliseconds. */
  readonly withinMs: number;
  /** An allocation may still be under way: the name is looked for at least for this long, milliseconds. */
  readonly lookMs: number;
  /** A machine that was taken under the name, if it was: MAAS may have forgotten the name. */
  readonly known?: string | undefined;
}

export interface GiveBackDoor {
  readonly call: Caller;
  /** Whose machines they are. */
  readonly username: string;
}

interface Body {
  readonly system_id: string;
  readonly owner: string | null;
  readonly locked: boolean;
  readonly status_name: string;
  readonly owner_data: Readonly<Record<string, string>>;
}

const UNDER_WAY = new Set(['Releasing', 'Disk erasing']);
/** Kept by MAAS until the release has ended, which the agent name is not. */
const MARK = 'pcg-conformance';

/** Makes a machine recognisable for as long as it is ours. */
export async function mark(call: Caller, systemId: string, agentName: string): Promise<void> {
  await call('POST', `machines/${systemId}/?op=set_owner_data`, { [MARK]: agentName });
}

/** System ids that were given back. Throws when MAAS still holds one at the end. */
export async function giveBack(
  { call, username: me }: GiveBackDoor,
  agentName: string,
  options: GiveBackOptions,
): Promise<string[]> {
  const { clock } = options;
  const startMs = clock.monotonic();
  const ours = new Map<string, string>();
  if (options.known !== undefined) ours.set(options.known, 'unknown');
  const seen = new Set<string>();
  let lastError: unknown;
  /** One round; false when MAAS could not be asked for the name. */
  const round = async (): Promise<boolean> => {
    const listed = await call('GET', `machines/?agent_name=${encodeURIComponent(agentName)}`);
    const named = new Map(((listed.json ?? []) as Body[]).map((body) => [body.system_id, body]));
    for (const [id, { status_name: status }] of named) ours.set(id, status);
    for (const id of [...ours.keys()]) {
      seen.add(id);
      const { status, json } = await call('GET', `machines/${id}/`);
      if (status !== 200 && status !== 403 && status !== 404) continue;
      const body: Body | undefined = status === 200 ? json : undefined;
      // The same user may hold it for something else by now.
      const isOurs = named.has(id) || body?.owner_data[MARK] === agentName;
      if (body === undefined || body.owner !== me || !isOurs) {
        ours.delete(id);
        continue;
      }
      ours.set(id, body.status_name);
      if (UNDER_WAY.has(body.status_name)) continue;
      if (body.locked) await call('POST', `machines/${id}/?op=unlock`);
      await mark(call, id, agentName);
      await call('POST', `machines/${id}/?op=release`, { comment: 'end of the conformance run' });
    }
    return listed.status === 200;
  };
  for (;;) {
    let asked = false;
    try {
      asked = await round();
    } catch (error) {
      lastError = error; // no answer: the next round looks again
    }
    const elapsedMs = clock.monotonic() - startMs;
    if (asked && ours.size === 0 && elapsedMs >= options.lookMs) return [...seen];
    if (elapsedMs > options.withinMs) {
      const left = [...ours].map(([id, status]) => `${id} (${status})`).join(', ');
      throw new Error(
        `MAAS has not taken back ${left || 'whatever it holds'}: release it by hand; its agent name is ${agentName}`,
        { cause: lastError },
      );
    }
    await clock.sleep(options.pollMs);
  }
}
