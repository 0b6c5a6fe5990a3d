/** A subject set up on a path: its two ends, the load's two ends, and whatever lies between. */
import { generateIdentity, type Identity } from '../../../src/tunnel/identity.ts';
import { issueServerCertificate } from '../../../src/kube/pki.ts';
import { testPki } from '../../support/tls-server.ts';
import type { EndSettings } from './end.ts';
import type { TwoNamespaces } from './namespaces.ts';
import { cpuSeconds, pause, rssMb, Worker } from './rpc.ts';
import { SshPair } from './ssh.ts';

export const SUBJECTS = ['pcg', 'relay', 'http2', 'yamux', 'openssh'] as const;
/** `pcg-tls`: ours over wss, as it is used outside; of the others only OpenSSH encrypts. */
export type Subject = (typeof SUBJECTS)[number] | 'pcg-tls';

const CERTIFICATE_MS = 24 * 3_600_000;

/** For 127.0.0.1, from a CA made for the run. */
async function throwAwayTls(): Promise<NonNullable<EndSettings['tls']>> {
  const { ca } = await testPki();
  const { certPem, keyPem } = await issueServerCertificate(ca, {
    commonName: 'portal',
    dnsNames: [],
    ipAddresses: ['127.0.0.1'],
    nowMs: Date.now(),
    validityMs: CERTIFICATE_MS,
  });
  return { cert: certPem, key: keyPem, ca: ca.certPem };
}

export interface Path {
  /** The link between the ends, else loopback. */
  readonly spaces?: TwoNamespaces;
  /** A piping process between gateway and link. */
  readonly pipe?: {
    readonly bytesPerSecond?: number;
    readonly delayMs?: number;
    readonly bufferBytes: number;
  };
}

/** Only ends a hang. */
const READY_MS = 120_000;

export class Site implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly client: Worker;
  readonly target: Worker;
  readonly #subject: Subject;
  readonly #path: Path;
  readonly #keys: { portal: Identity; gateway: Identity };
  frontPort = 0;
  pipe: Worker | undefined;
  #portal: Worker | undefined;
  #gateway: Worker | undefined;
  #ssh: SshPair | undefined;
  #settings: EndSettings | undefined;

  private constructor(subject: Subject, path: Path) {
    this.#subject = subject;
    this.#path = path;
    this.#keys = { portal: generateIdentity(), gateway: generateIdentity() };
    this.client = this.#stack.use(new Worker('load.ts', path.spaces?.portal));
    this.target = this.#stack.use(new Worker('load.ts', path.spaces?.gateway));
  }

  static async create(subject: Subject, path: Path = {}): Promise<Site> {
    const site = new Site(subject, path);
    try {
      await site.#start();
      await site.ready();
    } catch (error) {
      await site[Symbol.asyncDispose]();
      throw error;
    }
    return site;
  }

  get portalPids(): number[] {
    return this.#ssh?.portalPids ?? (this.#portal ? [this.#portal.pid] : []);
  }

  get gatewayPids(): number[] {
    return this.#ssh?.gatewayPids ?? (this.#gateway ? [this.#gateway.pid] : []);
  }

  /** What an end holds, and not when its engine last looked for what nobody holds; OpenSSH has no garbage. */
  async collect(): Promise<void> {
    await Promise.all([this.#portal, this.#gateway].map((end) => end?.ask({ op: 'collect' })));
  }

  /** MB of one end, or of both. */
  rss(end: 'portal' | 'both' = 'both'): number {
    const pids = end === 'portal' ? this.portalPids : [...this.portalPids, ...this.gatewayPids];
    return pids.reduce((sum, pid) => sum + rssMb(pid), 0);
  }

  cpu(): number {
    return [...this.portalPids, ...this.gatewayPids].reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  }

  async ready(): Promise<void> {
    const until = performance.now() + READY_MS;
    while (!(await this.client.ask<boolean>({ op: 'try', port: this.frontPort }))) {
      if (performance.now() > until) throw new Error(`${this.#subject} does not answer`);
      await pause(20);
    }
  }

  /** Kills the portal's end without a word and starts it anew; resolves when it listens. */
  async restartPortal(): Promise<void> {
    if (this.#ssh) {
      this.#ssh.killServer();
      this.#ssh.startServer();
      return;
    }
    await this.#portal?.[Symbol.asyncDispose]();
    this.#portal = this.#stack.use(new Worker('end.ts', this.#path.spaces?.portal));
    const started = await this.#portal.ask<{ frontPort: number }>({ op: 'portal', ...this.#settings });
    this.frontPort = started.frontPort;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(): Promise<void> {
    const { spaces, pipe } = this.#path;
    const portalHost = spaces?.portalAddress ?? '127.0.0.1';
    const gatewayHost = spaces?.gatewayAddress ?? '127.0.0.1';
    const targetPort = await this.target.ask<number>({ op: 'target' });
    const between = async (toHost: string, toPort: number, host: string) => {
      if (!pipe) return { toHost, toPort };
      this.pipe = this.#stack.use(new Worker('link-pipe.ts', spaces?.gateway));
      return {
        toHost: host,
        toPort: await this.pipe.ask<number>({ op: 'start', toHost, toPort, host, ...pipe }),
      };
    };

    if (this.#subject === 'openssh') {
      this.#ssh = this.#stack.use(await SshPair.create(portalHost, spaces?.portal));
      this.frontPort = this.#ssh.frontPort;
      const way = await between(portalHost, this.#ssh.carrierPort, '127.0.0.1');
      await pause(300); // the daemon says nowhere that it listens
      await this.#ssh.connect(way.toHost, way.toPort, targetPort, spaces?.gateway);
      return;
    }

    this.#portal = this.#stack.use(new Worker('end.ts', spaces?.portal));
    this.#gateway = this.#stack.use(new Worker('end.ts', spaces?.gateway));
    const base = {
      subject: this.#subject === 'pcg-tls' ? 'pcg' : this.#subject,
      ...(this.#subject === 'pcg-tls' ? { tls: await throwAwayTls() } : {}),
      host: '127.0.0.1',
      port: 0,
      toHost: '127.0.0.1',
      toPort: 0,
      targetPort,
      portalKey: this.#keys.portal.publicKey,
      gatewayKey: this.#keys.gateway.publicKey,
      identity: this.#keys.gateway.serialize().reveal(),
    };
    if (this.#subject === 'relay') {
      const port = await this.#gateway.ask<number>({ op: 'gateway', ...base, host: gatewayHost });
      const way = await between(gatewayHost, port, gatewayHost);
      this.#settings = { ...base, ...way } as EndSettings;
    } else {
      this.#settings = {
        ...base,
        host: portalHost,
        identity: this.#keys.portal.serialize().reveal(),
      } as EndSettings;
    }
    const started = await this.#portal.ask<{ frontPort: number; carrierPort: number }>({
      op: 'portal',
      ...this.#settings,
    });
    this.frontPort = started.frontPort;
    if (this.#subject === 'relay') return;
    this.#settings = { ...this.#settings, port: started.carrierPort };
    const way = await between(portalHost, started.carrierPort, '127.0.0.1');
    await this.#gateway.ask({ op: 'gateway', ...base, ...way });
  }
}
