/** Signing in and out. The answer carries the token for programs and sets it as a cookie for the page. */
import { z } from 'zod';
import { Secret } from '../../base/log.ts';
import { SignInRequestSchema, SignInResultSchema, UserSchema, RoleSchema } from '../../contract/api.ts';
import { iso } from '../cluster-view.ts';
import type { Portal } from '../portal.ts';
import { callerOf, sessionCookie } from '../request-guard.ts';
import { type App, PROBLEMS } from './app.ts';

export function sessionRoutes(app: App, portal: Portal): void {
  app.post(
    '/session',
    {
      config: { access: 'public' },
      schema: {
        summary: 'Sign in',
        tags: ['session'],
        body: SignInRequestSchema,
        response: { 201: SignInResultSchema, ...PROBLEMS },
      },
    },
    async (request, reply) => {
      const { email, password } = request.body;
      const issued = await portal.auth.signIn(email, new Secret(password), request.ip);
      const token = issued.token.reveal();
      const maxAge = Math.floor(portal.limits.sessionTtlMs / 1000);
      reply.header('set-cookie', sessionCookie(portal, token, maxAge)).header('cache-control', 'no-store');
      return reply.code(201).send({
        token,
        user: { email: issued.user.email, role: RoleSchema.parse(issued.user.role) },
        expiresAt: iso(issued.expiresAt ?? portal.clock.now() + portal.limits.sessionTtlMs),
      });
    },
  );

  app.get(
    '/session',
    {
      config: { access: 'public' },
      schema: {
        summary: 'Is somebody signed in? Never 401: for pages that only want to know',
        tags: ['session'],
        response: { 200: z.object({ user: UserSchema.nullable() }), ...PROBLEMS },
      },
    },
    async ({ caller }) => ({ user: caller ? { email: caller.email, role: caller.role } : null }),
  );

  app.delete(
    '/session',
    { schema: { summary: 'Sign out', tags: ['session'], response: { 204: z.null(), ...PROBLEMS } } },
    async (request, reply) => {
      await portal.auth.revoke(callerOf(request).tokenId);
      return reply
        .header('set-cookie', sessionCookie(portal, '', 0))
        .code(204)
        .send(null);
    },
  );

  app.get(
    '/me',
    { schema: { summary: 'Who am I?', tags: ['session'], response: { 200: UserSchema, ...PROBLEMS } } },
    async (request) => {
      const { email, role } = callerOf(request);
      return { email, role };
    },
  );
}
