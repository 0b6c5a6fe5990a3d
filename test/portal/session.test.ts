/** Who may do what: sign-in, cookies, roles, tokens. */
import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../src/portal/limits.ts';
import { ADMIN, testPortal } from '../support/portal.ts';

const anonymous = { authorization: '' };

describe('sign-in', () => {
  it('answers with a token that works as header and as cookie, until sign-out', async () => {
    await using portal = await testPortal();
    const signedIn = await portal.call('POST', '/api/v1/session', ADMIN, anonymous);
    expect(signedIn.status).toBe(201);
    const cookie = signedIn.headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(/^pcg_session=pcgt_[^;]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=\d+$/);
    const byCookie = { ...anonymous, cookie: cookie.split(';')[0] ?? '' };
    expect((await portal.call('GET', '/api/v1/me', undefined, byCookie)).body).toEqual({
      email: ADMIN.email,
      role: 'tenant-admin',
    });
    const out = await portal.call('DELETE', '/api/v1/session', undefined, {
      ...byCookie,
      'sec-fetch-site': 'same-origin',
    });
    expect(out.status).toBe(204);
    expect((await portal.call('GET', '/api/v1/me', undefined, byCookie)).status).toBe(401);
    expect((await portal.call('GET', '/api/v1/session', undefined, byCookie)).body).toEqual({ user: null });
  });

  it('does not tell a wrong password from an unknown user, and slows down guessing', async () => {
    await using portal = await testPortal({ limits: { signInTries: 3 } });
    const wrong = await portal.call('POST', '/api/v1/session', { ...ADMIN, password: 'wrong' }, anonymous);
    const nobody = await portal.call(
      'POST',
      '/api/v1/session',
      { email: 'x@y.z', password: 'wrong' },
      anonymous,
    );
    expect(wrong.status).toBe(401);
    expect(wrong.body).toEqual(nobody.body);
    const guesses = await Promise.all(
      Array.from({ length: 6 }, () =>
        portal.call('POST', '/api/v1/session', { ...ADMIN, password: 'no' }, anonymous),
      ),
    );
    expect(guesses.filter(({ status }) => status === 429)).toHaveLength(4);
    const right = await portal.call('POST', '/api/v1/session', ADMIN, anonymous);
    expect(right).toMatchObject({ status: 429, body: { code: 'TOO_MANY_TRIES' } });
    expect(Number(right.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  it('counts guesses by the /64 of an address that a trusted proxy saw, not by what the caller says of itself', async () => {
    await using portal = await testPortal({ trustProxy: true, limits: { signInTries: 3 } });
    const guess = async (forwarded: string, email = ADMIN.email): Promise<number> =>
      (
        await portal.call(
          'POST',
          '/api/v1/session',
          { email, password: 'no' },
          { ...anonymous, 'x-forwarded-for': forwarded },
        )
      ).status;
    for (let n = 1; n <= 3; n += 1) expect(await guess(`198.51.100.${n}, 2001:db8:1:2::${n}`)).toBe(401);
    expect(await guess('2001:db8:1:2:ffff::9')).toBe(429);
    expect(await guess('203.0.113.7, 2001:db8:1:2::1')).toBe(429);
    expect(await guess('2001:db8:1:3::1')).toBe(401);
    expect(await guess('2001:db8:1:2::1', 'other@example.test')).toBe(401);
  });

  it('refuses a cookie that another page sends (CSRF), also without SameSite', async () => {
    await using portal = await testPortal();
    const cookie = { ...anonymous, cookie: `pcg_session=${portal.token}` };
    const post = (headers: Record<string, string>) =>
      portal.call('POST', '/api/v1/tokens', { name: 'x' }, { ...cookie, ...headers });
    expect((await post({ 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    expect((await post({ 'sec-fetch-site': 'same-site' })).status).toBe(403);
    expect((await post({ origin: 'https://evil.example' })).status).toBe(403);
    expect((await post({})).status).toBe(403);
    expect((await post({ 'sec-fetch-site': 'same-origin' })).status).toBe(201);
    expect((await post({ origin: portal.url })).status).toBe(201);
  });
});

describe('roles (R8)', () => {
  it('keeps gateways and users for tenant administrators, clusters for project administrators', async () => {
    await using portal = await testPortal();
    const as = async (role: string) => {
      const email = `${role}@example.test`;
      await portal.call('POST', '/api/v1/users', { email, role, password: 'a long password' });
      return { authorization: `Bearer ${await portal.signIn(email, 'a long password')}` };
    };
    const project = await as('project-admin');
    const viewer = await as('viewer');
    const status = async (who: Record<string, string>, method: string, path: string, body?: unknown) =>
      (await portal.call(method, `/api/v1${path}`, body, who)).status;
    for (const who of [project, viewer]) {
      expect(await status(who, 'GET', '/gateways')).toBe(200);
      expect(await status(who, 'GET', '/users')).toBe(403);
      expect(await status(who, 'POST', '/pairing-codes', { gatewayName: 'x' })).toBe(403);
      expect(await status(who, 'DELETE', '/gateways/gw-none', {})).toBe(403);
    }
    expect(await status(viewer, 'POST', '/clusters', { spec: {} })).toBe(403);
    expect(await status(project, 'POST', '/clusters', { spec: {} })).toBe(400);
    const body = { name: 'x', gateway: 'gw-none', endpoint: 'http://m/MAAS', apiKey: 'a:b:c' };
    expect(await status(project, 'POST', '/cloud-accounts', body)).toBe(403);
    expect(await status(project, 'POST', '/cloud-accounts', { ...body, scope: 'project' })).toBe(404);
  });

  it('signs a disabled or removed user out at once, and never locks the last administrator out', async () => {
    await using portal = await testPortal();
    const made = await portal.call('POST', '/api/v1/users', {
      email: 'U@Example.test',
      role: 'viewer',
      password: 'a long password',
    });
    expect(made.body.email).toBe('u@example.test');
    const who = { authorization: `Bearer ${await portal.signIn('u@example.test', 'a long password')}` };
    await portal.call('PUT', `/api/v1/users/${made.body.id}`, { disabled: true });
    expect((await portal.call('GET', '/api/v1/me', undefined, who)).status).toBe(401);
    const me = (await portal.call('GET', '/api/v1/users')).body.items.find(
      (user: { email: string }) => user.email === ADMIN.email,
    );
    expect((await portal.call('PUT', `/api/v1/users/${me.id}`, { role: 'viewer' })).status).toBe(409);
    expect((await portal.call('DELETE', `/api/v1/users/${me.id}`)).status).toBe(409);
  });

  it('stores neither passwords nor tokens in the clear, and makes a guess of a password take 64 MiB', async () => {
    await using portal = await testPortal({ limits: { passwordCost: DEFAULT_LIMITS.passwordCost } });
    const { body } = await portal.call('POST', '/api/v1/tokens', { name: 'ci' });
    const { readFile, readdir } = await import('node:fs/promises');
    const stored: string[] = [];
    for (const file of await readdir(portal.directory)) {
      const bytes = await readFile(`${portal.directory}/${file}`);
      stored.push(...(bytes.toString('latin1').match(/scrypt\$\d+\$\d+\$\d+/g) ?? []));
      for (const secret of [ADMIN.password, portal.token, body.token])
        expect(bytes.includes(secret)).toBe(false);
    }
    expect(new Set(stored)).toEqual(new Set([`scrypt$${2 ** 16}$8$1`]));
    const who = { authorization: `Bearer ${body.token}` };
    expect((await portal.call('GET', '/api/v1/me', undefined, who)).status).toBe(200);
    await portal.call('DELETE', `/api/v1/tokens/${body.id}`);
    expect((await portal.call('GET', '/api/v1/me', undefined, who)).status).toBe(401);
  });
});

describe('the API as a whole', () => {
  it('describes every endpoint in OpenAPI, with inputs and answers', async () => {
    await using portal = await testPortal();
    const { body } = await portal.call('GET', '/api/v1/openapi.json', undefined, anonymous);
    expect(body.openapi).toBe('3.1.0');
    const create = body.paths['/api/v1/clusters'].post;
    const schema = create.requestBody.content['application/json'].schema;
    expect(schema.properties.spec.required).toEqual(['name', 'cloudAccount', 'profile', 'pools']);
    expect(create.responses['201'].content['application/json'].schema.properties.status).toBeDefined();
    for (const [path, methods] of Object.entries(
      body.paths as Record<string, Record<string, { summary?: string }>>,
    ))
      if (path.startsWith('/api/v1/'))
        for (const operation of Object.values(methods)) expect(operation.summary, path).toBeTruthy();
  });

  it('answers everything wrong in one shape', async () => {
    await using portal = await testPortal();
    const wrong: [string, string, unknown, number][] = [
      ['GET', '/api/v1/nothing', undefined, 404],
      ['GET', '/api/v1/clusters/cl-none', undefined, 404],
      ['GET', '/api/v1/clusters/%00', undefined, 400],
      ['GET', '/api/v1/clusters?deleted=9999h', undefined, 400],
      ['POST', '/api/v1/clusters', 'text', 400],
      ['POST', '/api/v1/clusters', { spec: 'x'.repeat(9_000_000) }, 413],
    ];
    for (const [method, path, body, status] of wrong)
      expect(await portal.call(method, path, body), `${method} ${path}`).toMatchObject({
        status,
        body: { code: expect.any(String), message: expect.any(String), fix: expect.any(String) },
      });
    const broken = await fetch(`${portal.url}/api/v1/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"email":',
    });
    expect(broken.status).toBe(400);
    expect(await broken.json()).toMatchObject({ code: 'INVALID_INPUT' });
  });
});
