/**
 * The gateways' tunnels as the portal uses them: who may connect, who is connected since when, durable sync
 * for each, and stream failures as errors that a person understands. The tunnel itself knows no portal.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { describeError, PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { createTunnelServer } from '../tunnel/accept.ts';
import { CLOSE, STREAM, StreamError } from '../tunnel/codes.ts';
import type { Identity } from '../tunnel/identity.ts';
import type { OpenOptions, Tunnel } from '../tunnel/ports.ts';
import type { Roster, RosterChange } from '../tunnel/roster.ts';
import type { Changes } from './changes.ts';
import type { PortalLimits } from './limits.ts';
import type { CloneAlarm, GatewayLinks } from './links.ts';
import type { PortalMetrics } from './metrics.ts';
import type { PortalDb } from './store/schema.ts';
import { createSyncPort } from './sync-port.ts';

export interface TunnelsOptions {
  readonly db: PortalDb;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: PortalLimits;
  readonly changes: Changes;
  readonly identity: Identity;
  readonly metrics: PortalMetrics;
  readonly trustProxy: boolean;
}

export interface Tunnels extends AsyncDisposable {
  readonly links: GatewayLinks;
  /** False: not the tunnel's path. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
}

/** A gateway without any session gets this long to come back before a request fails. */
const OFFLINE_WAIT_MS = 3_000;
/** When the portal stops: gateways come back spread over this time per gateway. */
const SPREAD_MS_PER_GATEWAY = 2;
const RECONNECT_AFTER_MS = 500;
/** A clone that is refused comes back within 35 minutes (SLOW of reconnect.ts): an hour without it, and it is gone. */
const CLONE_ALARM_MS = 60 * 60 * 1000;

export async function openTunnels(options: TunnelsOptions): Promise<Tunnels> {
  const { db, clock, log, limits, changes } = options;
  await closeBooks(db);
  const server = createTunnelServer({
    identity: options.identity,
    lookupGateway: (gatewayId) => lookup(db, gatewayId),
    syncFor: (gatewayId) => createSyncPort({ db, clock, log, changes }, gatewayId),
    // Gateways ask nothing of the portal but what sync carries.
    targetsFor: () => () => Promise.reject(new StreamError(STREAM.DENIED)),
    clock,
    log,
    registry: options.metrics.registry,
    ...(options.trustProxy ? { addressOf: forwardedAddress } : {}),
  });
  const { roster } = server;

  /** Connection changes are written in the order in which they happened. */
  let writing = Promise.resolve();
  const watching = roster.onChange((change) => {
    writing = writing
      .then(() => note(change))
      .catch((error: unknown) => {
        log.error(
          { gateway: change.gatewayId, error: describeError(error) },
          'connection change not written',
        );
      });
  });
  /** Gateways that lost their connection and have not come back, with what will tell that they are Unknown: the first loss counts. */
  const away = new Map<string, Disposable>();
  /** Of gateways that had one lately; the alarm is raised anew by the clone itself after a restart. */
  const clones = new Map<string, CloneAlarm>();
  async function note(change: RosterChange): Promise<void> {
    const { gatewayId } = change;
    switch (change.kind) {
      case 'connected':
      case 'resumed':
        away.get(gatewayId)?.[Symbol.dispose]();
        away.delete(gatewayId);
        break;
      case 'duplicate':
        options.metrics.duplicates.inc();
        for (const [id, { refusedAt }] of clones) if (isOver(refusedAt)) clones.delete(id);
        clones.set(gatewayId, { refusedAt: clock.now(), remoteAddresses: change.remoteAddresses });
        break;
      case 'detached':
      case 'gone': {
        if (away.has(gatewayId)) return;
        const reason = `${change.reason} (${change.closeCode})`;
        await db
          .updateTable('gateways')
          .set({ disconnected_at: clock.now(), disconnect_reason: reason })
          .where('id', '=', gatewayId)
          .execute();
        away.set(
          gatewayId,
          clock.timer(limits.staleAfterMs, () => void announceStale(gatewayId)),
        );
        break;
      }
    }
    await announce(gatewayId);
  }
  const isOver = (refusedAt: number): boolean => clock.now() - refusedAt >= CLONE_ALARM_MS;
  async function announceStale(gatewayId: string): Promise<void> {
    try {
      await announce(gatewayId);
    } catch (error) {
      log.error(
        { gateway: gatewayId, error: describeError(error) },
        'nobody was told that it is Unknown now',
      );
    }
  }
  /** The gateway looks different now, and so do its clusters: fresh or Unknown. */
  async function announce(gatewayId: string): Promise<void> {
    const clusters = await db
      .selectFrom('clusters')
      .select('id')
      .where('gateway_id', '=', gatewayId)
      .where('deleted_at', 'is', null)
      .execute();
    changes.notify(
      { kind: 'gateway', id: gatewayId },
      ...clusters.map(({ id }) => ({ kind: 'cluster' as const, id, gateway: gatewayId })),
    );
  }

  return {
    links: {
      tunnel: (gatewayId) => explained(roster, gatewayId),
      connection(gatewayId) {
        const connected = roster.get(gatewayId);
        if (!connected?.attached) return undefined;
        const { since, remoteAddress, rttMs } = connected;
        return { since, remoteAddress, rttMs };
      },
      clone(gatewayId) {
        const alarm = clones.get(gatewayId);
        return alarm && !isOver(alarm.refusedAt) ? alarm : undefined;
      },
      disconnect: (gatewayId, why) =>
        why === 'revoked'
          ? roster.disconnect(gatewayId, CLOSE.REVOKED, 'the gateway was removed')
          : roster.disconnect(gatewayId, CLOSE.SUPERSEDED, 'the gateway was paired again with another key'),
    },
    handleUpgrade: (request, socket, head) => server.handleUpgrade(request, socket, head),
    async [Symbol.asyncDispose]() {
      const notice = {
        reason: 'portal stops',
        deadlineMs: limits.drainMs,
        reconnectAfterMs: RECONNECT_AFTER_MS,
        spreadMs: roster.size * SPREAD_MS_PER_GATEWAY,
      };
      await server.drain(notice);
      await server[Symbol.asyncDispose]();
      watching[Symbol.dispose]();
      await writing;
      for (const timer of away.values()) timer[Symbol.dispose]();
    },
  };
}

