/** The line of new clusters (R85): seen by everybody, held and let go by the site's owner alone. */
import type { FastifyInstance } from 'fastify';
import { PcgError } from '../../base/errors.ts';
import type { ClusterEngine } from '../../cluster/engine.ts';
import type { ClusterQueue } from '../../cluster/queue.ts';
import { HoldRequestSchema, type Queue } from '../../contract/api.ts';
import { type Caller, parse } from './server.ts';

export interface QueueQuestions {
  readonly engine: () => ClusterEngine;
  readonly queue: () => ClusterQueue;
}

export function queueRoutes({ engine, queue }: QueueQuestions) {
  const read = (): Queue => {
    const { held, line } = queue();
    const names = new Map(
      engine()
        .clusters()
        .map(({ id, name }) => [id, name]),
    );
    return {
      ...(held && { held }),
      waiting: line.map((id, index) => ({ id, name: names.get(id) ?? id, position: index + 1 })),
    };
  };
  const lookAgain = () => {
    for (const { id } of engine().clusters()) engine().documentChanged(id);
  };
  return (server: FastifyInstance, caller: Caller): void => {
    const mustBeLocal = () => {
      if (caller !== 'local')
        throw new PcgError('FORBIDDEN', "only the site's owner holds the queue", {
          fix: 'Run `pcg queue hold` or `pcg queue resume` on the gateway.',
        });
    };
    server.get('/v1/queue', async () => read());
    server.post('/v1/queue/hold', async (request) => {
      mustBeLocal();
      await queue().hold(parse(HoldRequestSchema, request.body).reason);
      lookAgain();
      return read();
    });
    server.post('/v1/queue/resume', async () => {
      mustBeLocal();
      await queue().resume();
      lookAgain();
      return read();
    });
  };
}
