/** Pairing against the portal's API with the gateway's real client (R30-R36, X17). */
import { describe, expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { pairWithPortal } from '../../src/tunnel/pair-client.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { testPortal, type TestPortal } from '../support/portal.ts';

const codeFor = async (portal: TestPortal, body: Record<string, string>) =>
  (await portal.call('POST', '/api/v1/pairing-codes', body)).body;
const pair = (portal: TestPortal, code: string, identity = generateIdentity()) =>
  pairWithPortal({ portalUrl: portal.url, code, identity, clock: steadyClock });
const gateways = async (portal: TestPortal) => (await portal.call('GET', '/api/v1/gateways')).body.items;

describe('a pairing code', () => {
  it('makes one gateway, which both ends know by the same words', async () => {
    await using portal = await testPortal();
    const { code, gatewayId, id } = await codeFor(portal, { gatewayName: 'dc1' });
    expect(await gateways(portal)).toEqual([]);
    const paired = await pair(portal, code);
    expect(paired.gatewayId).toBe(gatewayId);
    expect(await gateways(portal)).toMatchObject([
      { id: gatewayId, name: 'dc1', words: paired.words, connection: { state: 'never' } },
    ]);
    expect((await portal.call('GET', `/api/v1/pairing-codes/${id}`)).body.state).toBe('paired');
  });

  it('may be repeated by the same gateway, and by nobody else (R31)', async () => {
    await using portal = await testPortal();
    const { code } = await codeFor(portal, { gatewayName: 'dc1' });
    const identity = generateIdentity();
    const first = await pair(portal, code, identity);
    expect(await pair(portal, code, identity)).toEqual(first);
    await expect(pair(portal, code)).rejects.toMatchObject({ code: 'PAIRING_CODE_USED' });
    expect(await gateways(portal)).toHaveLength(1);
  });

  it('goes to one of two gateways that use it at the same moment', async () => {
    await using portal = await testPortal();
    const { code } = await codeFor(portal, { gatewayName: 'dc1' });
    const results = await Promise.allSettled([1, 2, 3, 4].map(() => pair(portal, code)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await gateways(portal)).toHaveLength(1);
  });

  it('is revoked by a newer one, by hand, and by time; nothing half-registered stays (R36)', async () => {
    let skewMs = 0;
    await using portal = await testPortal({ clock: { ...steadyClock, now: () => Date.now() + skewMs } });
    const older = await codeFor(portal, { gatewayName: 'dc1' });
    const newer = await codeFor(portal, { gatewayName: 'dc1' });
    await expect(pair(portal, older.code)).rejects.toMatchObject({ code: 'PAIRING_CODE_REVOKED' });
    await portal.call('DELETE', `/api/v1/pairing-codes/${newer.id}`);
    await expect(pair(portal, newer.code)).rejects.toMatchObject({ code: 'PAIRING_CODE_REVOKED' });
    const late = await codeFor(portal, { gatewayName: 'dc1' });
    skewMs = 24 * 3_600_000 + 1000;
    await expect(pair(portal, late.code)).rejects.toMatchObject({ code: 'PAIRING_CODE_EXPIRED' });
    skewMs = 0;
    expect(await gateways(portal)).toEqual([]);
  });

  it('is refused by name when it is wrong, and locked after five wrong proofs, also over a restart', async () => {
    await using portal = await testPortal();
    const other = await testPortal();
    const foreign = await codeFor(other, { gatewayName: 'dc1' });
    await other[Symbol.asyncDispose]();
    await expect(pair(portal, foreign.code)).rejects.toMatchObject({ code: 'PAIRING_CODE_UNKNOWN' });
    const { id } = await codeFor(portal, { gatewayName: 'dc1' });
    const { publicKey, sealingKey } = generateIdentity();
    const hello = { codeId: id, gatewayKey: publicKey, sealingKey, nonce: publicKey, portalUrl: portal.url };
    const confirm = { ...hello, portalNonce: publicKey, proof: publicKey };
    const codes = [];
    for (let n = 0; n < 6; n += 1)
      codes.push((await portal.call('POST', '/api/v1/pair/confirm', confirm)).body.code);
    expect(codes.slice(0, 4)).toEqual(Array(4).fill('PAIRING_PROOF_FAILED'));
    expect(codes.slice(4)).toEqual(Array(2).fill('PAIRING_TOO_MANY_TRIES'));
  });

  it('is tried no more often than allowed from one address, of IPv6 from one /64', async () => {
    await using portal = await testPortal({ trustProxy: true, limits: { pairingCalls: 3 } });
    const { publicKey, sealingKey } = generateIdentity();
    const hello = {
      codeId: '0000000',
      gatewayKey: publicKey,
      sealingKey,
      nonce: publicKey,
      portalUrl: portal.url,
    };
    const call = async (forwarded: string): Promise<string> =>
      (await portal.call('POST', '/api/v1/pair/hello', hello, { 'x-forwarded-for': forwarded })).body.code;
    for (let n = 1; n <= 3; n += 1)
      expect(await call(`2001:db8:1:2:${n}::${n}`)).toBe('PAIRING_CODE_UNKNOWN');
    expect(await call('2001:db8:1:2:ffff::')).toBe('TOO_MANY_TRIES');
    // what the caller wrote before the proxy added its word changes nothing
    expect(await call('203.0.113.7, 2001:db8:1:2::9')).toBe('TOO_MANY_TRIES');
    expect(await call('2001:db8:1:3::1')).toBe('PAIRING_CODE_UNKNOWN');
    for (let n = 1; n <= 3; n += 1) await call('::ffff:192.0.2.1');
    expect(await call('192.0.2.1')).toBe('TOO_MANY_TRIES');
    expect(await call('192.0.2.2')).toBe('PAIRING_CODE_UNKNOWN');
  });

  it('re-pairs a gateway in place: same id, new key, old key out (X17)', async () => {
    await using portal = await testPortal();
    const { identity, paired } = await portal.pair('dc1');
    const old = await connectGateway(identity, paired);
    await eventually(async () => (await gateways(portal))[0].connection.state === 'connected');
    expect((await portal.call('POST', '/api/v1/pairing-codes', { gatewayName: 'dc1' })).status).toBe(409);
    const { code } = await codeFor(portal, { gatewayName: 'dc1', gateway: paired.gatewayId });
    const fresh = generateIdentity();
    const again = await pair(portal, code, fresh);
    expect(again.gatewayId).toBe(paired.gatewayId);
    await eventually(async () => (await gateways(portal))[0].connection.state === 'disconnected');
    await old.disconnect();
    await using gateway = await connectGateway(fresh, again);
    // Its numbers begin again, and nothing of it is taken for old.
    gateway.emit({});
    await eventually(async () => (await gateways(portal))[0].connection.state === 'connected');
    await eventually(
      async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1,
    );
  });
});

describe('deleting a gateway (R86)', () => {
  it('refuses an offline one without its name, and its key and code afterwards', async () => {
    await using portal = await testPortal();
    const { code } = await codeFor(portal, { gatewayName: 'dc1' });
    const identity = generateIdentity();
    const { gatewayId } = await pair(portal, code, identity);
    const at = `/api/v1/gateways/${gatewayId}`;
    expect(await portal.call('DELETE', at, {})).toMatchObject({ status: 400, body: { field: 'confirm' } });
    expect((await portal.call('DELETE', at, { confirm: 'dc1' })).status).toBe(204);
    await expect(pair(portal, code, identity)).rejects.toMatchObject({ code: 'PAIRING_CODE_REVOKED' });
    expect(await gateways(portal)).toEqual([]);
  });

  it('refuses while clusters live on it, and lists them', async () => {
    await using portal = await testPortal();
    const { identity, paired } = await portal.pair('dc1');
    await using _gateway = await connectGateway(identity, paired);
    await eventually(
      async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1,
    );
    const { clusterSpec } = await import('../support/portal.ts');
    await portal.call('POST', '/api/v1/clusters?preflight=skip', { spec: clusterSpec('ca-site1') });
    expect(
      await portal.call('DELETE', `/api/v1/gateways/${paired.gatewayId}`, { confirm: 'dc1' }),
    ).toMatchObject({
      status: 409,
      body: { code: 'GATEWAY_HAS_CLUSTERS', details: { clusters: [{ name: 'prod' }] } },
    });
  });
});
