/** Domains, DNS resources (addresses) and DNS records (the rest). */
import { type Call, fields, forAdmin, type Handler } from '../call.ts';
import { parseIp } from '../ipv4.ts';
import { found, named } from '../lookup.ts';
import type { DnsResource, Domain } from '../model.ts';
import type { Region } from '../region.ts';
import { deleted, invalid, json, missing, pythonRepr, raisedText, refused } from '../reply.ts';
import { renderDomain } from '../render.ts';
import { renderDnsRecord, renderDnsResource } from '../render-address.ts';
import type { Resource } from '../router.ts';

const DOMAIN = /^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/;
const LABEL = /^[A-Za-z0-9_*@]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*$/;

const domainOf = (call: Call): Domain => found(call.region.domains, 'Domain', named(call.params[0]));

function ttlOf(text: string | undefined, field: string): number | null {
  if (text === undefined || text === '') return null;
  if (!/^\d+$/.test(text)) throw invalid({ [field]: 'Enter a whole number.' });
  return Number(text);
}

const createDomain: Handler = (call) => {
  const form = fields(call);
  const name = form.get('name') ?? '';
  if (name === '') throw invalid({ name: 'This field is required.' });
  if (!DOMAIN.test(name))
    throw invalid({
      name: [
        'Domain name contains invalid characters.',
        `Label contains disallowed characters: ${pythonRepr(name)}.`,
      ],
    });
  if (call.region.domains.some((domain) => domain.name === name))
    throw invalid({ name: 'Domain with this Name already exists.' });
  const domain = {
    id: call.region.nextId('domain', 0),
    name,
    ttl: ttlOf(form.get('ttl'), 'ttl'),
    authoritative: form.get('authoritative') !== 'false',
  };
  call.region.domains.push(domain);
  return json(renderDomain(call.region, domain));
};

const updateDomain: Handler = (call) => {
  const domain = domainOf(call);
  const form = fields(call);
  if (form.has('ttl')) domain.ttl = ttlOf(form.get('ttl'), 'ttl');
  domain.name = form.get('name') ?? domain.name;
  return json(renderDomain(call.region, domain));
};

const deleteDomain: Handler = (call) => {
  const { region } = call;
  const domain = domainOf(call);
  if (domain.id === 0) throw raisedText(400, 'This domain is the default domain, it cannot be deleted.');
  const names = [...region.dnsResources, ...region.dnsRecords]
    .filter((entry) => entry.domainId === domain.id)
    .map((entry) => `<DNSResource: name=${entry.name}>`);
  if (names.length > 0)
    throw raisedText(
      500,
      `("Cannot delete some instances of model 'Domain' because they are referenced through protected foreign keys: 'DNSResource.domain'.", {${names.join(', ')}})`,
    );
  region.domains.splice(region.domains.indexOf(domain), 1);
  return deleted();
};

/** `fqdn`, else `name` with `domain`; when both are given the latter wins. */
function nameOf(region: Region, form: ReturnType<typeof fields>): { name: string; domain: Domain } {
  const fqdn = form.get('fqdn');
  const byFqdn = fqdn
    ? region.domains
        .filter((domain) => fqdn.endsWith(`.${domain.name}`))
        .sort((a, b) => b.name.length - a.name.length)[0]
    : undefined;
  const name = form.get('name') ?? (byFqdn && fqdn ? fqdn.slice(0, -byFqdn.name.length - 1) : undefined);
  const domainName = form.get('domain');
  if (fqdn && !byFqdn && !domainName) throw missing('Domain');
  const errors: Record<string, string> = {};
  if (!name) errors.name = 'This field is required.';
  if (!domainName && !byFqdn) errors.domain = 'This field is required.';
  if (!name || Object.keys(errors).length > 0) throw invalid(errors);
  const domain = domainName
    ? found(region.domains, 'Domain', named(domainName))
    : (byFqdn ?? found(region.domains, 'Domain', () => false));
  if (!LABEL.test(name)) throw invalid({ __all__: `Invalid dnsresource name: ${name}.` });
  return { name, domain };
}

