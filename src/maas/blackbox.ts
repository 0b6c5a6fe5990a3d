/**
 * The black-box recorder: what MAAS knows about a machine that failed, kept before the machine is released
 * and its traces are wiped. Bounded in time and size, free of credentials, and never in the way: a part
 * that cannot be read is named, not thrown.
 */
import { type Clock, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { MaasClient, MaasEvent, Machine } from './client.ts';
import { scrub } from './scrub.ts';

export interface BlackboxLimits {
  readonly events: number;
  readonly outputBytes: number;
  /** For everything together; the machine waits for its release meanwhile. */
  readonly timeoutMs: number;
}

/** An installation writes some 200 events; the end of its log tells what failed. Fits one document. */
export const BLACKBOX_LIMITS: BlackboxLimits = { events: 300, outputBytes: 128 << 10, timeoutMs: 60_000 };

export type BlackboxPart = 'machine' | 'events' | 'installation-output';

export interface Blackbox {
  readonly systemId: string;
  /** ISO 8601. */
  readonly collectedAt: string;
  readonly machine:
    | Pick<
        Machine,
        | 'hostname'
        | 'status'
        | 'statusName'
        | 'statusMessage'
        | 'errorDescription'
        | 'powerState'
        | 'powerType'
        | 'zone'
        | 'pool'
        | 'osystem'
        | 'distroSeries'
        | 'ipAddresses'
      >
    | undefined;
  /** Oldest first. */
  readonly events: readonly MaasEvent[];
  /** End of the installation log; undefined when MAAS has none. */
  readonly installationOutput: string | undefined;
  /** Parts that could not be read, with the code of the reason. */
  readonly missing: readonly { readonly part: BlackboxPart; readonly code: string }[];
}

/** Rejects only when `signal` aborts. */
export async function collectBlackbox(
  options: { readonly client: MaasClient; readonly clock: Clock; readonly limits?: Partial<BlackboxLimits> },
  systemId: string,
  signal: AbortSignal,
): Promise<Blackbox> {
  const { client, clock } = options;
  const limits = { ...BLACKBOX_LIMITS, ...options.limits };
  const missing: { part: BlackboxPart; code: string }[] = [];
  const endMs = clock.monotonic() + limits.timeoutMs;

  async function part<T>(
    name: BlackboxPart,
    read: (bounded: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> {
    const leftMs = Math.max(0, endMs - clock.monotonic());
    try {
      return await withDeadline(clock, leftMs, name, signal, read);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      missing.push({ part: name, code: error instanceof PcgError ? error.code : 'DEADLINE' });
      return undefined;
    }
  }

  const machine = await part('machine', (bounded) => client.machines.get(systemId, bounded));
  const events = await part('events', (bounded) =>
    client.events({ ids: [systemId], level: 'DEBUG', limit: limits.events }, bounded),
  );
  const output = await part('installation-output', (bounded) =>
    client.machines.installationOutput(systemId, limits.outputBytes, bounded),
  );
  return {
    systemId,
    collectedAt: new Date(clock.now()).toISOString(),
    machine: machine && {
      hostname: machine.hostname,
      status: machine.status,
      statusName: machine.statusName,
      statusMessage: scrub(machine.statusMessage),
      errorDescription: scrub(machine.errorDescription),
      powerState: machine.powerState,
      powerType: machine.powerType,
      zone: machine.zone,
      pool: machine.pool,
      osystem: machine.osystem,
      distroSeries: machine.distroSeries,
      ipAddresses: machine.ipAddresses,
    },
    events: (events ?? []).map((event) => ({ ...event, description: scrub(event.description) })),
    installationOutput: output === undefined ? undefined : scrub(output),
    missing,
  };
}
