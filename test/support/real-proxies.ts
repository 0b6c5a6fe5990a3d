/**
 * The real squid and tinyproxy from Debian's packages, as child processes with a configuration of their own on an
 * ephemeral port; they die with their scope. Squid also inspects TLS with a CA made for the test.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram } from './needs.ts';
import { ownPort } from './own-port.ts';

export interface RealProxy extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  accessLog(): string;
}

const START_TIMEOUT_MS = 60_000;

export interface SquidOptions {
  readonly credentials?: { user: string; password: string };
  /** Decrypt TLS with this CA; `upstreamCaPem` is trusted towards the origin. */
  readonly inspect?: { caPem: string; caKeyPem: string; upstreamCaPem: string };
  readonly extra?: string[];
}

export async function startSquid(options: SquidOptions = {}): Promise<RealProxy> {
  const directory = scratch();
  const port = await ownPort();
  const { credentials, inspect } = options;
  const lines = [
    `pid_filename ${directory}/squid.pid`,
    `cache_log ${directory}/cache.log`,
    `access_log stdio:${directory}/access.log`,
    `coredump_dir ${directory}`,
    'cache deny all',
    'shutdown_lifetime 0 seconds',
    'visible_hostname proxy.test',
    'via off',
    'logfile_rotate 0',
    'workers 1',
    'max_filedescriptors 1024',
  ];
  if (credentials) {
    const hash = execFileSync(findProgram('openssl') ?? 'openssl', ['passwd', '-apr1', '-stdin'], {
      input: credentials.password,
    });
    writeFileSync(join(directory, 'users'), `${credentials.user}:${hash.toString().trim()}\n`, {
      mode: 0o644,
    });
    lines.push(
      `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${directory}/users`,
      'auth_param basic children 1',
      'auth_param basic realm test',
      'acl known proxy_auth REQUIRED',
      'http_access allow known',
      'http_access deny all',
    );
  } else {
    lines.push(...(options.extra ?? []), 'http_access allow all');
  }
  if (inspect) {
    writeFileSync(join(directory, 'ca.pem'), `${inspect.caPem}\n${inspect.caKeyPem}\n`, { mode: 0o644 });
    writeFileSync(join(directory, 'upstream.pem'), inspect.upstreamCaPem, { mode: 0o644 });
    const certgen = '/usr/lib/squid/security_file_certgen';
    execFileSync(certgen, ['-c', '-s', join(directory, 'ssl_db'), '-M', '4MB'], { stdio: 'pipe' });
    execFileSync('chmod', ['-R', 'a+rwX', join(directory, 'ssl_db')]);
    lines.push(
      `http_port 127.0.0.1:${port} ssl-bump tls-cert=${directory}/ca.pem generate-host-certificates=on dynamic_cert_mem_cache_size=4MB`,
      `sslcrtd_program ${certgen} -s ${directory}/ssl_db -M 4MB`,
      'sslcrtd_children 1',
      `tls_outgoing_options cafile=${directory}/upstream.pem`,
      'ssl_bump stare all',
      'ssl_bump bump all',
      'http_upgrade_request_protocols websocket allow all',
    );
  } else {
    lines.push(`http_port 127.0.0.1:${port}`);
  }
  const config = join(directory, 'squid.conf');
  writeFileSync(config, `${lines.join('\n')}\n`, { mode: 0o644 });
  return await run('squid', ['-N', '-f', config], directory, port);
}

export async function startTinyproxy(
  options: { credentials?: { user: string; password: string }; connectPorts?: number[] } = {},
): Promise<RealProxy> {
  const directory = scratch();
  const port = await ownPort();
  const { credentials } = options;
  const lines = [
    `Port ${port}`,
    'Listen 127.0.0.1',
    'Timeout 600',
    `LogFile "${directory}/access.log"`,
    'LogLevel Connect',
    'MaxClients 50',
    'DisableViaHeader Yes',
    ...(credentials ? [`BasicAuth ${credentials.user} ${credentials.password}`] : []),
    ...(options.connectPorts ?? []).map((allowed) => `ConnectPort ${allowed}`),
  ];
  const config = join(directory, 'tinyproxy.conf');
  writeFileSync(config, `${lines.join('\n')}\n`);
  return await run('tinyproxy', ['-d', '-c', config], directory, port);
}

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'pcg-proxy-'));
  chmodSync(directory, 0o777); // squid drops to its own user
  return directory;
}

async function run(program: string, args: string[], directory: string, port: number): Promise<RealProxy> {
  const child = spawn(findProgram(program) ?? program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
    });
  }
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(directory, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      const log = read(join(directory, 'cache.log'));
      await stop();
      throw new Error(`${program} did not start: ${output} ${log.slice(-4000)}`);
    }
    await sleep(50);
  }
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    accessLog: () => read(join(directory, 'access.log')),
    [Symbol.asyncDispose]: stop,
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
