/**
 * Lenient readings of what MAAS sends: unknown fields are ignored, fields that a version lacks or sends as
 * null become empty, `__incomplete__` stubs are tolerated. Only what identifies an object is required:
 * dropping a machine silently would read as "gone", so an unreadable one fails the whole answer.
 */
import { z } from 'zod';
import type {
  BootImage,
  DnsResource,
  Domain,
  MaasEvent,
  Machine,
  Named,
  ReservedAddress,
  Subnet,
  SubnetStatistics,
} from './client.ts';
import { statusFromNumber } from './status.ts';

const text = z.string().catch('');
/** Prose of MAAS or of a machine; anybody may write megabytes into it. */
const MAX_PROSE_CHARS = 2000;
const prose = text.transform((value) => value.slice(0, MAX_PROSE_CHARS));
/** Annotations longer than any of ours belong to others and are not worth carrying around. */
const MAX_ANNOTATION_CHARS = 4096;
const maybeText = z
  .string()
  .nullish()
  .transform((value) => (value === null || value === '' ? undefined : value))
  .catch(undefined);
const count = z.number().catch(0);
const flag = z.boolean().catch(false);
const texts = z
  .array(z.unknown())
  .transform((values) => values.filter((value) => typeof value === 'string'))
  .catch([]);
/** The name of a nested zone, pool or domain. */
const nameOf = z
  .object({ name: z.string() })
  .transform((value) => value.name)
  .catch('');
const present = z
  .unknown()
  .transform((value) => value !== null && value !== undefined)
  .catch(false);

/** Annotations hold the ownership stamps: one odd value must not make the others vanish. */
const annotations = z
  .record(z.string(), z.unknown())
  .transform((record) => {
    const strings: Record<string, string> = {};
    for (const [key, value] of Object.entries(record)) {
      const readable = typeof value === 'string' || typeof value === 'number';
      if (readable && String(value).length <= MAX_ANNOTATION_CHARS) strings[key] = String(value);
    }
    return strings;
  })
  .optional()
  .catch(undefined);

const link = z.object({
  mode: text,
  ip_address: maybeText,
  subnet: z.object({ cidr: maybeText, gateway_ip: maybeText }).nullish().catch(undefined),
});
const networkInterface = z.object({ name: text, mac_address: text, links: z.array(link).catch([]) });

export const MachineWire = z
  .object({
    system_id: z.string().min(1),
    status: z.number().int(),
    hostname: text,
    fqdn: text,
    status_name: text,
    status_message: prose,
    error_description: prose,
    owner: maybeText,
    owner_data: annotations,
    workload_annotations: annotations,
    locked: flag,
    zone: nameOf,
    pool: nameOf,
    domain: nameOf,
    architecture: text,
    cpu_count: count,
    memory: count,
    storage: count,
    tag_names: texts,
    power_state: text,
    power_type: text,
    pod: present,
    virtualmachine_id: present,
    osystem: text,
    distro_series: text,
    netboot: flag,
    hwe_kernel: text,
    ip_addresses: texts,
    interface_set: z.array(networkInterface).catch([]),
  })
  .transform(
    (wire): Machine => ({
      systemId: wire.system_id,
      hostname: wire.hostname,
      fqdn: wire.fqdn,
      status: statusFromNumber(wire.status),
      statusName: wire.status_name,
      statusMessage: wire.status_message,
      errorDescription: wire.error_description,
      owner: wire.owner,
      annotations: wire.workload_annotations ?? wire.owner_data ?? {},
      locked: wire.locked,
      zone: wire.zone,
      pool: wire.pool,
      domain: wire.domain,
      architecture: wire.architecture,
      cpuCount: wire.cpu_count,
      memoryMiB: wire.memory,
      storageGb: wire.storage / 1000, // MB, decimal, on the wire
      tags: wire.tag_names,
      powerState: wire.power_state,
      powerType: wire.power_type,
      virtual: wire.pod || wire.virtualmachine_id,
      osystem: wire.osystem,
      distroSeries: wire.distro_series,
      netboot: wire.netboot,
      hweKernel: wire.hwe_kernel,
      ipAddresses: wire.ip_addresses,
      interfaces: wire.interface_set.map((nic) => ({
        name: nic.name,
        mac: nic.mac_address,
        links: nic.links.map((at) => ({
          mode: at.mode,
          ip: at.ip_address,
          subnetCidr: at.subnet?.cidr,
          gatewayIp: at.subnet?.gateway_ip,
        })),
      })),
    }),
  );
/** power_off answers `null` when MAAS cannot control the machine's power. */
export const MaybeMachineWire = MachineWire.nullable();

export const VersionWire = z.object({
  version: z.string(),
  subversion: text,
  capabilities: texts,
});
export const WhoamiWire = z.object({ username: z.string().min(1), is_superuser: flag });

