/**
 * Who took what and when: the simulator's own account of the site, kept beside the API so that a test can
 * prove that nothing leaked. Written by the code that changes ownership, never by what clients claim.
 */

export type LedgerAction =
  | 'allocate'
  | 'deploy'
  | 'deployed'
  | 'deploy-failed'
  | 'release'
  | 'released'
  | 'delete'
  | 'reserve-ip'
  | 'release-ip';

export interface LedgerEntry {
  readonly at: number;
  readonly action: LedgerAction;
  readonly user: string;
  readonly agentName: string;
  /** Machine actions. */
  readonly systemId?: string;
  readonly hostname?: string;
  /** `deploy`: what its owner had noted on the machine by then. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** Address actions. */
  readonly ip?: string;
}

export interface Holding {
  readonly systemId: string;
  readonly hostname: string;
  readonly user: string;
  readonly agentName: string;
  readonly since: number;
}

export interface DoubleAllocation {
  readonly kind: 'machine' | 'agent-name';
  /** The machine that had two owners at once, or the agent name that held two machines at once. */
  readonly subject: string;
  readonly at: number;
  readonly holders: readonly string[];
}

export class Ledger {
  readonly #entries: LedgerEntry[] = [];
  readonly #holdings = new Map<string, Holding>();
  readonly #addresses = new Map<string, { readonly user: string; readonly since: number }>();
  readonly #doubles: DoubleAllocation[] = [];

  record(entry: LedgerEntry): void {
    this.#entries.push(entry);
    const { systemId, ip } = entry;
    if (entry.action === 'allocate' && systemId) this.#take(entry, systemId);
    if ((entry.action === 'released' || entry.action === 'delete') && systemId)
      this.#holdings.delete(systemId);
    if (entry.action === 'reserve-ip' && ip) this.#addresses.set(ip, { user: entry.user, since: entry.at });
    if (entry.action === 'release-ip' && ip) this.#addresses.delete(ip);
  }

  #take(entry: LedgerEntry, systemId: string): void {
    const { at, user, agentName, hostname = '' } = entry;
    const previous = this.#holdings.get(systemId);
    if (previous)
      this.#doubles.push({
        kind: 'machine',
        subject: systemId,
        at,
        holders: [previous.agentName || previous.user, agentName || user],
      });
    if (agentName) {
      const others = [...this.#holdings.values()].filter((held) => held.agentName === agentName);
      if (others.length > 0)
        this.#doubles.push({
          kind: 'agent-name',
          subject: agentName,
          at,
          holders: [...others.map((held) => held.systemId), systemId],
        });
    }
    this.#holdings.set(systemId, { systemId, hostname, user, agentName, since: at });
  }

  /** Everything in the order in which it happened. */
  entries(): readonly LedgerEntry[] {
    return this.#entries;
  }

  /** Machines taken through the API and not back yet: after everything was deleted, these leaked. */
  leaked(): Holding[] {
    return [...this.#holdings.values()];
  }

  /** Addresses reserved through the API and not released. */
  leakedAddresses(): { ip: string; user: string; since: number }[] {
    return [...this.#addresses].map(([ip, held]) => ({ ip, ...held }));
  }

  /** Every moment at which one machine had two owners; of `machine` kind there must be none. */
  doublyAllocated(): DoubleAllocation[] {
    return this.#doubles.filter((double) => double.kind === 'machine');
  }

  /** Moments at which one agent name held several machines: right for names per cluster, a leak for names per node. */
  sharedAgentNames(): DoubleAllocation[] {
    return this.#doubles.filter((double) => double.kind === 'agent-name');
  }

  toJSON(): Record<string, unknown> {
    return {
      entries: this.#entries,
      leaked: this.leaked(),
      leakedAddresses: this.leakedAddresses(),
      doublyAllocated: this.doublyAllocated(),
      sharedAgentNames: this.sharedAgentNames(),
    };
  }
}
