/**
 * Cloud accounts on the gateway: the local one from the settings and those that the portal sent (their key
 * sealed to this gateway). Each account owns one MAAS client and one observer for all of its clusters.
 * A broken account is a coded problem for those who ask for it, never a crash.
 */
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import { PcgError, toProblem } from '../base/errors.ts';
import { type Log, Secret } from '../base/log.ts';
import { runForever } from '../base/loop.ts';
import { accountSealContext, type CloudAccountDocument } from '../contract/cloud-account.ts';
import type { ProblemDetails } from '../contract/errors.ts';
import { createMaasClient, type MaasRestClient } from '../maas/rest-client.ts';
import { createMaasObserver, type MaasObserver } from '../maas/observer.ts';
import { COLLECTIONS, type Records } from '../store/records.ts';
import type { StoredDocument } from './sync.ts';

/** How often an account's version and rights are looked at again, ms; failing accounts sooner. */
const PROBE_INTERVAL_MS = 300_000;
const FAILING_PROBE_INTERVAL_MS = 15_000;
/** A region that was asked and says nothing for so long is shown as failed; it may take half a minute to list many machines. */
const SILENT_MS = 45_000;
/** How often an account is looked at; costs no request. */
const LOOK_MS = 5_000;

export interface AccountHandle {
  readonly maas: MaasRestClient;
  readonly observer: MaasObserver;
  readonly endpoint: string;
  readonly caPem: string | undefined;
}

export type AccountState =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'ready'; readonly maasVersion: string; readonly username: string }
  | { readonly kind: 'failed'; readonly problem: ProblemDetails };

interface Entry extends AccountHandle {
  state: AccountState;
  readonly stop: AbortController;
  running: Promise<void>;
}

export interface AccountsOptions {
  readonly records: Records;
  readonly clock: Clock;
  readonly log: Log;
  /** The account of the settings file, under this id. */
  readonly local: { id: string; endpoint: string; apiKey: Secret; caPem?: string } | undefined;
  /** Opens a key that was sealed to this gateway. */
  readonly openSealed: (sealed: string, context: string) => Secret;
  readonly pollActiveMs: number;
  readonly pollIdleMs: number;
  /** An account became usable or failed: clusters of it should look again. */
  readonly onChange: (accountId: string) => void;
}

export class Accounts implements AsyncDisposable {
  readonly #options: AccountsOptions;
  readonly #entries = new Map<string, Entry | PcgError>();

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /** Starts the accounts that are known. */
  async start(): Promise<void> {
    const { local, records } = this.#options;
    if (local) this.#open(local.id, local.endpoint, () => local.apiKey, local.caPem);
    for (const { key, value } of await records.list<StoredDocument>(COLLECTIONS.documents)) {
      if (key.startsWith('cloud-account/') && value.spec !== null)
        this.#openDocument(value.spec as CloudAccountDocument);
    }
  }

  /** The account's client and observer, or why there is none. */
  client(accountId: string): AccountHandle | PcgError {
    const entry = this.#entries.get(accountId);
    return (
      entry ??
      new PcgError('NOT_FOUND', `this gateway has no cloud account "${accountId}"`, { field: 'cloudAccount' })
    );
  }

  /** Every account with its endpoint and newest verdict. */
  list(): { id: string; endpoint: string; state: AccountState }[] {
    return [...this.#entries].map(([id, entry]) =>
      entry instanceof PcgError
        ? { id, endpoint: '', state: { kind: 'failed', problem: toProblem(entry) } }
        : { id, endpoint: entry.endpoint, state: entry.state },
    );
  }

  /** A document of kind cloud-account was written. */
  async documentChanged(accountId: string): Promise<void> {
    // The portal adopted the account of the settings: its document names it and changes nothing here.
    if (accountId === this.#options.local?.id) return;
    await this.#close(accountId);
    const stored = await this.#options.records.get<StoredDocument>(
      COLLECTIONS.documents,
      `cloud-account/${accountId}`,
    );
    if (stored?.value.spec) this.#openDocument(stored.value.spec as CloudAccountDocument);
    this.#options.onChange(accountId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of Array.from(this.#entries.keys())) await this.#close(id);
  }

