/** Addresses and names: idempotent for ourselves, never shared with anybody else. */
import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import { freeAddresses, ipv4Bounds, isUsableIn } from '../../src/maas/vip.ts';
import { loadRecordings } from '../support/maas-recordings.ts';
import { clientOf, json, never, serveScript, text } from '../support/maas-wire.ts';

const SUBNET = {
  id: 3,
  name: 'net',
  cidr: '10.0.0.0/24',
  gateway_ip: '10.0.0.1',
  vlan: { vid: 7, fabric: 'f', space: 's' },
};

/** A region with one subnet whose addresses can be reserved, as MAAS answers. */
async function addressRegion(free: { start: string; end: string; num_addresses: number }[]) {
  const taken = new Map<string, 'us' | 'other'>();
  const knobs = { loseReserve: 0, full: false, disabled: false, keeps: false };
  const region = await serveScript((seen, out) => {
    const op = seen.query.get('op');
    if (seen.path === 'subnets/') return json(out, [SUBNET]);
    if (op === 'unreserved_ip_ranges') return json(out, free);
    if (op === 'statistics')
      return json(out, { num_available: 200, largest_available: 100, total_addresses: 254 });
    const ip = seen.form.get('ip') ?? '';
    // In the middle of a claim: what was asked before it was still allowed.
    if (knobs.disabled && (op === 'reserve' || op === 'whoami'))
      return text(out, 403, 'User is not allowed access to this API.');
    if (op === 'whoami') return json(out, { username: 'pcg', is_superuser: false });
    if (op === 'reserve') {
      if (knobs.full) return text(out, 503, 'No more IPs available');
      if (taken.has(ip)) return text(out, 404, `The IP address ${ip} is already in use.`);
      if (ip.startsWith('10.0.0.22')) return text(out, 403, 'belongs to an existing dynamic range');
      taken.set(ip, 'us');
      if (knobs.loseReserve > 0) {
        knobs.loseReserve -= 1;
        return void out.destroy();
      }
      return json(out, { ip, alloc_type: 4, owner: { username: 'pcg' } });
    }
    if (op === 'release') {
      if (knobs.keeps) return text(out, 400, 'The address is in use by a DNS record.');
      if (taken.get(ip) !== 'us')
        return text(out, 400, 'IP address does not exist, or does not belong to you');
      taken.delete(ip);
      return void out.writeHead(204).end();
    }
    const asked = seen.query.get('ip');
    const own = [...taken].filter(
      ([address, owner]) => owner === 'us' && (asked === null || asked === address),
    );
    return json(
      out,
      own.map(([address]) => ({ ip: address, owner: { username: 'pcg' }, subnet: { cidr: SUBNET.cidr } })),
    );
  });
  return Object.assign(region, { taken, knobs });
}

