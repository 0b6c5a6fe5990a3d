/**
 * Live changes for one browser, as server-sent events. A reader is a cursor into the stored events plus a
 * set of names of objects that changed: it reads when its browser has taken what was sent before. So a slow
 * browser costs one batch of memory and never holds the tunnel or another browser (failure 19); a closed one
 * resumes by Last-Event-ID and gets every event once and in order.
 */
import type { ServerResponse } from 'node:http';
import { PcgError } from '../base/errors.ts';
import { Wake } from '../base/wake.ts';
import { assertNever } from '../base/assert.ts';
import { DeadlineError, withDeadline } from '../base/clock.ts';
import { type Event, EventSchema } from '../contract/events.ts';
import type { ObjectChange } from './changes.ts';
import { clusterRow, viewCluster } from './clusters.ts';
import { gatewayRow, toGateway } from './gateways.ts';
import { findCode, toPairingCode } from './pairing.ts';
import type { Portal } from './portal.ts';

export interface FeedOptions {
  /** Only this cluster, with all its tasks; without it summaries of everything. */
  readonly cluster: string | undefined;
  /** Events after this feed id; undefined = only new ones. */
  readonly after: number | undefined;
}

export interface FeedEvent extends Event {
  /** Position in the feed. */
  readonly id: number;
  readonly gateway: string;
}

/** Another portal process may write to the same store: look at least this often. */
const POLL_MS = 5_000;
/** Changed objects remembered for one browser; beyond it the browser is told to read everything again. */
const DIRTY_MAX = 2_000;

/** Events of the feed, oldest first: the first ones after `after`, or without it the newest. */
export async function readEvents(
  portal: Portal,
  filter: { cluster?: string | undefined; after: number | undefined; limit: number },
): Promise<FeedEvent[]> {
  const { cluster, after } = filter;
  let query = portal.db
    .selectFrom('events')
    .select(['feed_id', 'gateway_id', 'body'])
    .orderBy('feed_id', after === undefined ? 'desc' : 'asc')
    .limit(filter.limit);
  if (after !== undefined) query = query.where('feed_id', '>', after);
  if (cluster !== undefined) query = query.where('cluster_id', '=', cluster);
  const rows = await query.execute();
  if (after === undefined) rows.reverse();
  return rows.map((row) => ({
    ...EventSchema.parse(JSON.parse(row.body)),
    id: row.feed_id,
    gateway: row.gateway_id,
  }));
}

async function newestId(portal: Portal): Promise<number> {
  const row = await portal.db
    .selectFrom('counters')
    .select('value')
    .where('name', '=', 'feed')
    .executeTakeFirstOrThrow();
  return row.value;
}

/** Writes to `response` until the browser leaves, stalls, or `signal` aborts. Never throws for those. */
export async function serveFeed(
  portal: Portal,
  response: ServerResponse,
  options: FeedOptions,
  signal: AbortSignal,
): Promise<void> {
  const { clock, limits } = portal;
  const wake = new Wake();
  const dirty = new Map<string, ObjectChange>();
  let overflow = false;
  using _subscription = portal.changes.subscribe((change) => {
    if (change.kind !== 'events') {
      if (options.cluster !== undefined && !concerns(change, options.cluster)) return;
      if (dirty.size < DIRTY_MAX) dirty.set(`${change.kind} ${change.id}`, change);
      else overflow = true;
    }
    wake.ring();
  });
  const send = (text: string) => writeAll(portal, response, text, signal);
  // The subscription is older than the cursor: nothing falls between.
  let cursor = options.after ?? (await newestId(portal));
  await send(`retry: 2000\nevent: hello\ndata: ${JSON.stringify({ now: clock.now(), cursor })}\n\n`);
  let lastSentAt = clock.monotonic();
  while (!signal.aborted) {
    const events = await readEvents(portal, {
      cluster: options.cluster,
      after: cursor,
      limit: limits.feedBatch,
    });
    let text = '';
    for (const event of events) {
      text += `id: ${event.id}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`;
      cursor = event.id;
    }
    if (overflow) {
      overflow = false;
      dirty.clear();
      text += 'event: reset\ndata: {}\n\n';
    }
    const changes = [...dirty.values()];
    dirty.clear();
    for (const change of changes) text += await describeChange(portal, change, options.cluster);
    if (text === '' && clock.monotonic() - lastSentAt >= limits.feedHeartbeatMs) text = ': alive\n\n';
    if (text !== '') {
      await send(text);
      lastSentAt = clock.monotonic();
    }
    if (events.length === limits.feedBatch) continue;
    // Merge what comes in quick succession, then wait for the next ring.
    await clock.sleep(limits.feedCoalesceMs, signal);
    await wake.wait(clock, Math.min(POLL_MS, limits.feedHeartbeatMs), signal);
  }
}

function concerns(change: ObjectChange, cluster: string): boolean {
  return (change.kind === 'cluster' && change.id === cluster) || change.kind === 'gateway';
}

async function describeChange(
  portal: Portal,
  change: ObjectChange,
  cluster: string | undefined,
): Promise<string> {
  const message = (event: string, data: unknown) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  try {
    switch (change.kind) {
      case 'cluster': {
        const row = await clusterRow(portal, change.id);
        return message('cluster', await viewCluster(portal, row, cluster === undefined));
      }
      case 'gateway':
        return message('gateway', toGateway(portal, await gatewayRow(portal, change.id)));
      case 'pairing-code':
        return message('pairing-code', toPairingCode(await findCode(portal, change.id), portal.clock.now()));
      case 'account':
        return message('account', { id: change.id });
      default:
        return assertNever(change);
    }
  } catch (error) {
    if (!(error instanceof PcgError && error.code === 'NOT_FOUND')) throw error;
    return message('gone', { kind: change.kind, id: change.id });
  }
}

/** Resolves when the kernel has taken the text; a browser that takes nothing for too long is cut off. */
async function writeAll(
  portal: Portal,
  response: ServerResponse,
  text: string,
  signal: AbortSignal,
): Promise<void> {
  if (response.write(text) || !response.writableNeedDrain) return;
  try {
    await withDeadline(
      portal.clock,
      portal.limits.feedStallMs,
      'the browser',
      signal,
      (inner) =>
        new Promise<void>((resolve, reject) => {
          const stop = () => {
            response.off('drain', done);
            reject(inner.reason);
          };
          const done = () => {
            inner.removeEventListener('abort', stop);
            resolve();
          };
          response.once('drain', done);
          inner.addEventListener('abort', stop, { once: true });
        }),
    );
  } catch (error) {
    if (error instanceof DeadlineError) {
      portal.metrics.feedStalled.inc();
      response.destroy();
    }
    throw error;
  }
}
