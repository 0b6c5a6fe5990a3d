/** Cloud accounts: tried by the gateway first, sealed to it, switched, removed (R95-R98). */
import { describe, expect, it } from 'vitest';
import { connectGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { clusterSpec, testPortal } from '../support/portal.ts';

const KEY = 'consumerconsumer12:tokentokentoken123:secretsecretsecretsecretsecret12';
const VALIDATE = 'POST /v1/accounts/validate';

async function site() {
  await using stack = new AsyncDisposableStack();
  const portal = stack.use(await testPortal());
  const { identity, paired } = await portal.pair('dc1');
  const gateway = stack.use(await connectGateway(identity, paired));
  await eventually(async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1);
  gateway.answer(VALIDATE, 200, { ok: true, maasVersion: '3.5.0', rights: [] });
  const running = stack.move();
  const add = (changes = {}) =>
    portal.call('POST', '/api/v1/cloud-accounts', {
      name: 'second',
      gateway: paired.gatewayId,
      endpoint: 'http://10.0.0.2:5240/MAAS',
      apiKey: KEY,
      ...changes,
    });
  return { portal, gateway, identity, paired, add, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

describe('a new account', () => {
  it('is tried by the gateway, then stored sealed; only that gateway opens it, for that account (X8)', async () => {
    await using s = await site();
    const made = await s.add();
    expect(made).toMatchObject({
      status: 201,
      body: { name: 'second', default: false, report: { maasVersion: '3.5.0' } },
    });
    expect(JSON.stringify(made.body)).not.toContain('secretsecret');
    const document = await s.gateway.document('cloud-account', made.body.id);
    const { sealedKey } = document.spec as { sealedKey: string };
    expect(s.identity.open(sealedKey, `pcg.cloud-account.${made.body.id}`).toString()).toBe(KEY);
    expect(() => s.identity.open(sealedKey, 'pcg.cloud-account.ca-other')).toThrow();
    const asked = s.gateway.asked.find(({ path }) => path === '/v1/accounts/validate');
    expect(asked?.body).toEqual({ endpoint: 'http://10.0.0.2:5240/MAAS', sealedKey, account: made.body.id });
    const { readFile, readdir } = await import('node:fs/promises');
    for (const file of await readdir(s.portal.directory))
      expect((await readFile(`${s.portal.directory}/${file}`)).includes('secretsecret')).toBe(false);
  });

  it('that MAAS refuses is not stored, and the answer names the field (R97)', async () => {
    await using s = await site();
    s.gateway.answer(VALIDATE, 200, {
      ok: false,
      rights: [],
      problem: {
        code: 'MAAS_UNAUTHORIZED',
        message: 'MAAS refused the API key',
        fix: 'Create a new key.',
        retryable: false,
        userFixable: true,
      },
    });
    expect(await s.add()).toMatchObject({
      status: 401,
      body: { code: 'MAAS_UNAUTHORIZED', field: 'apiKey' },
    });
    expect((await s.portal.call('GET', '/api/v1/cloud-accounts')).body.items).toHaveLength(1);
    expect(s.gateway.documents.size).toBe(1);
  });

  it.each([
    [{ apiKey: 'one:two' }, 'apiKey'],
    [{ apiKey: undefined }, 'apiKey'],
    [{ endpoint: 'maas' }, 'endpoint'],
    [{ gateway: 'gw-none' }, 'gateway'],
    [{ name: 'Bad Name' }, 'name'],
    [{ name: 'dc1-maas' }, 'name'],
  ])('with %j names the field', async (changes, field) => {
    await using s = await site();
    expect(await s.add(changes)).toMatchObject({ body: { field } });
  });

  it('may be sealed by the caller, who then chooses its id', async () => {
    await using s = await site();
    const made = await s.add({ apiKey: undefined, id: 'ca-mine', sealedKey: 'pcg1.opaque' });
    expect(made).toMatchObject({ status: 201, body: { id: 'ca-mine' } });
    expect((await s.gateway.document('cloud-account', 'ca-mine')).spec).toMatchObject({
      sealedKey: 'pcg1.opaque',
    });
  });
});

describe('an existing account', () => {
  it('is tried again before its endpoint or key changes; the gateway keeps its own', async () => {
    await using s = await site();
    const { body } = await s.add();
    const at = `/api/v1/cloud-accounts/${body.id}`;
    s.gateway.answer(VALIDATE, 200, { ok: false, rights: [] });
    expect((await s.portal.call('PUT', at, { endpoint: 'http://10.0.0.9/MAAS' })).status).toBe(502);
    expect((await s.portal.call('GET', at)).body.endpoint).toBe('http://10.0.0.2:5240/MAAS');
    s.gateway.answer(VALIDATE, 200, { ok: true, rights: [] });
    expect((await s.portal.call('PUT', at, { endpoint: 'http://10.0.0.9/MAAS' })).status).toBe(200);
    expect(await s.gateway.document('cloud-account', body.id, 2)).toMatchObject({
      spec: { endpoint: 'http://10.0.0.9/MAAS' },
    });
    const own = '/api/v1/cloud-accounts/ca-site1';
    expect((await s.portal.call('PUT', own, { apiKey: KEY })).status).toBe(409);
    expect((await s.portal.call('DELETE', own)).status).toBe(409);
  });

  it('is removed when no cluster uses it, and withdrawn from the gateway', async () => {
    await using s = await site();
    const { body } = await s.add();
    await s.portal.call('POST', '/api/v1/clusters?preflight=skip', { spec: clusterSpec(body.id) });
    const at = `/api/v1/cloud-accounts/${body.id}`;
    expect(await s.portal.call('DELETE', at)).toMatchObject({
      status: 409,
      body: { details: { clusters: [{ name: 'prod' }] } },
    });
    const spare = (await s.add({ name: 'spare' })).body.id;
    expect((await s.portal.call('DELETE', `/api/v1/cloud-accounts/${spare}`)).status).toBe(204);
    expect(await s.gateway.document('cloud-account', spare, 2)).toMatchObject({ spec: null });
  });

  it('shows what the site has, through the gateway, and passes its problems on', async () => {
    await using s = await site();
    const inventory = {
      zones: [],
      pools: [],
      domains: [{ name: 'maas', isDefault: true }],
      subnets: [],
      images: [],
    };
    s.gateway.answer('GET /v1/accounts/ca-site1/inventory', 200, inventory);
    const at = '/api/v1/cloud-accounts/ca-site1/inventory';
    expect((await s.portal.call('GET', at)).body).toEqual(inventory);
    s.gateway.answer('GET /v1/accounts/ca-site1/inventory', 503, {
      code: 'MAAS_OVERLOADED',
      message: 'MAAS restarts',
      fix: 'Wait.',
      retryable: true,
      userFixable: false,
    });
    expect(await s.portal.call('GET', at)).toMatchObject({ status: 503, body: { code: 'MAAS_OVERLOADED' } });
    s.gateway.answer('GET /v1/accounts/ca-site1/inventory', 200, { zones: 'lies' });
    expect(await s.portal.call('GET', at)).toMatchObject({ status: 500, body: { code: 'INTERNAL' } });
  });
});