describe('reserving an address', () => {
  it('an address in use is 404: ours counts as reserved, another one as taken', async () => {
    await using region = await addressRegion([]);
    region.taken.set('10.0.0.50', 'other').set('10.0.0.51', 'us');
    await using client = clientOf(region);
    expect(await client.reserveAddress({ ip: '10.0.0.50' }, never())).toEqual({ kind: 'taken' });
    expect(await client.reserveAddress({ ip: '10.0.0.51' }, never())).toEqual({
      kind: 'reserved',
      ip: '10.0.0.51',
    });
    expect(await client.reserveAddress({ ip: '10.0.0.220' }, never())).toEqual({ kind: 'taken' });
    expect(await client.reserveAddress({ ip: '10.0.0.52' }, never())).toEqual({
      kind: 'reserved',
      ip: '10.0.0.52',
    });
  });

  it('a 403 is a dynamic range while the key works, and else a user that was disabled: not a taken address', async () => {
    await using region = await addressRegion([{ start: '10.0.0.228', end: '10.0.0.230', num_addresses: 3 }]);
    await using client = clientOf(region);
    expect(await client.reserveAddress({ subnetCidr: '10.0.0.0/24' }, never())).toMatchObject({
      kind: 'reserved',
      ip: '10.0.0.230',
    });
    region.taken.clear();
    region.knobs.disabled = true;
    for (const request of [{ ip: '10.0.0.60' }, { subnetCidr: '10.0.0.0/24' }])
      await expect(client.reserveAddress(request, never())).rejects.toMatchObject({ code: 'MAAS_FORBIDDEN' });
    expect(region.taken.size).toBe(0);
  });

  it('MAAS hands out gateway, network and broadcast addresses: not to us', async () => {
    await using region = await addressRegion([]);
    await using client = clientOf(region);
    for (const ip of ['10.0.0.1', '10.0.0.0', '10.0.0.255']) {
      expect(await client.reserveAddress({ ip }, never())).toEqual({ kind: 'taken' });
    }
    expect(region.taken.size).toBe(0);
  });

  it('MAAS ignores a subnet that does not fit the address: refused here', async () => {
    await using region = await addressRegion([]);
    await using client = clientOf(region);
    for (const request of [
      { ip: '192.168.1.1' },
      { ip: '10.0.0.9', subnetCidr: '10.9.0.0/24' },
      { subnetCidr: '10.9.0.0/24' },
    ]) {
      await expect(client.reserveAddress(request, never())).rejects.toMatchObject({ code: 'SUBNET_UNKNOWN' });
    }
    for (const request of [{}, { ip: 'x' }]) {
      await expect(client.reserveAddress(request, never())).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    }
  });

  it('a lost reply reserves one address, not two', async () => {
    await using region = await addressRegion([{ start: '10.0.0.100', end: '10.0.0.120', num_addresses: 21 }]);
    region.knobs.loseReserve = 1;
    await using client = clientOf(region);
    const outcome = await client.reserveAddress({ subnetCidr: '10.0.0.0/24' }, never());
    expect(outcome.kind).toBe('reserved');
    expect([...region.taken.keys()]).toEqual(outcome.kind === 'reserved' ? [outcome.ip] : []);
  });

  it('twenty clusters that ask at once get twenty addresses', async () => {
    await using region = await addressRegion([
      { start: '10.0.0.100', end: '10.0.0.199', num_addresses: 100 },
    ]);
    await using client = clientOf(region);
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => client.reserveAddress({ subnetCidr: '10.0.0.0/24' }, never())),
    );
    expect(
      new Set(outcomes.map((outcome) => (outcome.kind === 'reserved' ? outcome.ip : outcome.kind))).size,
    ).toBe(20);
  });

  it('a candidate that another gateway of the same user took is not shared with it', async () => {
    await using region = await addressRegion([{ start: '10.0.0.100', end: '10.0.0.101', num_addresses: 2 }]);
    region.taken.set('10.0.0.100', 'us').set('10.0.0.101', 'us'); // reserved between our look and our claim
    await using client = clientOf(region);
    expect(await client.reserveAddress({ subnetCidr: '10.0.0.0/24' }, never())).toEqual({ kind: 'full' });
  });

  it('an exhausted subnet is 503: full', async () => {
    await using region = await addressRegion([]);
    region.knobs.full = true;
    await using client = clientOf(region);
    expect(await client.reserveAddress({ ip: '10.0.0.60' }, never())).toEqual({ kind: 'full' });
    expect(await client.reserveAddress({ subnetCidr: '10.0.0.0/24' }, never())).toEqual({ kind: 'full' });
  });

  it('release is idempotent, and refuses nothing that is not ours', async () => {
    await using region = await addressRegion([]);
    region.taken.set('10.0.0.50', 'other').set('10.0.0.51', 'us');
    await using client = clientOf(region);
    expect(await client.releaseAddress('10.0.0.51', never())).toBe('released');
    expect(await client.releaseAddress('10.0.0.51', never())).toBe('absent');
    expect(await client.releaseAddress('10.0.0.50', never())).toBe('absent');
    expect(await client.reservedAddresses(never())).toEqual([]);
  });

  it('a release that is refused for another reason is no success while the address is still ours', async () => {
    await using region = await addressRegion([]);
    region.taken.set('10.0.0.51', 'us');
    region.knobs.keeps = true;
    await using client = clientOf(region);
    await expect(client.releaseAddress('10.0.0.51', never())).rejects.toMatchObject({
      code: 'MAAS_BAD_REQUEST',
    });
    region.knobs.keeps = false;
    expect(await client.releaseAddress('10.0.0.51', never())).toBe('released');
  });
});

describe('choosing an address', () => {
  const subnet = { cidr: '10.0.0.0/24', gatewayIp: '10.0.0.1' };

  it('starts in the largest range and leaves out what nobody may use', () => {
    const ranges = [
      { start: '10.0.0.0', end: '10.0.0.2' },
      { start: '10.0.0.250', end: '10.0.0.255' },
    ];
    expect(freeAddresses(subnet, ranges, 99, () => 0)).toEqual([
      '10.0.0.250',
      '10.0.0.251',
      '10.0.0.252',
      '10.0.0.253',
      '10.0.0.254',
      '10.0.0.2',
    ]);
    expect(freeAddresses(subnet, ranges, 2, () => 0.5)).toEqual(['10.0.0.253', '10.0.0.254']);
    expect(freeAddresses(subnet, [{ start: 'fd00::1', end: 'fd00::2' }], 2)).toEqual([]);
  });

  it('knows the bounds of networks', () => {
    expect(ipv4Bounds('10.1.2.3/8')).toEqual({ first: 0x0a000000, last: 0x0affffff });
    for (const bad of ['10.0.0.0', '10.0.0.0/33', 'x/8', 'fd00::/64', '10.0.0.0/'])
      expect(ipv4Bounds(bad)).toBeUndefined();
    expect(isUsableIn({ cidr: '10.0.0.4/31', gatewayIp: undefined }, '10.0.0.4')).toBe(true);
  });
});