const eventWire = z
  .object({
    id: z.number().int(),
    node: text,
    hostname: text,
    level: text,
    created: text,
    type: text,
    description: prose,
  })
  .transform(
    (wire): MaasEvent => ({
      id: wire.id,
      systemId: wire.node,
      hostname: wire.hostname,
      level: wire.level,
      created: wire.created,
      type: wire.type,
      description: wire.description,
    }),
  );
export const EventsWire = z.object({ events: z.array(eventWire) });

export const NamedWire = z.object({
  id: z.number().int(),
  name: z.string(),
  description: text,
}) satisfies z.ZodType<Named>;
export const NamedListWire = z.array(NamedWire);

export const DomainListWire = z.array(
  z.object({ id: z.number().int(), name: z.string(), is_default: flag, authoritative: flag }).transform(
    (wire): Domain => ({
      id: wire.id,
      name: wire.name,
      isDefault: wire.is_default,
      authoritative: wire.authoritative,
    }),
  ),
);
export const TagListWire = z.array(z.object({ name: z.string(), comment: text }));

const subnetWire = z
  .object({
    id: z.number().int(),
    name: text,
    cidr: z.string().min(1),
    gateway_ip: maybeText,
    managed: z.boolean().catch(true),
    vlan: z.object({ vid: count, fabric: text, space: maybeText }).nullish().catch(undefined),
    space: maybeText,
    dns_servers: texts,
  })
  .transform(
    (wire): Subnet => ({
      id: wire.id,
      name: wire.name,
      cidr: wire.cidr,
      gatewayIp: wire.gateway_ip,
      managed: wire.managed,
      vid: wire.vlan?.vid ?? 0,
      fabric: wire.vlan?.fabric ?? '',
      space: wire.space ?? wire.vlan?.space,
      dnsServers: wire.dns_servers,
    }),
  );
export const SubnetListWire = z.array(subnetWire);
export const StatisticsWire = z
  .object({ num_available: z.number(), largest_available: count, total_addresses: count })
  .transform(
    (wire): SubnetStatistics => ({
      numAvailable: wire.num_available,
      largestAvailable: wire.largest_available,
      totalAddresses: wire.total_addresses,
    }),
  );
export const RangeListWire = z.array(
  z
    .object({ start: z.string(), end: z.string(), num_addresses: z.number() })
    .transform((wire) => ({ start: wire.start, end: wire.end, count: wire.num_addresses })),
);

export const AddressWire = z
  .object({
    ip: z.string().min(1),
    owner: z.object({ username: maybeText }).nullish().catch(undefined),
    subnet: z.object({ cidr: maybeText }).nullish().catch(undefined),
    created: maybeText,
  })
  .transform(
    (wire): ReservedAddress => ({
      ip: wire.ip,
      owner: wire.owner?.username,
      subnetCidr: wire.subnet?.cidr,
      createdAt: wire.created,
    }),
  );
/** A subnet names an address once for each of its holders. */
export const SubnetAddressesWire = z
  .array(z.object({ ip: z.string().min(1) }))
  .transform((wire): ReadonlySet<string> => new Set(wire.map(({ ip }) => ip)));
export const AddressListWire = z.array(AddressWire);

export const DnsResourceWire = z
  .object({
    id: z.number().int(),
    fqdn: z.string(),
    ip_addresses: z
      .array(z.object({ ip: z.string() }))
      .nullish()
      .catch(undefined),
  })
  .transform(
    (wire): DnsResource => ({
      id: wire.id,
      fqdn: wire.fqdn,
      addresses: (wire.ip_addresses ?? []).map((address) => address.ip),
    }),
  );
export const DnsResourceListWire = z.array(DnsResourceWire);

export const ImageListWire = z.array(
  z
    .object({
      id: z.number().int().optional(),
      name: z.string(),
      architecture: text,
      type: text,
      subarches: text,
      title: text,
    })
    .transform((wire): BootImage & { readonly id: number | undefined } => ({
      id: wire.id,
      // Uploaded images are listed without the `custom/` that deploy wants.
      name: wire.name.includes('/') ? wire.name : `custom/${wire.name}`,
      architecture: wire.architecture,
      type: wire.type,
      subarches: wire.subarches,
      title: wire.title,
    })),
);

/** One image read by itself: only then MAAS says how far its import or upload is. */
export const ImageSetsWire = z.object({
  sets: z.record(z.string(), z.object({ complete: z.boolean() })).catch({}),
});

export const FabricListWire = z.array(
  z.object({
    id: z.number().int(),
    name: text,
    vlans: z
      .array(z.object({ id: z.number().int(), vid: count, name: text, mtu: count, dhcp_on: flag }))
      .catch([]),
  }),
);

export const PowerWire = z.object({ state: z.string() });
/** get_config answers a bare JSON value. */
export const ConfigWire = z.unknown();
/** 400 JSON of MAAS forms: field -> messages; `__all__` for the form as a whole. */
export const FieldErrorsWire = z.record(z.string(), z.union([z.array(z.string()), z.string()]));