function checkIps(text: string | undefined): string[] {
  const ips = (text ?? '').split(/[\s,]+/).filter((ip) => ip !== '');
  for (const ip of ips)
    if (parseIp(ip) === undefined)
      throw raisedText(500, `failed to detect a valid IP address from ${pythonRepr(ip)}`);
  return ips;
}

/** Addresses that nobody holds yet become the caller's reserved ones. */
export function holdIps(call: Call, ips: readonly string[]): void {
  const { region, user } = call;
  for (const ip of ips) {
    if (region.addresses.has(ip)) continue;
    const at = region.now();
    region.addresses.set(ip, {
      ip,
      allocType: 4,
      username: user.username,
      subnetId: region.subnetOf(ip)?.id ?? null,
      machine: null,
      createdAt: at,
    });
    region.ledger.record({ at, action: 'reserve-ip', user: user.username, agentName: '', ip });
  }
}

/** What no DNS entry mentions any more is free again. */
function dropIps(call: Call, ips: readonly string[]): void {
  const { region } = call;
  for (const ip of ips) {
    const address = region.addresses.get(ip);
    const used = region.dnsResources.some((resource) => resource.ips.includes(ip));
    if (!address || address.allocType !== 4 || used) continue;
    region.addresses.delete(ip);
    region.ledger.record({
      at: region.now(),
      action: 'release-ip',
      user: address.username ?? '',
      agentName: '',
      ip,
    });
  }
}

/**
 * Between the check for duplicates and the commit, as measured: requests that overlap here all succeed, and
 * MAAS then has the same name several times.
 */
const CREATE_WINDOW_MS = 30;

const createResource: Handler = async (call) => {
  const { region } = call;
  const form = fields(call);
  const { name, domain } = nameOf(region, form);
  if (region.dnsResources.some((one) => one.name === name && one.domainId === domain.id))
    throw invalid({ __all__: 'Labels must be unique within their zone.' });
  if (
    region.dnsRecords.some((one) => one.name === name && one.domainId === domain.id && one.rrtype === 'CNAME')
  )
    throw invalid({ __all__: 'Cannot add address: CNAME present.' });
  const ips = checkIps(form.get('ip_addresses'));
  const addressTtl = ttlOf(form.get('address_ttl'), 'address_ttl');
  await call.site.wait(CREATE_WINDOW_MS);
  holdIps(call, ips);
  const resource: DnsResource = { id: region.nextId('dns'), name, domainId: domain.id, addressTtl, ips };
  region.dnsResources.push(resource);
  return json(renderDnsResource(region, resource));
};

const resourceOf = (call: Call): DnsResource =>
  found(call.region.dnsResources, 'DNSResource', (one) => String(one.id) === call.params[0]);

const adminOf = (handler: Handler): Handler => {
  return (call) => {
    if (!call.user.admin) throw refused();
    return handler(call);
  };
};

const updateResource: Handler = (call) => {
  const resource = resourceOf(call);
  const form = fields(call);
  const before = resource.ips;
  if (form.has('ip_addresses')) {
    const ips = checkIps(form.get('ip_addresses'));
    holdIps(call, ips);
    resource.ips = ips;
    dropIps(call, before);
  }
  if (form.has('address_ttl')) resource.addressTtl = ttlOf(form.get('address_ttl'), 'address_ttl');
  resource.name = form.get('name') ?? resource.name;
  return json(renderDnsResource(call.region, resource));
};

const deleteResource: Handler = (call) => {
  const resource = resourceOf(call);
  call.region.dnsResources.splice(call.region.dnsResources.indexOf(resource), 1);
  dropIps(call, resource.ips);
  return deleted();
};

