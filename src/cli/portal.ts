/** `pcg portal`: the self-hostable portal, API and page. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { PcgError } from '../base/errors.ts';
import { createLog, Secret } from '../base/log.ts';
import { PORTAL_SETTINGS } from '../config/portal-settings.ts';
import { loadSettings, type SettingValues } from '../config/settings.ts';
import { startPortal } from '../portal/server.ts';
import type { TlsFiles } from '../portal/tls-files.ts';
import type { CliContext } from './context.ts';
import { emailOption, integerOption, logLevelOption, webAddressOption } from './options.ts';

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
  readonly trustProxy: boolean | undefined;
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
    .option(
      '--public-url <url>',
      'how users and gateways reach this portal (behind a load balancer)',
      webAddressOption,
    )
    .option('--tls-cert <path>', PORTAL_SETTINGS.tlsCert.doc)
    .option('--tls-key <path>', PORTAL_SETTINGS.tlsKey.doc)
    .option('--tls-ca <path>', PORTAL_SETTINGS.tlsCa.doc)
    .option('--kube-port <n>', PORTAL_SETTINGS.kubePort.doc, integerOption(0, 65_535))
    .option('--trust-proxy', PORTAL_SETTINGS.trustProxy.doc)
    .option('--admin-email <address>', 'first tenant administrator', emailOption, 'admin@localhost')
    .option('--log-level <level>', 'trace, debug, info, warn, error', logLevelOption, 'info')
    .addHelpText(
      'after',
      "\nThe first administrator's password comes from PCG_ADMIN_PASSWORD; without it one is made and printed once.\nThe TLS options and --trust-proxy have environment variables: see `pcg help environment`.",
    )
    .action(async (options: PortalOptions) => {
      const { tlsCert, tlsKey, tlsCa, kubePort, trustProxy } = options;
      const settings = loadSettings(PORTAL_SETTINGS, {
        flags: { tlsCert, tlsKey, tlsCa, kubePort, trustProxy },
        environment: context.environment,
      }).values;
      const given = settings.adminPassword;
      const isPostgres = /^postgres(ql)?:\/\//.test(options.store);
      const secured = tlsSettings(settings);
      await using portal = await startPortal({
        host: options.host,
        port: options.port,
        store: isPostgres
          ? { kind: 'postgres', url: options.store }
          : { kind: 'sqlite', path: options.store },
        ...secured,
        trustProxy: settings.trustProxy,
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

function tlsSettings(settings: SettingValues<typeof PORTAL_SETTINGS>): {
  tls: TlsFiles;
  kubePort?: number;
} {
  const { tlsCert: cert, tlsKey: key, tlsCa: ca, kubePort } = settings;
  if (kubePort !== undefined && (kubePort < 0 || kubePort > 65_535))
    throw new PcgError('BAD_CONFIG', `PCG_KUBE_PORT is "${kubePort}", not a port`, {
      field: 'PCG_KUBE_PORT',
    });
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

/** Resolves when the stop signal comes. */
export function untilStopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
