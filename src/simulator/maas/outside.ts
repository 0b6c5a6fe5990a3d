/** Paths outside API 2.0: what nginx and Django answer there. Clients meet them through wrong base URLs. */
import { compactJson, nginxPage, plain, type Reply } from './reply.ts';

const redirect = (status: 301 | 302, location: string, contentType: string, body = ''): Reply => ({
  status,
  contentType,
  body,
  headers: { Location: location, ...(status === 302 ? { Vary: 'Cookie' } : {}) },
  origin: 'bare',
});

const bare = (reply: Reply): Reply => ({ ...reply, origin: 'bare' });

/** `path` has its repeated slashes collapsed already. */
export function outsideApi(path: string): Reply | undefined {
  if (path === '/' || path === '/MAAS' || path === '/MAAS/')
    return { ...nginxPage(301, '301 Moved Permanently'), headers: { Location: '/MAAS/r/' } };
  if (path === '/MAAS/api/2.0') return redirect(301, '/MAAS/api/2.0/', 'text/html; charset=utf-8');
  if (path.startsWith('/MAAS/api/2.0/')) return undefined;
  if (path.startsWith('/MAAS/api/1.0/'))
    return bare(plain(410, 'The 1.0 API is no longer available. Please use API version 2.0.'));
  if (path === '/MAAS/api/version/') return bare(plain(200, '2.0'));
  if (path.startsWith('/MAAS/a/v3/')) return nginxPage(403, '403 Forbidden');
  if (path === '/MAAS/a/v2/machines' || path.startsWith('/MAAS/r/')) return nginxPage(404, '404 Not Found');
  if (path.startsWith('/MAAS/a/')) return nginxPage(502, '502 Bad Gateway');
  if (path === '/MAAS/accounts/login/')
    return {
      ...compactJson({ authenticated: false, external_auth_url: null, no_users: false }, 'application/json'),
      origin: 'raised',
    };
  if (path === '/MAAS/rpc/') return bare(compactJson({ eventloops: {} }, 'application/json'));
  if (path === '/MAAS/robots.txt') return bare(plain(200, 'User-agent: *\nDisallow: /\n'));
  if (path === '/MAAS/metrics')
    return { status: 404, contentType: 'text/html; charset=utf-8', body: '', origin: 'bare' };
  if (path.startsWith('/MAAS/images-stream/'))
    return {
      ...nginxPage(404, '404 Not Found'),
      body: '<!doctype html>\n<title>Not Found</title>\n<h1>Not Found</h1>\n',
    };
  if (path.startsWith('/MAAS/'))
    return redirect(302, `/MAAS/?next=${encodeURIComponent(path)}`, 'text/html; charset=utf-8');
  return nginxPage(404, '404 Not Found');
}