describe('DNS names', () => {
  /** As MAAS: a name that exists is refused only when the creates do not overlap. */
  async function dnsRegion(racers: string[] = []) {
    const rows: { id: number; fqdn: string; ips: string[] }[] = [];
    let lastId = 0;
    const show = (row: { id: number; fqdn: string; ips: string[] }) => ({
      id: row.id,
      fqdn: row.fqdn,
      ip_addresses: row.ips.map((ip) => ({ ip })),
    });
    const region = await serveScript((seen, out) => {
      const ips = (seen.form.get('ip_addresses') ?? '').split(' ').filter(Boolean);
      const id = Number(/^dnsresources\/(\d+)\/$/.exec(seen.path)?.[1]);
      if (seen.method === 'GET')
        return json(out, rows.filter((row) => row.fqdn === seen.query.get('fqdn')).map(show));
      if (seen.method === 'POST') {
        const fqdn = seen.form.get('fqdn') ?? '';
        if (rows.some((row) => row.fqdn === fqdn))
          return json(out, { __all__: ['Labels must be unique within their zone.'] }, 400);
        const racer = racers.shift();
        if (racer !== undefined) rows.push({ id: ++lastId, fqdn, ips: [racer] });
        const row = { id: ++lastId, fqdn, ips };
        rows.push(row);
        return json(out, show(row));
      }
      const row = rows.find((candidate) => candidate.id === id);
      if (row === undefined) return text(out, 404, 'No DNSResource matches the given query.');
      if (seen.method === 'PUT') {
        row.ips = ips;
        return json(out, show(row));
      }
      rows.splice(rows.indexOf(row), 1);
      return void out.writeHead(204).end();
    });
    return Object.assign(region, { rows });
  }

  it('parallel creates of one name make duplicates in MAAS: here they make one', async () => {
    await using region = await dnsRegion();
    await using client = clientOf(region);
    await Promise.all(
      Array.from({ length: 5 }, () => client.createDnsResource('api.c1.maas', ['10.0.0.9'], 30, never())),
    );
    expect(region.rows).toEqual([{ id: 1, fqdn: 'api.c1.maas', ips: ['10.0.0.9'] }]);
  });

  it('a duplicate made at the same moment by another gateway is cleaned up: the oldest stays', async () => {
    await using region = await dnsRegion(['10.0.0.8']);
    await using client = clientOf(region);
    expect(await client.createDnsResource('api.c1.maas', ['10.0.0.9'], 30, never())).toMatchObject({ id: 1 });
    expect(region.rows).toEqual([{ id: 1, fqdn: 'api.c1.maas', ips: ['10.0.0.9'] }]);
  });

  it('an existing name gets the wanted addresses; deleting twice is fine', async () => {
    await using region = await dnsRegion();
    await using client = clientOf(region);
    const made = await client.createDnsResource('api.c1.maas', ['10.0.0.9'], 30, never());
    expect(await client.createDnsResource('api.c1.maas', ['10.0.0.10'], 30, never())).toMatchObject({
      id: made.id,
      addresses: ['10.0.0.10'],
    });
    await client.deleteDnsResource(made.id, never());
    await client.deleteDnsResource(made.id, never());
    expect(await client.dnsResources('api.c1.maas', never())).toEqual([]);
  });

  it('MAAS answers 500 to a bad address: refused before it is sent', async () => {
    await using region = await dnsRegion();
    await using client = clientOf(region);
    const error = await client
      .createDnsResource('api.c1.maas', ['300.1.1.1'], 30, never())
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(PcgError);
    expect(error).toMatchObject({ code: 'INVALID_INPUT' });
    expect(region.seen.every((seen) => seen.method === 'GET')).toBe(true);
  });

  it('an unknown domain is named as such', async () => {
    await using region = await serveScript((seen, out) =>
      seen.method === 'POST'
        ? text(out, 404, 'No Domain matches the given query.')
        : text(out, 404, 'No Domain'),
    );
    await using client = clientOf(region);
    await expect(client.createDnsResource('a.nope', ['10.0.0.1'], 30, never())).rejects.toMatchObject({
      code: 'DOMAIN_UNKNOWN',
    });
  });
});

describe('addresses in use', () => {
  it('are those that MAAS gave to anybody, asked for without their holders', async () => {
    const recorded = loadRecordings().find(({ name }) => name.includes('with_username=0,with_summary=0'));
    if (!recorded) throw new Error('no such recording');
    const { first_3000_chars: start } = recorded.response.body_summary as { first_3000_chars: string };
    const rows = `${start.slice(0, start.lastIndexOf('},'))}}]`;
    await using region = await serveScript((_seen, out) => {
      out.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(rows);
    });
    await using client = clientOf(region);
    const addresses = await client.addressesIn(1, never());
    expect([...addresses].slice(0, 3)).toEqual(['10.10.0.3', '10.10.0.60', '10.10.0.61']);
    expect(region.seen[0]?.path).toBe('subnets/1/');
    expect(region.seen[0]?.query.toString()).toBe(recorded.request.query);
  });
});
