/**
 * Before every API request: who is it, may this role do it, and if a browser's cookie says so, does the
 * request come from our own page? A route declares its access; without a declaration it needs a sign-in.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { PcgError } from '../base/errors.ts';
import type { Role } from '../contract/api.ts';
import type { Principal } from '../tunnel/ports.ts';
import { type Caller, kubeGroups, roleCovers } from './auth.ts';
import type { Portal } from './portal.ts';

export type Access = 'public' | Role;

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    caller: Caller | undefined;
  }
}

export const COOKIE = 'pcg_session';
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

export function bearerOf(headers: { authorization?: string | undefined }): string | undefined {
  const match = /^Bearer ([A-Za-z0-9_\-.~+/=]{10,512})$/.exec(headers.authorization ?? '');
  return match?.[1];
}

export function cookieOf(headers: { cookie?: string | undefined }): string | undefined {
  for (const part of (headers.cookie ?? '').split(';')) {
    const [name, value] = part.trim().split('=', 2);
    if (name === COOKIE && value) return value;
  }
  return undefined;
}

export function sessionCookie(portal: Portal, token: string, maxAgeSeconds: number): string {
  const secure = portal.publicUrl.startsWith('https:') ? '; Secure' : '';
  return `${COOKIE}=${token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${maxAgeSeconds}${secure}`;
}

export function createGuard(portal: Portal) {
  return async (request: FastifyRequest, _reply: FastifyReply): Promise<void> => {
    const access = request.routeOptions.config.access ?? 'viewer';
    const bearer = bearerOf(request.headers);
    const cookie = bearer === undefined ? cookieOf(request.headers) : undefined;
    const token = bearer ?? cookie;
    const caller = token === undefined ? undefined : await portal.auth.authenticate(token);
    if (cookie !== undefined && !SAFE_METHODS.has(request.method)) refuseForeignPage(request);
    if (access === 'public') {
      request.caller = caller?.scope === 'all' ? caller : undefined;
      return;
    }
    if (!caller)
      throw new PcgError('UNAUTHENTICATED', token === undefined ? 'sign in first' : 'the session has ended');
    if (caller.scope !== 'all')
      throw new PcgError('FORBIDDEN', 'this token is good for one cluster only', {
        fix: 'Sign in, or use an API token.',
      });
    if (!roleCovers(caller.role, access))
      throw new PcgError('FORBIDDEN', `this needs the role ${access}; you are ${caller.role}`);
    request.caller = caller;
  };
}

/** CSRF: SameSite=Strict is the first wall; this is the second. Browsers always send one of these headers. */
function refuseForeignPage(request: FastifyRequest): void {
  const site = request.headers['sec-fetch-site'];
  if (site === 'same-origin' || site === 'none') return;
  const { origin } = request.headers;
  if (site === undefined && origin !== undefined && URL.canParse(origin)) {
    if (new URL(origin).host === request.headers.host) return;
  }
  throw new PcgError('FORBIDDEN', 'the request does not come from the portal page');
}

export function callerOf(request: FastifyRequest): Caller {
  if (!request.caller) throw new PcgError('UNAUTHENTICATED', 'sign in first');
  return request.caller;
}

export function principalOf(caller: Caller): Principal {
  return { user: caller.email, groups: kubeGroups(caller.role) };
}
