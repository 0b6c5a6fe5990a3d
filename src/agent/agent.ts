/**
 * The agent as one object: store, cloud accounts, cluster engine, tunnel client and local API, built bottom
 * up and taken down in reverse. It works without the portal (the store holds what is wanted), waits for
 * pairing when there is none, and survives kill -9 at any instruction because everything it knows is either
 * on disk or in MAAS.
 */
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { Clock } from '../base/clock.ts';
import { listenError } from '../base/listen-error.ts';
import type { Log } from '../base/log.ts';
import type { AGENT_SETTINGS } from '../config/agent-settings.ts';
import type { SettingValues } from '../config/settings.ts';
import { acquireProcessLock, RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../store/sqlite.ts';
import { makeDirectory } from '../store/directory.ts';
import { OUTBOX_SCHEMA, SqliteOutbox } from '../store/sqlite-outbox.ts';
import { accountRoutes } from './api/accounts.ts';
import { clusterRoutes } from './api/clusters.ts';
import { doctorRoutes } from './api/doctor.ts';
import { machineRoutes } from './api/machines.ts';
import { queueRoutes } from './api/queue.ts';
import { createApiServer } from './api/server.ts';
import { statusRoutes } from './api/status.ts';
import { checkSettings } from './check-settings.ts';
import { Core } from './core.ts';
import { registerAgentMetrics, registerHealth } from './health.ts';

export interface AgentOptions {
  readonly settings: SettingValues<typeof AGENT_SETTINGS>;
  readonly clock: Clock;
  readonly log: Log;
  readonly version: string;
  readonly hostname: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface Agent extends AsyncDisposable {
  readonly socketPath: string;
  /** Base URL of /livez, /readyz and /metrics; undefined when switched off. */
  readonly healthUrl: string | undefined;
  /** Works until the signal aborts, then drains the tunnel. */
  run(signal: AbortSignal): Promise<void>;
}

/** Opens the state and binds the local listeners; throws CONFLICT when another agent works on that state. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { settings, clock, log } = options;
  checkSettings(settings);
  makeDirectory(settings.stateDir);
  await using stack = new AsyncDisposableStack();
  stack.use(
    acquireProcessLock(
      join(settings.stateDir, 'agent.lock'),
      'Stop the other agent, or give this one a state directory of its own (--state-dir).',
    ),
  );
  const file = stack.use(
    SqliteFile.open(join(settings.stateDir, 'agent.db'), [...RECORDS_SCHEMA, ...OUTBOX_SCHEMA]),
  );
  const records = new SqliteRecords(file);
  const outbox = new SqliteOutbox(file, clock);
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });

  const core = new Core(options, records, outbox, registry);
  stack.use(core);
  const routes = [
    statusRoutes(() => core.status()),
    accountRoutes({
      clock,
      log,
      client: (id) => core.parts().accounts.client(id),
      openSealed: (sealed, context) => core.openSealed(sealed, context),
      explain: (id, request, signal) => core.parts().engine.explain(id, request, signal),
    }),
    clusterRoutes({
      engine: () => core.parts().engine,
      events: (filter, limit) => outbox.recentEvents(filter, limit),
    }),
    queueRoutes({ engine: () => core.parts().engine, queue: () => core.parts().queue }),
    machineRoutes({
      clock,
      engine: () => core.parts().engine,
      client: (id) => core.parts().accounts.client(id),
    }),
    doctorRoutes({
      clock,
      stateDir: settings.stateDir,
      machineProxy: settings.machineProxy,
      status: () => core.status(),
      accounts: () => core.parts().accounts,
    }),
  ];
  const tunnelApi = stack.adopt(createApiServer('tunnel', log, routes), (server) => server.close());
  await tunnelApi.ready();
  core.serveThroughTunnel(tunnelApi);

  const socketPath = settings.socket ?? join(settings.stateDir, 'agent.sock');
  const local = stack.adopt(createApiServer('local', log, routes), (server) => server.close());
  rmSync(socketPath, { force: true }); // of a killed predecessor: the lock proves that it is gone
  await local.listen({ path: socketPath }).catch((cause: unknown) => {
    throw listenError(socketPath, 'socket', cause);
  });
  chmodSync(socketPath, 0o600);

  const healthUrl =
    settings.listen === '' ? undefined : await listenHealth(stack, settings.listen, registry, log);
  registerAgentMetrics(registry, {
    clusters: async () => core.phases(),
    pendingEvents: async () => (await core.status()).outbox.events,
    droppedEvents: () => outbox.droppedEvents(),
  });
  const owned = stack.move();
  return {
    socketPath,
    healthUrl,
    run: (signal) => core.run(signal),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function listenHealth(
  stack: AsyncDisposableStack,
  listen: string,
  registry: Registry,
  log: Log,
): Promise<string> {
  const match = /^(?:\[?([^\]]*)\]?:)?(\d+)$/.exec(listen);
  const server = stack.adopt(createApiServer('local', log, []), (opened) => opened.close());
  registerHealth(server, { registry, ready: () => true });
  return server
    .listen({ host: match?.[1] || '127.0.0.1', port: Number(match?.[2]) })
    .catch((cause: unknown) => {
      throw listenError(listen, 'listen', cause);
    });
}