  #openDocument(document: CloudAccountDocument): void {
    const { local, openSealed } = this.#options;
    const { sealedKey } = document;
    if (sealedKey === undefined || document.id === local?.id) return;
    this.#open(
      document.id,
      document.endpoint,
      () => openSealed(sealedKey, accountSealContext(document.id)),
      document.caPem,
    );
  }

  #open(id: string, endpoint: string, apiKey: () => Secret, caPem: string | undefined): void {
    const { clock, log, pollActiveMs, pollIdleMs } = this.#options;
    try {
      const maas = createMaasClient({
        endpoint,
        apiKey: apiKey(),
        clock,
        log,
        ...(caPem === undefined ? {} : { caPem }),
      });
      const observer = createMaasObserver({
        client: maas,
        clock,
        log,
        intervals: { activeMs: pollActiveMs, idleMs: pollIdleMs },
      });
      const stop = new AbortController();
      const entry: Entry = {
        maas,
        observer,
        endpoint,
        caPem,
        state: { kind: 'unknown' },
        stop,
        running: Promise.resolve(),
      };
      this.#entries.set(id, entry);
      entry.running = Promise.all([observer.run(stop.signal), this.#probe(id, entry)]).then(() => undefined);
    } catch (error) {
      const problem =
        error instanceof PcgError
          ? error
          : new PcgError('INTERNAL', 'the cloud account cannot be used', { cause: error });
      log.error({ account: id, code: problem.code, err: problem }, 'cloud account unusable');
      this.#entries.set(id, problem);
    }
  }

  async #close(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    if (!entry || entry instanceof PcgError) return;
    entry.stop.abort();
    await entry.running;
    await entry.maas[Symbol.asyncDispose]();
  }

  /** Asks version and identity now and then, and hears when nothing is answered, so that status never shows a stale green. */
  async #probe(id: string, entry: Entry): Promise<void> {
    const { clock, log, onChange } = this.#options;
    let askedAt = Number.NEGATIVE_INFINITY;
    await runForever<AccountState>({
      clock,
      signal: entry.stop.signal,
      attempt: async (signal) => {
        const ready = entry.state.kind === 'ready';
        if (ready && entry.maas.silentMs >= SILENT_MS) throw silent(entry.maas.silentMs);
        const now = clock.monotonic();
        if (now - askedAt < (ready ? PROBE_INTERVAL_MS : FAILING_PROBE_INTERVAL_MS)) return entry.state;
        askedAt = now;
        // Each for itself: a region that needs half a minute for everything is slow, and answers.
        const ask = async <T>(question: (bounded: AbortSignal) => Promise<T>) =>
          await withDeadline(clock, SILENT_MS, 'asking MAAS who we are', signal, question);
        const { version } = await ask((bounded) => entry.maas.version(bounded));
        const { username } = await ask((bounded) => entry.maas.whoami(bounded));
        return { kind: 'ready', maasVersion: version, username };
      },
      onError: (error) => ({
        kind: 'failed',
        problem: toProblem(error instanceof DeadlineError ? silent(error.timeoutMs) : error),
      }),
      delayMs: (state) => {
        const changed = entry.state.kind !== state.kind;
        entry.state = state;
        if (changed) {
          const code = state.kind === 'failed' ? { code: state.problem.code } : {};
          log.info({ account: id, state: state.kind, ...code }, 'cloud account state');
          onChange(id);
        }
        return LOOK_MS;
      },
    });
  }
}

const silent = (ms: number): PcgError =>
  new PcgError('MAAS_UNREACHABLE', `MAAS has answered nothing for ${Math.round(ms / 1000)} s`, {
    fix: 'It keeps the connections and does not answer: see whether the region hangs or is overloaded, or what is in front of it.',
  });
