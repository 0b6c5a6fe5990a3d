/**
 * The demo's service manager: pairs the agent once, starts it and starts it again whenever it dies (as
 * systemd's Restart=always does), so that `kill -9` of the agent is a thing to try.
 */
import { join } from 'node:path';
import { runForever } from '../base/loop.ts';
import type { CliContext } from './context.ts';
import { type Program, startProgram } from './programs.ts';

const RESTART_DELAY_MS = 300;

export interface DemoAgent extends AsyncDisposable {
  readonly gatewayName: string;
  restarts(): number;
}

export async function superviseAgent(options: {
  context: CliContext;
  directory: string;
  portalUrl: string;
  pairingCode: string;
  environment: Record<string, string>;
}): Promise<DemoAgent> {
  const { context, directory } = options;
  const environment = {
    ...context.environment,
    ...options.environment,
    PCG_STATE_DIR: join(directory, 'agent'),
    PCG_LISTEN: '127.0.0.1:0',
  };
  const start = (args: string[], extra: Record<string, string>, signal: AbortSignal): Promise<Program> =>
    startProgram({
      name: 'agent',
      args: [...args, '--json'],
      environment: { ...environment, ...extra },
      logFile: join(directory, 'agent.log'),
      clock: context.clock,
      signal,
    });

  // The code travels by environment: a flag value would show in the process list.
  await using pairing = await start(
    ['pair', '--portal-url', options.portalUrl],
    { PCG_PAIRING_CODE: options.pairingCode },
    context.signal,
  );
  const gatewayName = String(pairing.ready['gatewayName']);
  if (context.json)
    context.event({ event: 'paired', gateway: pairing.ready['gatewayId'], words: pairing.ready['words'] });

  const stop = new AbortController();
  let starts = 0;
  const supervising = runForever({
    clock: context.clock,
    signal: stop.signal,
    attempt: async (signal) => {
      await using agent = await start(['agent'], {}, signal);
      starts += 1;
      if (context.json)
        context.event({ event: 'process', name: 'agent', pid: agent.pid, restart: starts - 1 });
      context.say(
        starts === 1 ? `Started agent (pid ${agent.pid}).` : `Agent died; started again (pid ${agent.pid}).`,
      );
      const aborted = new Promise<void>((resolve) =>
        signal.addEventListener('abort', () => resolve(), { once: true }),
      );
      await Promise.race([agent.exited, aborted]);
    },
    onError: (error) => context.say(`agent: ${error instanceof Error ? error.message : String(error)}`),
    delayMs: () => RESTART_DELAY_MS,
  });
  return {
    gatewayName,
    restarts: () => Math.max(0, starts - 1),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await supervising;
    },
  };
}
