/** Cluster profiles. */
import { z } from 'zod';
import { SHIPPED_PACKS } from '../../contract/packs/shipped.ts';
import { PackSchema, ProfileSchema } from '../../contract/profile.ts';
import type { Portal } from '../portal.ts';
import { changeProfile, createProfile, findProfile, listProfiles, removeProfile } from '../profiles.ts';
import { type App, IdParams, listOf, PROBLEMS } from './app.ts';

const ProfileInputSchema = ProfileSchema.omit({ id: true, revision: true });

export function profileRoutes(app: App, portal: Portal): void {
  const tags = ['profiles'];
  const config = { access: 'project-admin' as const };

  app.get(
    '/profiles',
    {
      schema: {
        tags,
        summary: 'All cluster profiles',
        response: { 200: listOf(ProfileSchema), ...PROBLEMS },
      },
    },
    async () => ({
      items: await listProfiles(portal),
    }),
  );

  app.get(
    '/packs',
    {
      schema: {
        tags,
        summary: 'Packs that come with the portal, to build profiles from',
        response: { 200: listOf(PackSchema), ...PROBLEMS },
      },
    },
    async () => ({ items: [...SHIPPED_PACKS] }),
  );

  app.get(
    '/profiles/:id',
    {
      schema: {
        tags,
        summary: 'One profile',
        params: IdParams,
        response: { 200: ProfileSchema, ...PROBLEMS },
      },
    },
    async (request) => await findProfile(portal, request.params.id),
  );

  app.post(
    '/profiles',
    {
      config,
      schema: {
        tags,
        summary: 'Add a profile',
        body: ProfileInputSchema,
        response: { 201: ProfileSchema, ...PROBLEMS },
      },
    },
    async (request, reply) => reply.code(201).send(await createProfile(portal, request.body)),
  );

  app.put(
    '/profiles/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Replace a profile at its newest revision; clusters take it with their next change',
        params: IdParams,
        body: ProfileInputSchema.extend({ revision: z.int().min(1) }),
        response: { 200: ProfileSchema, ...PROBLEMS },
      },
    },
    async (request) => {
      const { revision, ...input } = request.body;
      return await changeProfile(portal, request.params.id, revision, input);
    },
  );

  app.delete(
    '/profiles/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Remove a profile that no cluster uses',
        params: IdParams,
        response: { 204: z.null(), ...PROBLEMS },
      },
    },
    async (request, reply) => {
      await removeProfile(portal, request.params.id);
      return reply.code(204).send(null);
    },
  );
}
