/** The recorded requests that change nothing and make sense at any site. */
import { exchanges, isExchange, type Finding } from './drive.ts';
import type { Exchange } from '../support/maas-recordings.ts';
import { parseVersion } from '../../src/maas/version.ts';
import type { LiveSite } from './live-site.ts';

const HARMLESS = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Recorded in a state, or of things, that another site does not have. */
const ONLY_THERE =
  /inactive user|new token|deleted token|read (arm64|machine without|other user|Failed|Broken|deleted)|after dry_run|after release|owner_data|power_parameters|filter (tags|not_tags|devices|simple_status|owner=operator|vlans=vid|storage|interfaces)|PostgreSQL|workers|machine of the deleted|get_token|vlan read by id|header 9KB|zone read after|regioncontrollers|rackcontrollers|subnet statistics (tiny|unmanaged)|GET \/MAAS|oauth params|two Authorization|absolute-form|reservation|scripts list|notifications|package-repositories/;

/** Of 03: what is there without having been created in the same session. */
const INVENTORY =
  /^(zones list|zone read|pools list|pool read|domains list|domain read 404|dnsresources list \(empty|dnsresources list unknown|dnsresource read 404|spaces list|fabrics list|fabric read|vlans list|vlan read( 404)?$|subnets list|subnet read|subnet statistics|subnet (un)?reserved_ip|ipranges list|ipaddresses (list bad ip|all=true operator|owner= as)|tags list|tag read 404|boot-resources (list|type)|boot-resource read 404|users list|user read 404|sshkeys list empty|get_config|events|devices list|nodes list|static-routes|discovery|files|license-keys)/;

/** Of the stand-in for the authentication layer (observed, section 9): a genuine MAAS may answer otherwise. */
const NOT_MAAS =
  /^missing oauth_(nonce|timestamp|consumer_key|token|signature)|^lowercase oauth scheme|^OAuth /;

/** The filter came with 3.5. */
const isBefore35 = ({ door }: LiveSite): boolean => {
  const { major, minor } = parseVersion(door.version);
  return major === 3 && minor < 5;
};

const wanted = (exchange: Exchange, site: LiveSite): boolean => {
  const { request, file, name } = exchange;
  if (!isExchange(exchange) || !HARMLESS.has(request.method ?? '') || ONLY_THERE.test(name)) return false;
  if (NOT_MAAS.test(name)) return false;
  if (name.includes('deployment_target') && isBefore35(site)) return false;
  if (request.as_user === 'operator' && !site.hasUser) return false;
  if (/another user|other user/.test(name) && !site.hasUser) return false;
  if (request.as_user === 'pcg' || request.as_user === 'new') return false;
  if (file.startsWith('03')) return INVENTORY.test(name);
  if (file.startsWith('04'))
    return /^(list|read 404|read Ready|read via|filter|is_registered|get_curtin|details|interfaces|blockdevices|results|node devices)/.test(
      name,
    );
  if (file.startsWith('11')) return name.startsWith('filter ') || name.startsWith('list domain');
  return file.startsWith('01') || file.startsWith('02');
};

/** HMAC-SHA1 signs the scheme too, and a MAAS behind TLS believes it is asked over plain HTTP, or not: its proxy decides. */
const plainHttp = ({ name }: Exchange, { door }: LiveSite): string | undefined =>
  name.startsWith('HMAC-SHA1 correct') && door.base.protocol === 'https:'
    ? 'plain HTTP, which HMAC-SHA1 signs'
    : undefined;

export interface ReadOnlyRun {
  readonly findings: readonly Finding[];
  /** What this site has nothing for, with the number of exchanges that were left out because of it. */
  readonly leftOut: ReadonlyMap<string, number>;
}

export async function driveReadOnly(site: LiveSite): Promise<ReadOnlyRun> {
  const findings: Finding[] = [];
  const leftOut = new Map<string, number>();
  for (const exchange of exchanges) {
    if (!wanted(exchange, site)) continue;
    const lacking = site.lacks(exchange) ?? plainHttp(exchange, site);
    if (lacking === undefined) findings.push(await site.repeat(exchange));
    else leftOut.set(lacking, (leftOut.get(lacking) ?? 0) + 1);
  }
  return { findings, leftOut };
}
