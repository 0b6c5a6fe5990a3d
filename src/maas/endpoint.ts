/**
 * From what users paste (UI address, API address, bare host) to the one API base, always ending in
 * `/api/2.0/`: MAAS answers 404 to a missing slash and never redirects inside the API.
 */
import { PcgError } from '../base/errors.ts';

const PLAIN_PORT = '5240';
/** Paths of the user interface and of other API versions that follow the region's root. */
const BELOW_ROOT = /\/(?:api(?:\/[\d.]+)?|r|l|accounts|a\/v\d)(?:\/.*)?$/;

function invalid(why: string): PcgError {
  return new PcgError('MAAS_URL_INVALID', why, { field: 'endpoint' });
}

/** `http://h:5240/MAAS/r/machines` -> `http://h:5240/MAAS/api/2.0/`. Throws MAAS_URL_INVALID. */
export function normaliseEndpoint(input: string): string {
  const text = input.trim();
  if (text === '') throw invalid('the MAAS endpoint is empty');
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https') {
    throw invalid(`the MAAS endpoint must start with http:// or https://, not ${scheme}://`);
  }
  let url: URL;
  try {
    url = new URL(scheme === undefined ? `http://${text}` : text);
  } catch {
    throw invalid('the MAAS endpoint is not a URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw invalid('the MAAS endpoint must not contain a user or password; the API key is given separately');
  }
  if (url.hostname === '') throw invalid('the MAAS endpoint has no host');
  // Without a scheme nobody means port 80: a bare host is a region's own port.
  if (scheme === undefined && url.port === '') url.port = PLAIN_PORT;
  let path = url.pathname.replace(/\/{2,}/g, '/');
  const root = /^(.*?\/MAAS)(?:\/.*)?$/.exec(path)?.[1];
  path = root ?? path.replace(BELOW_ROOT, '').replace(/\/+$/, '');
  if (path === '') path = '/MAAS';
  return `${url.protocol}//${url.host}${path}/api/2.0/`;
}
