/** Users, for tenant administrators, and API tokens, for oneself. */
import { z } from 'zod';
import { PcgError } from '../../base/errors.ts';
import { Secret } from '../../base/log.ts';
import { RoleSchema } from '../../contract/api.ts';
import { IdSchema, TimeSchema } from '../../contract/names.ts';
import { iso } from '../cluster-view.ts';
import type { Portal } from '../portal.ts';
import { callerOf } from '../request-guard.ts';
import type { UsersTable } from '../store/schema.ts';
import { type App, IdParams, listOf, PROBLEMS } from './app.ts';

const UserView = z.object({
  id: IdSchema,
  email: z.string(),
  role: RoleSchema,
  disabled: z.boolean(),
  createdAt: TimeSchema,
});
const PasswordSchema = z.string().min(12).max(1024);
const TokenView = z.object({
  id: IdSchema,
  name: z.string(),
  createdAt: TimeSchema,
  expiresAt: TimeSchema.optional(),
});

const view = (row: UsersTable): z.infer<typeof UserView> => ({
  id: row.id,
  email: row.email,
  role: RoleSchema.parse(row.role),
  disabled: row.disabled !== 0,
  createdAt: iso(row.created_at),
});

export function userRoutes(app: App, portal: Portal): void {
  const { db, auth } = portal;
  const admin = { access: 'tenant-admin' as const };
  const tags = ['users'];

  app.get(
    '/users',
    {
      config: admin,
      schema: { tags, summary: 'All users', response: { 200: listOf(UserView), ...PROBLEMS } },
    },
    async () => {
      const rows = await db.selectFrom('users').selectAll().orderBy('email', 'asc').execute();
      return { items: rows.map(view) };
    },
  );

  app.post(
    '/users',
    {
      config: admin,
      schema: {
        tags,
        summary: 'Add a user',
        body: z.object({ email: z.email().max(254), role: RoleSchema, password: PasswordSchema }),
        response: { 201: UserView, ...PROBLEMS },
      },
    },
    async (request, reply) => {
      const { email, role, password } = request.body;
      return reply.code(201).send(view(await auth.createUser(email, role, new Secret(password))));
    },
  );

  app.put(
    '/users/:id',
    {
      config: admin,
      schema: {
        tags,
        summary: 'Change role, password or disable; a disabled user is signed out at once',
        params: IdParams,
        body: z.object({
          role: RoleSchema.optional(),
          disabled: z.boolean().optional(),
          password: PasswordSchema.optional(),
        }),
        response: { 200: UserView, ...PROBLEMS },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { role, disabled, password } = request.body;
      const row = await db.selectFrom('users').selectAll().where('id', '=', id).executeTakeFirst();
      if (!row) throw new PcgError('NOT_FOUND', `there is no user ${id}`);
      const loses = (role !== undefined && role !== 'tenant-admin') || disabled === true;
      if (id === callerOf(request).userId && loses)
        throw new PcgError('CONFLICT', 'you cannot take your own administration away', {
          fix: 'Ask another tenant administrator.',
        });
      if (password !== undefined) await auth.setPassword(id, new Secret(password));
      const next = {
        role: role ?? row.role,
        disabled: disabled === undefined ? row.disabled : Number(disabled),
      };
      await db.updateTable('users').set(next).where('id', '=', id).execute();
      return view({ ...row, ...next });
    },
  );

  app.delete(
    '/users/:id',
    {
      config: admin,
      schema: { tags, summary: 'Remove a user', params: IdParams, response: { 204: z.null(), ...PROBLEMS } },
    },
    async (request, reply) => {
      if (request.params.id === callerOf(request).userId)
        throw new PcgError('CONFLICT', 'you cannot remove yourself', {
          fix: 'Ask another tenant administrator.',
        });
      const { numDeletedRows } = await db
        .deleteFrom('users')
        .where('id', '=', request.params.id)
        .executeTakeFirst();
      if (numDeletedRows === 0n) throw new PcgError('NOT_FOUND', `there is no user ${request.params.id}`);
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/tokens',
    { schema: { tags, summary: 'My API tokens', response: { 200: listOf(TokenView), ...PROBLEMS } } },
    async (request) => {
      const rows = await db
        .selectFrom('tokens')
        .selectAll()
        .where('user_id', '=', callerOf(request).userId)
        .where('kind', '=', 'api')
        .orderBy('created_at', 'asc')
        .execute();
      return {
        items: rows.map((row) => ({
          id: row.id,
          name: row.name,
          createdAt: iso(row.created_at),
          ...(row.expires_at === null ? {} : { expiresAt: iso(row.expires_at) }),
        })),
      };
    },
  );

  app.post(
    '/tokens',
    {
      schema: {
        tags,
        summary: 'Make an API token; its text is shown once',
        body: z.object({ name: z.string().min(1).max(60), days: z.int().min(1).max(3650).default(90) }),
        response: { 201: TokenView.extend({ token: z.string() }), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      const { name, days } = request.body;
      const issued = await auth.issue(callerOf(request).userId, {
        kind: 'api',
        name,
        scope: 'all',
        ttlMs: days * 86_400_000,
      });
      return reply
        .code(201)
        .header('cache-control', 'no-store')
        .send({
          id: issued.id,
          name,
          token: issued.token.reveal(),
          createdAt: iso(portal.clock.now()),
          ...(issued.expiresAt === null ? {} : { expiresAt: iso(issued.expiresAt) }),
        });
    },
  );

  app.delete(
    '/tokens/:id',
    {
      schema: {
        tags,
        summary: 'Revoke an API token',
        params: IdParams,
        response: { 204: z.null(), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      const { numDeletedRows } = await db
        .deleteFrom('tokens')
        .where('id', '=', request.params.id)
        .where('user_id', '=', callerOf(request).userId)
        .executeTakeFirst();
      if (numDeletedRows === 0n) throw new PcgError('NOT_FOUND', `there is no token ${request.params.id}`);
      return reply.code(204).send(null);
    },
  );
}
