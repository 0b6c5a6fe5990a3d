/** The way to a live MAAS: what was given is checked, and what does not work is told with what to do about it. */
import { normaliseEndpoint } from '../../src/maas/endpoint.ts';
import { type Caller, maasCaller } from '../support/maas-caller.ts';

export interface LiveOptions {
  /** As the gateway takes it: `http://host:5240/MAAS`, `https://host:5443/MAAS`, a path before /MAAS. */
  readonly url: string;
  /** Of an admin. */
  readonly apiKey: string;
  /** Of a user without admin rights; without it the exchanges of such a user are left out. */
  readonly userKey?: string;
  /** System id or hostname of the machine that the lifecycle part may use; default: the smallest that fits. */
  readonly machine?: string;
}

export interface LiveDoor {
  /** `http://host:5240/MAAS/` */
  readonly base: URL;
  readonly maasUrl: string;
  readonly version: string;
  readonly username: string;
  /** Its clock minus ours, milliseconds. */
  readonly skewMs: number;
  readonly call: Caller;
}

/** Throws with what is wrong: address, certificate, redirect, key, rights. */
export async function openDoor(options: LiveOptions): Promise<LiveDoor> {
  const base = new URL(normaliseEndpoint(options.url).replace(/api\/2\.0\/$/, ''));
  const maasUrl = base.href.replace(/\/$/, '');
  for (const [name, key] of [
    ['PCG_MAAS_API_KEY', options.apiKey],
    ['PCG_MAAS_USER_KEY', options.userKey],
  ] as const)
    if (key !== undefined && !/^\w+:\w+:\w+$/.test(key))
      throw new Error(`${name} must be consumer:token:secret, as "maas apikey --username=..." prints it`);
  const { version, skewMs } = await greet(maasUrl);
  const now = () => Date.now() + skewMs;
  const call = maasCaller(maasUrl, options.apiKey, now);
  const me = await whoami(call, 'PCG_MAAS_API_KEY');
  if (!me.is_superuser)
    throw new Error(
      `PCG_MAAS_API_KEY belongs to ${me.username}, who is no administrator: the recordings were made by one. ` +
        'Give the key of an administrator, and this one as PCG_MAAS_USER_KEY.',
    );
  if (options.userKey !== undefined) {
    const user = await whoami(maasCaller(maasUrl, options.userKey, now), 'PCG_MAAS_USER_KEY');
    if (user.is_superuser)
      throw new Error(
        `PCG_MAAS_USER_KEY belongs to ${user.username}, an administrator: give the key of a user without rights, or none`,
      );
  }
  return { base, maasUrl, version, username: me.username, skewMs, call };
}

/** The one question that needs no key. */
async function greet(maasUrl: string): Promise<{ version: string; skewMs: number }> {
  const url = `${maasUrl}/api/2.0/version/`;
  let answer: Response;
  try {
    answer = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(30_000) });
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const text = cause instanceof Error ? cause.message : String(cause);
    const hint = /certificate|self.signed|issuer/i.test(text)
      ? '; for a private CA set NODE_EXTRA_CA_CERTS to its PEM file'
      : '';
    throw new Error(`GET ${url}: ${text}${hint}`, { cause: error });
  }
  const location = answer.headers.get('location');
  if (location !== null)
    throw new Error(`GET ${url} redirects to ${location}: set PCG_MAAS_URL to where MAAS itself answers`);
  const text = await answer.text();
  const version = /"version": *"([^"]+)"/.exec(text)?.[1];
  if (answer.status !== 200 || version === undefined)
    throw new Error(`GET ${url}: ${answer.status}, not the version of a MAAS: ${text.slice(0, 120)}`);
  const date = Date.parse(answer.headers.get('date') ?? '');
  return { version, skewMs: Number.isNaN(date) ? 0 : date - Date.now() };
}

async function whoami(call: Caller, name: string): Promise<{ username: string; is_superuser: boolean }> {
  const { status, json } = await call('GET', 'users/?op=whoami');
  // A 401 of MAAS prints the secret that it expected.
  if (status !== 200) throw new Error(`MAAS does not accept ${name}: ${status}`);
  return json;
}
