/** `pcg portal`: the self-hostable portal, API and page. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { createLog, Secret } from '../base/log.ts';
import { startPortal } from '../portal/server.ts';
import type { CliContext } from './context.ts';
import { integerOption } from './options.ts';

const DEFAULT_PORT = 8443;

interface PortalOptions {
  readonly host: string;
  readonly port: number;
  readonly store: string;
  readonly publicUrl: string | undefined;
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
    .option('--admin-email <address>', 'first tenant administrator', 'admin@localhost')
    .option('--log-level <level>', 'trace, debug, info, warn, error', 'info')
    .addHelpText(
      'after',
      "\nThe first administrator's password comes from PCG_ADMIN_PASSWORD; without it one is made and printed once.",
    )
    .action(async (options: PortalOptions) => {
      const given = context.environment['PCG_ADMIN_PASSWORD'];
      const isPostgres = /^postgres(ql)?:\/\//.test(options.store);
      await using portal = await startPortal({
        host: options.host,
        port: options.port,
        store: isPostgres
          ? { kind: 'postgres', url: options.store }
          : { kind: 'sqlite', path: options.store },
        ...(options.publicUrl === undefined ? {} : { publicUrl: options.publicUrl }),
        admin: { email: options.adminEmail, ...(given === undefined ? {} : { password: new Secret(given) }) },
        clock: context.clock,
        log: createLog({ name: 'pcg-portal', level: options.logLevel, destination: process.stderr }),
      });
      const password = portal.generatedPassword?.reveal();
      if (context.json) {
        context.event({
          event: 'ready',
          pid: process.pid,
          url: portal.url,
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

/** Resolves when the stop signal comes. */
export function untilStopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
