/**
 * A whole site as separate processes, the way a user runs it: simulator, portal, agent. Tests kill, stop and
 * restart them by handle. Everything lies in one temporary directory and is gone with the site.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { PortalClient } from '../../src/cli/portal-client.ts';
import { type Program, startProgram } from '../../src/cli/programs.ts';
import { readLedger } from '../../src/cli/simulator-client.ts';
import { type Cluster, ClusterSchema, type ClusterSpecInput } from '../../src/contract/cluster.ts';
import { DEFAULT_PROFILE } from '../../src/contract/default-profile.ts';
import type { Event } from '../../src/contract/events.ts';
import { GIVE_UP_MS } from './eventually.ts';
import { ownPort } from './own-port.ts';
import { bareEnvironment } from './program.ts';

export const EMAIL = 'admin@site.test';
export const PASSWORD = 'correct horse battery staple';

/**
 * The gateway's deadlines shrink this much less than the simulated hardware does: what it waits for also takes the time of
 * processes, of which a busy machine takes several times as much.
 */
const PATIENCE = 4;

export interface SiteOptions {
  readonly speed?: number;
  readonly machines?: number;
  readonly simulatorArgs?: readonly string[];
}

export class Site implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'pcg-site-'));
  readonly #signal = new AbortController();
  readonly #options: SiteOptions;
  readonly #speed: number;
  simulator!: Program;
  portal: Program | undefined;
  agent: Program | undefined;
  client!: PortalClient;
  account = '';
  /** Known from the start: the portal stops and comes back on it. */
  readonly #portalPort: number;

  private constructor(options: SiteOptions, portalPort: number) {
    this.#options = options;
    this.#portalPort = portalPort;
    this.#speed = options.speed ?? 200;
  }

  /** Simulator and portal up, agent paired and running, default cloud account known. */
  static async start(options: SiteOptions = {}): Promise<Site> {
    const site = new Site(options, await ownPort());
    try {
      await site.startSimulator();
      await site.startPortal();
      await site.pair();
      await site.startAgent();
      await site.waitForAccount();
      return site;
    } catch (error) {
      await site[Symbol.asyncDispose]();
      throw error;
    }
  }

  static async withoutAgent(options: SiteOptions = {}): Promise<Site> {
    const site = new Site(options, await ownPort());
    await site.startSimulator();
    await site.startPortal();
    return site;
  }

  get maasUrl(): string {
    return String(this.simulator.ready['maasUrl']);
  }
  get portalUrl(): string {
    return `http://127.0.0.1:${this.#portalPort}`;
  }

  async startSimulator(): Promise<void> {
    const { machines = 30, simulatorArgs = [] } = this.#options;
    this.simulator = await this.run('simulator', [
      'simulate',
      '--port',
      '0',
      '--machines',
      String(machines),
      '--speed',
      String(this.#speed),
      ...simulatorArgs,
    ]);
  }

  /** `args`: more options of `pcg portal`, e.g. `--public-url` with something in between. */
  async startPortal(args: readonly string[] = []): Promise<void> {
    this.portal = await this.run(
      'portal',
      [
        'portal',
        '--port',
        String(this.#portalPort),
        '--store',
        join(this.directory, 'portal.db'),
        '--admin-email',
        EMAIL,
        ...args,
      ],
      { PCG_ADMIN_PASSWORD: PASSWORD },
    );
    await this.client?.[Symbol.asyncDispose]();
    this.client = new PortalClient(this.portalUrl, systemClock);
    await this.client.signIn(EMAIL, PASSWORD, this.#signal.signal);
  }

  async stopPortal(): Promise<void> {
    await this.portal?.[Symbol.asyncDispose]();
    this.portal = undefined;
  }

  async pairingCode(gatewayName = 'site'): Promise<string> {
    const code = (await this.client.call(
      'POST',
      '/api/v1/pairing-codes',
      { gatewayName },
      this.#signal.signal,
    )) as { code: string };
    return code.code;
  }

  async pair(code?: string, portalUrl = this.portalUrl): Promise<Program> {
    const program = await this.run('pair', ['pair', '--portal-url', portalUrl], {
      PCG_PAIRING_CODE: code ?? (await this.pairingCode()),
    });
    await program.exited;
    return program;
  }

  async startAgent(environment: Record<string, string> = {}): Promise<void> {
    this.agent = await this.run('agent', ['agent'], environment);
  }

  /** kill -9, no goodbye. Returns when the process is gone. */
  async killAgent(): Promise<void> {
    this.agent?.kill('SIGKILL');
    await this.agent?.exited;
    this.agent = undefined;
  }

  async waitForAccount(): Promise<void> {
    await this.until('a cloud account', async () => {
      const { items } = (await this.client.call(
        'GET',
        '/api/v1/cloud-accounts',
        undefined,
        this.#signal.signal,
      )) as { items: { id: string }[] };
      this.account = items[0]?.id ?? '';
      return this.account !== '';
    });
  }

  spec(overrides: { name?: string; controlPlane?: 1 | 3 | 5; workers?: number } = {}): ClusterSpecInput {
    const placement = { resourcePool: 'kubernetes', minCpu: 4, minMemoryMiB: 8192, minDiskGb: 60 };
    return {
      name: overrides.name ?? 'demo',
      cloudAccount: this.account,
      profile: DEFAULT_PROFILE.id,
      pools: [
        { name: 'control', role: 'control-plane', size: overrides.controlPlane ?? 3, placement },
        { name: 'workers', role: 'worker', size: overrides.workers ?? 3, placement },
      ],
    };
  }

  /** One call of the portal's API as its administrator. */
  call(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<unknown> {
    return this.client.call(method, path, body, this.#signal.signal);
  }

  async createCluster(spec: ClusterSpecInput = this.spec()): Promise<Cluster> {
    return ClusterSchema.parse(
      await this.client.call('POST', '/api/v1/clusters', { spec }, this.#signal.signal),
    );
  }

  async cluster(id: string): Promise<Cluster> {
    return ClusterSchema.parse(
      await this.client.call('GET', `/api/v1/clusters/${id}`, undefined, this.#signal.signal),
    );
  }

  async deleteCluster(
    cluster: Cluster,
    action: 'delete' | 'abort' | 'force-delete' = 'delete',
  ): Promise<void> {
    await this.client.call(
      'POST',
      `/api/v1/clusters/${cluster.id}/${action}`,
      { confirm: cluster.spec.name },
      this.#signal.signal,
    );
  }

  async events(id: string): Promise<Event[]> {
    const all: Event[] = [];
    let after: string | number = 0;
    for (;;) {
      const page = (await this.client.call(
        'GET',
        `/api/v1/clusters/${id}/events?after=${after}&limit=500`,
        undefined,
        this.#signal.signal,
      )) as { events: Event[]; next: string | number };
      if (page.events.length === 0) return all;
      all.push(...page.events);
      after = page.next;
    }
  }

  waitForPhase(id: string, phase: string, timeoutMs?: number): Promise<Cluster> {
    return this.until(
      `cluster ${phase}`,
      async () => {
        const cluster = await this.cluster(id);
        if (cluster.status?.phase === 'Failed' && phase !== 'Failed')
          throw new Error(`cluster failed: ${JSON.stringify(cluster.status.error)}`);
        if (cluster.status?.phase === phase || (phase === 'Deleted' && cluster.deletedAt !== undefined))
          return cluster;
        return undefined;
      },
      timeoutMs,
    );
  }

  ledger() {
    return readLedger(this.maasUrl, this.#signal.signal);
  }

  /** Polls until `probe` gives something truthy; on timeout the newest logs are in the error. */
  async until<T>(
    what: string,
    probe: () => Promise<T | undefined | false>,
    timeoutMs = 5 * GIVE_UP_MS,
  ): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const value = await probe();
      if (value) return value;
      if (performance.now() > deadline) throw new Error(`no ${what} within ${timeoutMs} ms\n${this.logs()}`);
      await systemClock.sleep(50);
    }
  }

  /** The last lines of every log, for failure messages. */
  logs(lines = 30): string {
    return ['simulator', 'portal', 'agent', 'pair']
      .map((name) => {
        try {
          return `--- ${name}\n${readFileSync(join(this.directory, `${name}.log`), 'utf8')
            .split('\n')
            .slice(-lines)
            .join('\n')}`;
        } catch {
          return `--- ${name}: no log`;
        }
      })
      .join('\n');
  }

  /** Runs one `pcg` command in this site's environment. */
  run(name: string, args: readonly string[], environment: Record<string, string> = {}): Promise<Program> {
    return startProgram({
      name,
      args: [...args, '--json'],
      environment: { ...this.environment(), ...environment },
      logFile: join(this.directory, `${name}.log`),
      clock: systemClock,
      signal: this.#signal.signal,
    });
  }

  environment(): Record<string, string> {
    const { HOME = '' } = process.env;
    const base = {
      ...bareEnvironment(),
      HOME,
      PCG_STATE_DIR: join(this.directory, 'agent'),
      PCG_LISTEN: '127.0.0.1:0',
      PCG_SIMULATED_SPEED: String(Math.max(1, Math.round(this.#speed / PATIENCE))),
      PCG_POLL_ACTIVE_MS: '100',
      PCG_POLL_IDLE_MS: '500',
    };
    if (!this.simulator) return base;
    const { maasUrl, adminKey, machineProxyUrl } = this.simulator.ready;
    return {
      ...base,
      PCG_MAAS_URL: String(maasUrl),
      PCG_MAAS_API_KEY: String(adminKey),
      PCG_MACHINE_PROXY: String(machineProxyUrl),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.abort();
    for (const program of [this.agent, this.portal, this.simulator]) {
      program?.kill('SIGKILL');
      await program?.exited;
    }
    await this.client?.[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
