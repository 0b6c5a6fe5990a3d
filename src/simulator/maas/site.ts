/** What handlers need besides the books: time, faults and how slow this MAAS is. Carried by every call. */
import type { Faults } from './faults.ts';
import type { MachineLife } from './life.ts';
import type { MachineCache } from './machine-cache.ts';

/** Real milliseconds (never scaled by speed): the load of MAAS itself. */
export interface Latency {
  /** Every API request. */
  readonly requestMs?: number;
  /** Each machine that a list renders. */
  readonly listedMachineMs?: number;
  readonly allocateMs?: number;
  readonly deployMs?: number;
}

export interface Site {
  readonly life: MachineLife;
  readonly faults: Faults;
  readonly latency: Latency;
  readonly cache: MachineCache;
  /** Serialises allocations, as MAAS's database lock does. */
  readonly allocating: { turn: Promise<void> };
  /** Waits real time. */
  readonly wait: (ms: number) => Promise<void>;
}
