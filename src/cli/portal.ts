/** `pcg portal`: the self-hostable portal, API and page. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import { createLog, Secret } from '../base/log.ts';
import { startPortal } from '../portal/server.ts';
import type { TlsFiles } from '../portal/tls-files.ts';
import type { CliContext } from './context.ts';
import { integerOption } from './options.ts';

const DEFAULT_PORT = 8443;

interface PortalOptions {
  readonly host: string;
  readonly port: number;
  readonly store: string;
  readonly publicUrl: string | undefined;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsCa: string | undefined;
  readonly kubePort: number | undefined;
  readonly adminEmail: string;
  readonly logLevel: string;
}

export function portalCommand(program: Command, context: CliContext): void {
  program
    .command('portal')
    .description("Run the portal: API, web page, and the other end of the gateways' tunnels.")
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <n>', 'port to listen on; 0 = any free one', integerOption(0, 65_535), DEFAULT_PORT)
    .option(
      '--store <path|postgres-url>',
      'SQLite file, or postgres://...',
      join(process.cwd(), 'pcg-portal.db'),
    )
    .option('--public-url <url>', 'how users and gateways reach this portal (behind a load balancer)')
    .option(
      '--tls-cert <path>',
      'PEM certificate chain: the portal speaks HTTPS itself; a changed file is served within 10 s, or at SIGHUP (PCG_TLS_CERT)',
    )
    .option('--tls-key <path>', 'PEM private key of --tls-cert (PCG_TLS_KEY)')
    .option(
      '--tls-ca <path>',
      'PEM CA of an HTTPS address, when it is a private one; kubeconfigs carry it (PCG_TLS_CA)',
    )
    .option(
      '--kube-port <n>',
      'port of the TLS listener for kubectl that a portal on plain HTTP has; 0 = any free one; default: port + 1 (PCG_KUBE_PORT)',
      integerOption(0, 65_535),
    )
    .option('--admin-email <address>', 'first tenant administrator', 'admin@localhost')
    .option('--log-level <level>', 'trace, debug, info, warn, error', 'info')
    .addHelpText(
      'after',
      "\nThe first administrator's password comes from PCG_ADMIN_PASSWORD; without it one is made and printed once.",
    )
    .action(async (options: PortalOptions) => {
      const given = context.environment['PCG_ADMIN_PASSWORD'];
      const isPostgres = /^postgres(ql)?:\/\//.test(options.store);
      const secured = tlsSettings(options, context.environment);
      await using portal = await startPortal({
        host: options.host,
        port: options.port,
        store: isPostgres
          ? { kind: 'postgres', url: options.store }
          : { kind: 'sqlite', path: options.store },
        ...secured,
        ...(options.publicUrl === undefined ? {} : { publicUrl: options.publicUrl }),
        admin: { email: options.adminEmail, ...(given === undefined ? {} : { password: new Secret(given) }) },
        clock: context.clock,
        log: createLog({ name: 'pcg-portal', level: options.logLevel, destination: process.stderr }),
      });
      // without files to read again a hangup ends the portal, as it ends other programs
      using _hangup =
        Object.keys(secured.tls).length > 0 ? context.onHangup(() => void portal.reloadTls()) : undefined;
      const password = portal.generatedPassword?.reveal();
      if (context.json) {
        context.event({
          event: 'ready',
          pid: process.pid,
          url: portal.url,
          kubeUrl: portal.kubeUrl,
          email: options.adminEmail,
          ...(password === undefined ? {} : { password }),
        });
      } else {
        context.out(
          `Portal at ${portal.url}\nSign in as ${options.adminEmail}${password === undefined ? '' : ` / ${password}`}`,
        );
      }
      await untilStopped(context.signal);
    });
}

function tlsSettings(
  options: PortalOptions,
  environment: CliContext['environment'],
): { tls: TlsFiles; kubePort?: number } {
  const path = (given: string | undefined, variable: string): string | undefined =>
    (given ?? environment[variable]) || undefined;
  const cert = path(options.tlsCert, 'PCG_TLS_CERT');
  const key = path(options.tlsKey, 'PCG_TLS_KEY');
  const ca = path(options.tlsCa, 'PCG_TLS_CA');
  const kubePort = options.kubePort ?? portFrom(environment['PCG_KUBE_PORT']);
  if ((cert === undefined) !== (key === undefined))
    throw new PcgError('BAD_CONFIG', 'a certificate needs its key, and a key its certificate', {
      field: cert === undefined ? 'tls-cert' : 'tls-key',
      fix: 'Give both --tls-cert and --tls-key, or neither.',
    });
  return {
    tls: {
      ...(cert === undefined || key === undefined ? {} : { pair: { cert, key } }),
      ...(ca === undefined ? {} : { ca }),
    },
    ...(kubePort === undefined ? {} : { kubePort }),
  };
}

function portFrom(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new PcgError('BAD_CONFIG', `PCG_KUBE_PORT is "${text}", not a port`, { field: 'PCG_KUBE_PORT' });
}

/** Resolves when the stop signal comes. */
export function untilStopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