/** After a crash nobody wrote when gateways were last connected: then it is when they last spoke. */
async function closeBooks(db: PortalDb): Promise<void> {
  await db
    .updateTable('gateways')
    .set((eb) => ({
      disconnected_at: eb.ref('status_received_at'),
      disconnect_reason: 'the portal restarted',
    }))
    .where('status_received_at', 'is not', null)
    .where((eb) =>
      eb.or([eb('disconnected_at', 'is', null), eb('disconnected_at', '<', eb.ref('status_received_at'))]),
    )
    .execute();
}

async function lookup(
  db: PortalDb,
  gatewayId: string,
): Promise<{ publicKey: string } | 'unknown' | 'revoked'> {
  const row = await db
    .selectFrom('gateways')
    .select('public_key')
    .where('id', '=', gatewayId)
    .executeTakeFirst();
  if (row) return { publicKey: row.public_key };
  const once = await db
    .selectFrom('pairing_codes')
    .select('id')
    .where('gateway_id', '=', gatewayId)
    .executeTakeFirst();
  return once ? 'revoked' : 'unknown';
}

/** A tunnel whose opens fail soon without a gateway, and in words. */
function explained(roster: Roster, gatewayId: string): Tunnel {
  return {
    async open(open, signal) {
      const tunnel = roster.tunnel(gatewayId);
      const wait = roster.get(gatewayId) ? {} : { deadlineMs: OFFLINE_WAIT_MS };
      try {
        return await tunnel.open({ ...open, ...wait }, signal);
      } catch (error) {
        if (!(error instanceof StreamError)) throw error;
        throw explain(error, open);
      }
    },
  };
}

function explain(error: StreamError, { target }: OpenOptions): PcgError {
  const kind = target.split(':', 1)[0];
  const cause = { cause: error, details: { target, streamCode: error.streamCode } };
  switch (error.streamCode) {
    case STREAM.DENIED:
      return new PcgError('SITE_POLICY_DENIED', `the gateway does not open ${target} for the portal`, cause);
    case STREAM.DNS_FAILED:
    case STREAM.CONN_REFUSED:
    case STREAM.CONN_TIMEOUT:
    case STREAM.HOST_UNREACHABLE:
    case STREAM.PEER_RESET:
      if (kind === 'kube')
        return new PcgError('KUBE_UNREACHABLE', 'the API server does not answer the gateway', cause);
      if (kind === 'maas') return new PcgError('MAAS_UNREACHABLE', 'MAAS does not answer the gateway', cause);
      return new PcgError('TEMPORARY', `the gateway cannot reach ${target}`, cause);
    case STREAM.TLS_FAILED:
      return new PcgError('TLS_FAILED', `the gateway does not trust the certificate of ${target}`, cause);
    case STREAM.BUSY:
      return new PcgError('TEMPORARY', 'the gateway has too many open streams', cause);
    case STREAM.SESSION_LOST:
    case STREAM.DRAINING:
      return new PcgError('GATEWAY_OFFLINE', 'the connection to the gateway was lost', cause);
    case STREAM.DEADLINE:
    case STREAM.IDLE_TIMEOUT:
      return new PcgError('DEADLINE', `the gateway did not open ${target} in time`, cause);
    default:
      return new PcgError('TEMPORARY', `the gateway could not open ${target}`, cause);
  }
}

/** The address that the trusted load balancer saw. */
function forwardedAddress(request: IncomingMessage): string {
  const header = request.headers['x-forwarded-for'];
  const last = (Array.isArray(header) ? header.join(',') : (header ?? '')).split(',').at(-1)?.trim();
  return last || (request.socket.remoteAddress ?? 'unknown');
}
