/**
 * The page's files: built by vite into `dist/web`, served with a strict content policy. Every path of the
 * page answers with index.html, so that a link into it works.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fastifyStatic from '@fastify/static';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { PcgError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { App } from './api/app.ts';

export const CONTENT_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const FROM_SOURCE = import.meta.url.endsWith('.ts');
const BUILT = fileURLToPath(new URL(FROM_SOURCE ? '../../dist/web/' : '../web/', import.meta.url));
const SOURCE = fileURLToPath(new URL('./web/', import.meta.url));

/** Directory of the built page. From a checkout it is built once, when vite is there; otherwise undefined. */
export async function findPage(log: Log): Promise<string | undefined> {
  if (existsSync(`${BUILT}index.html`)) return BUILT;
  if (FROM_SOURCE && existsSync(`${SOURCE}vite.config.ts`)) {
    try {
      const { build } = await import('vite');
      log.info({}, 'building the page once');
      await build({ root: SOURCE, configFile: `${SOURCE}vite.config.ts`, logLevel: 'error' });
      return BUILT;
    } catch (error) {
      log.warn({ error: String(error) }, 'the page could not be built');
    }
  }
  log.warn({ run: 'npm run build:web' }, 'the page is not built; the API works without it');
  return undefined;
}

export async function webFiles(app: App, directory: string | undefined): Promise<void> {
  if (directory !== undefined)
    await app.register(fastifyStatic, {
      root: directory,
      setHeaders: (reply, path) => {
        const hashed = path.includes('/assets/');
        reply.header('cache-control', hashed ? 'public, max-age=31536000, immutable' : 'no-cache');
        reply.header('content-security-policy', CONTENT_POLICY);
      },
    });
  app.setNotFoundHandler(async (request: FastifyRequest, reply: FastifyReply) => {
    const wantsPage = request.method === 'GET' && (request.headers.accept ?? '').includes('text/html');
    if (request.url.startsWith('/api/') || !wantsPage)
      throw new PcgError('NOT_FOUND', 'there is nothing at this path');
    reply.header('content-security-policy', CONTENT_POLICY);
    if (directory !== undefined) return reply.sendFile('index.html');
    return reply
      .code(503)
      .type('text/plain')
      .send('The portal runs, but its page is not built. Run: npm run build:web\n');
  });
}
