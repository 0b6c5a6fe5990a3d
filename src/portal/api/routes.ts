/** The HTTP application: validation, errors, security headers, OpenAPI, and all endpoint groups. */
import fastifySwagger from '@fastify/swagger';
import Fastify from 'fastify';
import type { RequestListener, Server } from 'node:http';
import type { Portal } from '../portal.ts';
import { createErrorHandler } from '../problem-reply.ts';
import { createGuard } from '../request-guard.ts';
import { webFiles } from '../web-files.ts';
import {
  openApiTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from '../zod-fastify.ts';
import type { App } from './app.ts';
import { cloudAccountRoutes } from './cloud-accounts.ts';
import { clusterRoutes } from './clusters.ts';
import { feedRoutes } from './feed.ts';
import { gatewayRoutes } from './gateways.ts';
import { healthRoutes } from './health.ts';
import { pairingRoutes } from './pairing.ts';
import { profileRoutes } from './profiles.ts';
import { sessionRoutes } from './session.ts';
import { userRoutes } from './users.ts';

export interface AppOptions {
  /** Makes the server around Fastify's listener. */
  readonly serverFactory: (listener: RequestListener) => Server;
  /** Aborted when the portal stops: ends the event streams. */
  readonly stopped: AbortSignal;
  readonly page: string | undefined;
  /** The peer is a load balancer: take the client's address from X-Forwarded-For. */
  readonly trustProxy: boolean;
  readonly version: string;
}

export async function createApp(portal: Portal, options: AppOptions): Promise<App> {
  const app: App = Fastify({
    serverFactory: (listener) => options.serverFactory(listener as RequestListener),
    bodyLimit: portal.limits.bodyMaxBytes,
    // the address that the one trusted hop saw: what is further left in X-Forwarded-For the caller may have written
    trustProxy: options.trustProxy && ((_address: string, hop: number) => hop === 0),
    routerOptions: { maxParamLength: 200 },
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(createErrorHandler(portal));
  app.decorateRequest('caller', undefined);
  app.addHook('onRequest', async (_request, reply) => {
    reply.headers({
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      ...(portal.publicUrl.startsWith('https:') ? { 'strict-transport-security': 'max-age=31536000' } : {}),
    });
  });
  app.addHook('onResponse', async (request, reply) => {
    portal.metrics.requestSeconds.observe(
      { method: request.method, route: request.routeOptions.url ?? 'none', status: String(reply.statusCode) },
      reply.elapsedTime / 1000,
    );
  });
  // An empty body with a JSON type is what many clients send with DELETE and POST.
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
    if (text === '') return done(null, undefined);
    try {
      done(null, JSON.parse(text as string));
    } catch {
      done(Object.assign(new Error('the body is not JSON'), { statusCode: 400 }), undefined);
    }
  });
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'PCG portal',
        version: options.version,
        description: 'Bare-metal Kubernetes clusters through private cloud gateways.',
      },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer' },
          cookie: { type: 'apiKey', in: 'cookie', name: 'pcg_session' },
        },
      },
      security: [{ bearer: [] }, { cookie: [] }],
    },
    transform: openApiTransform as never,
  });
  await app.register(async (health) => healthRoutes(health as App, portal));
  await app.register(
    async (scope) => {
      const api = scope as App;
      api.addHook('onRequest', createGuard(portal));
      api.addHook('onRequest', async (_request, reply) => {
        reply.header('cache-control', 'no-store');
      });
      sessionRoutes(api, portal);
      userRoutes(api, portal);
      pairingRoutes(api, portal);
      gatewayRoutes(api, portal);
      cloudAccountRoutes(api, portal);
      profileRoutes(api, portal);
      clusterRoutes(api, portal);
      feedRoutes(api, portal, options.stopped);
      api.get('/openapi.json', { config: { access: 'public' }, schema: { hide: true } }, async () =>
        app.swagger(),
      );
    },
    { prefix: '/api/v1' },
  );
  await webFiles(app, options.page);
  await app.ready();
  return app;
}
