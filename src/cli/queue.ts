/** `pcg queue list|hold|resume`: new clusters wait while somebody works on the gateway. */
import type { Command } from 'commander';
import { type Queue, QueueSchema } from '../contract/api.ts';
import type { CliContext } from './context.ts';
import { askAgent } from './local-client.ts';
import { agentSocket, type SocketFlags, withSocket } from './status.ts';

export function queueCommand(program: Command, context: CliContext): void {
  const group = program
    .command('queue')
    .description('New clusters in line; hold it while you work on the gateway.');
  const command = (name: string, description: string) =>
    withSocket(group.command(name).description(description));
  const ask = async (flags: SocketFlags, method: 'GET' | 'POST', path: string, body?: unknown) =>
    print(
      context,
      QueueSchema.parse(await askAgent(agentSocket(context, flags), method, path, context.signal, body)),
    );
  command('list', 'Show whether it is held, and the clusters that have not begun, oldest first.').action(
    (flags: SocketFlags) => ask(flags, 'GET', '/v1/queue'),
  );
  command(
    'hold <reason>',
    'Let new clusters wait from now on, also after a restart. Those that began go on; abort and delete pass.',
  ).action((reason: string, flags: SocketFlags) => ask(flags, 'POST', '/v1/queue/hold', { reason }));
  command('resume', 'Let them begin.').action((flags: SocketFlags) =>
    ask(flags, 'POST', '/v1/queue/resume', {}),
  );
}

function print(context: CliContext, { held, waiting }: Queue): void {
  if (context.json) return context.event({ held: held ?? null, waiting });
  context.out(held ? `held since ${held.since}: ${held.reason}` : 'open: new clusters begin at once');
  for (const { position, id, name } of waiting)
    context.out(`${String(position).padStart(3)}  ${id}  ${name}`);
}