/** By fqdn, domain, name. */
function matches(call: Call): (entry: { name: string; domainId: number }) => boolean {
  const { region, query } = call;
  const domainName = query.get('domain');
  const domain = domainName === undefined ? undefined : found(region.domains, 'Domain', named(domainName));
  const name = query.get('name');
  const fqdn = query.get('fqdn');
  return (entry) =>
    (!domain || entry.domainId === domain.id) &&
    (name === undefined || entry.name === name) &&
    (fqdn === undefined || `${entry.name}.${region.domain(entry.domainId).name}` === fqdn);
}

/** With `all`, names of machines that have an address come too, computed and without an id. */
function machineNames(region: Region) {
  return [...region.machines.values()].flatMap((machine) => {
    const ips = region.machineIps(machine);
    return ips.length === 0
      ? []
      : [
          {
            address_ttl: null,
            ip_addresses: null,
            fqdn: region.fqdn(machine),
            id: null,
            resource_records: [],
          },
        ];
  });
}

const listResources: Handler = (call) => {
  const { region, query } = call;
  const own = region.dnsResources.filter(matches(call)).map((one) => renderDnsResource(region, one));
  return json(query.get('all') === 'true' ? [...own, ...machineNames(region)] : own);
};

const RECORD_TYPES = ['MX', 'SRV', 'TXT', 'CNAME', 'SSHFP', 'NS'];

const createRecord: Handler = (call) => {
  const { region } = call;
  const form = fields(call);
  const { name, domain } = nameOf(region, form);
  const rrtype = (form.get('rrtype') ?? '').toUpperCase();
  if (!RECORD_TYPES.includes(rrtype))
    throw invalid({ rrtype: `${rrtype} is not one of ${RECORD_TYPES.join(' ')}.` });
  const rrdata = form.get('rrdata') ?? '';
  if (rrdata === '') throw invalid({ rrdata: 'This field is required.' });
  const record = {
    id: region.nextId('dnsrecord'),
    name,
    domainId: domain.id,
    rrtype,
    rrdata,
    ttl: ttlOf(form.get('ttl'), 'ttl'),
  };
  region.dnsRecords.push(record);
  return json(renderDnsRecord(region, record));
};

const recordOf = (call: Call) =>
  found(call.region.dnsRecords, 'DNSData', (one) => String(one.id) === call.params[0]);

export const nameResources: readonly Resource[] = [
  {
    path: /^domains\/$/,
    name: 'domains',
    methods: {
      GET: ({ region }) => json(region.domains.map((one) => renderDomain(region, one))),
      POST: forAdmin(createDomain),
    },
    post: { set_serial: forAdmin(() => json(null)) },
  },
  {
    path: /^domains\/([^/]+)\/$/,
    name: 'domain',
    methods: {
      GET: (call) => json(renderDomain(call.region, domainOf(call))),
      PUT: forAdmin(updateDomain),
      DELETE: forAdmin(deleteDomain),
    },
  },
  {
    path: /^dnsresources\/$/,
    name: 'dnsresources',
    methods: { GET: listResources, POST: forAdmin(createResource) },
  },
  {
    path: /^dnsresources\/([^/]+)\/$/,
    name: 'dnsresource',
    methods: {
      GET: (call) => json(renderDnsResource(call.region, resourceOf(call))),
      PUT: adminOf(updateResource),
      DELETE: adminOf(deleteResource),
    },
  },
  {
    path: /^dnsresourcerecords\/$/,
    name: 'dnsresourcerecords',
    methods: {
      GET: (call) =>
        json(call.region.dnsRecords.filter(matches(call)).map((one) => renderDnsRecord(call.region, one))),
      POST: forAdmin(createRecord),
    },
  },
  {
    path: /^dnsresourcerecords\/([^/]+)\/$/,
    name: 'dnsresourcerecord',
    methods: {
      GET: (call) => json(renderDnsRecord(call.region, recordOf(call))),
      DELETE: adminOf((call) => {
        call.region.dnsRecords.splice(call.region.dnsRecords.indexOf(recordOf(call)), 1);
        return deleted();
      }),
    },
  },
];
