/** The live feed as server-sent events. */
import { z } from 'zod';
import { describeError, PcgError } from '../../base/errors.ts';
import { IdSchema } from '../../contract/names.ts';
import { clusterRow } from '../clusters.ts';
import { serveFeed } from '../feed.ts';
import type { Portal } from '../portal.ts';
import { callerOf } from '../request-guard.ts';
import type { App } from './app.ts';

const FeedQuery = z.object({
  cluster: IdSchema.optional(),
  after: z.coerce.number().int().min(0).optional(),
});

export function feedRoutes(app: App, portal: Portal, stopped: AbortSignal): void {
  const perUser = new Map<string, number>();
  let total = 0;

  app.get(
    '/feed',
    {
      schema: {
        tags: ['events'],
        summary:
          'Server-sent events: event (with id), cluster, gateway, pairing-code, account, gone, reset. Resume with Last-Event-ID or ?after',
        querystring: FeedQuery,
        produces: ['text/event-stream'],
      },
    },
    async (request, reply) => {
      const { cluster, after } = request.query;
      const { userId } = callerOf(request);
      const lastId = Number(request.headers['last-event-id']);
      if (cluster !== undefined) await clusterRow(portal, cluster);
      const mine = perUser.get(userId) ?? 0;
      if (total >= portal.limits.feedClients || mine >= portal.limits.feedClientsPerUser)
        throw new PcgError('TOO_MANY_TRIES', 'too many open event streams', {
          details: { retryAfterSeconds: 30 },
        });
      total += 1;
      perUser.set(userId, mine + 1);
      portal.metrics.feedClients.inc();
      const left = new AbortController();
      const response = reply.hijack().raw;
      response.once('close', () => left.abort());
      response.on('error', () => left.abort());
      const signal = AbortSignal.any([left.signal, stopped]);
      response.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        // nginx would hold the stream back otherwise
        'x-accel-buffering': 'no',
      });
      try {
        await serveFeed(
          portal,
          response,
          {
            cluster,
            after:
              Number.isSafeInteger(lastId) && lastId >= 0
                ? request.headers['last-event-id'] === undefined
                  ? after
                  : lastId
                : after,
          },
          signal,
        );
      } catch (error) {
        if (!signal.aborted && !response.destroyed)
          portal.log.error({ error: describeError(error) }, 'event stream failed');
      } finally {
        total -= 1;
        const rest = (perUser.get(userId) ?? 1) - 1;
        if (rest > 0) perUser.set(userId, rest);
        else perUser.delete(userId);
        portal.metrics.feedClients.dec();
        response.end();
      }
    },
  );
}
