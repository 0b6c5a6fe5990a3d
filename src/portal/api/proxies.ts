/**
 * `/k8s/clusters/<id>/...` for kubectl and `/maas/accounts/<id>/...` for MAAS tools: authorised here, carried
 * by stream-proxy.ts. Only a bearer token opens them, never the page's cookie: no page can drive them.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { describeError, PcgError, toProblem } from '../../base/errors.ts';
import { accountRow } from '../accounts.ts';
import { type Caller, roleCovers } from '../auth.ts';
import { clusterRow } from '../clusters.ts';
import type { Portal } from '../portal.ts';
import { httpStatus } from '../problem-reply.ts';
import { bearerOf, principalOf } from '../request-guard.ts';
import { createStreamProxy, type ProxyRoute } from '../stream-proxy.ts';

const PREFIX = /^\/(k8s\/clusters|maas\/accounts)\/([a-z][a-z0-9-]{2,40})(\/[^#]*|\?[^#]*|)$/;

export function isProxied(url: string | undefined): boolean {
  return url !== undefined && (url.startsWith('/k8s/') || url.startsWith('/maas/'));
}

export interface Proxies {
  request(request: IncomingMessage, response: ServerResponse): void;
  /** The same for `Expect: 100-continue`. */
  checkContinue(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

export function createProxies(portal: Portal): Proxies {
  const proxy = createStreamProxy(portal, {
    async resolve(request) {
      try {
        return await resolve(portal, request);
      } catch (error) {
        if (error instanceof PcgError) throw error;
        portal.log.error({ error: describeError(error) }, 'proxied request failed');
        throw new PcgError('INTERNAL', 'the portal could not look up where this goes', { cause: error });
      }
    },
    refusal,
  });
  const counted = (request: IncomingMessage, response: ServerResponse): void => {
    response.once('close', () => {
      const result = response.writableFinished && response.statusCode < 500 ? 'ok' : 'error';
      portal.metrics.proxied.inc({ target: labelOf(request), result });
    });
  };
  return {
    request(request, response) {
      counted(request, response);
      proxy.request(request, response);
    },
    checkContinue(request, response) {
      counted(request, response);
      proxy.checkContinue(request, response);
    },
    upgrade(request, socket, head) {
      portal.metrics.proxied.inc({ target: labelOf(request), result: 'upgrade' });
      proxy.upgrade(request, socket, head);
    },
  };
}

function labelOf(request: IncomingMessage): 'kube' | 'maas' {
  return request.url?.startsWith('/maas/') === true ? 'maas' : 'kube';
}

async function resolve(portal: Portal, request: IncomingMessage): Promise<ProxyRoute> {
  const [, kind, id, rest] = PREFIX.exec(request.url ?? '') ?? [];
  if (kind === undefined || id === undefined)
    throw new PcgError('NOT_FOUND', 'there is nothing at this path');
  const token = bearerOf(request.headers);
  const caller = token === undefined ? undefined : await portal.auth.authenticate(token);
  if (!caller)
    throw new PcgError('UNAUTHENTICATED', 'the token is unknown or has expired', {
      fix: 'Download the kubeconfig again from the portal.',
    });
  const path = rest === undefined || rest === '' ? '/' : rest.startsWith('?') ? `/${rest}` : rest;
  return kind === 'maas/accounts'
    ? await maasRoute(portal, caller, id, path)
    : await kubeRoute(portal, caller, id, path, request);
}

async function kubeRoute(
  portal: Portal,
  caller: Caller,
  id: string,
  path: string,
  request: IncomingMessage,
): Promise<ProxyRoute> {
  if (caller.scope !== 'all' && caller.scope !== `kube:${id}`)
    throw new PcgError('FORBIDDEN', 'this token is for another cluster');
  // Dropping it silently would run the command with more rights than its author wanted.
  if (Object.keys(request.headers).some((name) => name.startsWith('impersonate-')))
    throw new PcgError('FORBIDDEN', 'impersonation (--as) does not pass the portal', {
      fix: 'Sign in as that user, or use the break-glass kubeconfig in the site.',
    });
  const row = await clusterRow(portal, id);
  if (row.deleted_at !== null) throw new PcgError('NOT_FOUND', `cluster ${row.name} is deleted`);
  return {
    gateway: row.gateway_id,
    open: { target: `kube:${id}`, class: 2, shareKey: `kube:${id}`, principal: principalOf(caller) },
    path,
    host: 'kubernetes',
  };
}

async function maasRoute(portal: Portal, caller: Caller, id: string, path: string): Promise<ProxyRoute> {
  if (caller.scope !== 'all' || !roleCovers(caller.role, 'tenant-admin'))
    throw new PcgError('FORBIDDEN', 'MAAS itself is for tenant administrators');
  const row = await accountRow(portal, id);
  return {
    gateway: row.gateway_id,
    open: { target: `maas:${id}`, class: 2, principal: principalOf(caller) },
    path,
    host: 'maas',
  };
}

/** kubectl prints the message of a Status; other clients find the problem in its details. */
function refusal(error: PcgError): { status: number; body: unknown } {
  const problem = toProblem(error);
  const status = httpStatus(problem);
  const reasons: Record<number, string> = {
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'NotFound',
    503: 'ServiceUnavailable',
  };
  const body = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `${problem.message}. ${problem.fix}`,
    reason: reasons[status] ?? 'InternalError',
    code: status,
    problem,
  };
  return { status, body };
}
