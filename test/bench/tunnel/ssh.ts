/** OpenSSH -R as a subject: a throw-away sshd with keys made for the run, and ssh that is started again when it ends. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../support/needs.ts';
import { OWN_SESSION, pause } from './rpc.ts';

const RETRY_MS = 1000;
const START_MS = 10_000;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

const within = (namespace: string | undefined, command: string[]): string[] =>
  namespace === undefined ? command : ['ip', 'netns', 'exec', namespace, ...command];

const run = ([program, ...args]: string[]): ChildProcess =>
  spawn(program as string, args, { ...OWN_SESSION, stdio: ['ignore', 'ignore', 'pipe'] });

/** Of a process and all below it. */
function family(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        return [[Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])] as const];
      } catch {
        return []; // ended while we looked
      }
    });
  const below = (one: number): number[] => [
    one,
    ...parents.filter(([, parent]) => parent === one).flatMap(([child]) => below(child)),
  ];
  return below(pid);
}

export class SshPair implements AsyncDisposable {
  readonly frontPort: number;
  readonly carrierPort: number;
  readonly #directory: string;
  readonly #portalSpace: string | undefined;
  #server: ChildProcess | undefined;
  #client: ChildProcess | undefined;
  #over = false;

  private constructor(directory: string, frontPort: number, carrierPort: number, portalSpace?: string) {
    this.#directory = directory;
    this.frontPort = frontPort;
    this.carrierPort = carrierPort;
    this.#portalSpace = portalSpace;
  }

  static async create(host: string, portalSpace?: string): Promise<SshPair> {
    const directory = await mkdtemp(join(tmpdir(), 'pcg-bench-ssh-'));
    const pair = new SshPair(directory, await freePort(), await freePort(), portalSpace);
    process.once('exit', pair.#remove);
    for (const name of ['host', 'user'])
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, name)]);
    writeFileSync(join(directory, 'authorized'), readFileSync(join(directory, 'user.pub')));
    writeFileSync(
      join(directory, 'config'),
      [
        `Port ${pair.carrierPort}`,
        `ListenAddress ${host}`,
        `HostKey ${directory}/host`,
        `AuthorizedKeysFile ${directory}/authorized`,
        'StrictModes no',
        'UsePAM no',
        'PermitRootLogin yes',
        'PasswordAuthentication no',
        'AllowTcpForwarding yes',
        `PidFile ${directory}/pid`,
      ].join('\n'),
    );
    pair.startServer();
    return pair;
  }

  startServer(): void {
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    const sshd = findProgram('sshd') as string;
    this.#server = run(within(this.#portalSpace, [sshd, '-D', '-e', '-f', join(this.#directory, 'config')]));
    this.#server.stderr?.resume();
  }

  /** Kills the daemon and its sessions. */
  killServer(): void {
    for (const pid of this.portalPids) process.kill(pid, 'SIGKILL');
  }

  /** Dials for ever. */
  async connect(host: string, port: number, targetPort: number, gatewaySpace?: string): Promise<void> {
    const known = Promise.withResolvers<void>();
    const options = [
      'StrictHostKeyChecking=no',
      'UserKnownHostsFile=/dev/null',
      'ExitOnForwardFailure=yes',
      'IdentitiesOnly=yes',
      'Compression=no',
    ].flatMap((option) => ['-o', option]);
    const again = (): void => {
      if (this.#over) return;
      this.#client = run(
        within(gatewaySpace, [
          'ssh',
          '-v',
          '-F',
          '/dev/null',
          '-N',
          '-i',
          join(this.#directory, 'user'),
          ...options,
          '-p',
          String(port),
          '-R',
          `127.0.0.1:${this.frontPort}:127.0.0.1:${targetPort}`,
          `${userInfo().username}@${host}`,
        ]),
      );
      this.#client.stderr?.on('data', (text: Buffer) => {
        if (/remote forward success/.test(text.toString())) known.resolve();
      });
      this.#client.on('exit', () => setTimeout(again, RETRY_MS));
    };
    again();
    const late = pause(START_MS).then(() => Promise.reject(new Error('ssh does not connect')));
    await Promise.race([known.promise, late]);
  }

  get portalPids(): number[] {
    return this.#server?.pid ? family(this.#server.pid) : [];
  }

  get gatewayPids(): number[] {
    return this.#client?.pid ? family(this.#client.pid) : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#remove);
    this.#remove();
  }

  /** Synchronous, for a bench that is ended by a signal: neither programs nor keys stay behind. */
  readonly #remove = (): void => {
    this.#over = true;
    for (const pid of [...this.gatewayPids, ...this.portalPids]) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // ended by itself
      }
    }
    rmSync(this.#directory, { recursive: true, force: true });
  };
}
