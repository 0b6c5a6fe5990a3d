/**
 * IPv4 networks: overlap of pod and service ranges with the networks of MAAS (R17), and the first free
 * private range to propose instead (X3). Addresses are unsigned 32-bit numbers.
 */

export interface Cidr {
  /** First address. */
  readonly base: number;
  readonly prefix: number;
}

export function parseAddress(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

/** undefined when it is no IPv4 network; host bits are dropped. */
export function parseCidr(text: string): Cidr | undefined {
  const [address = '', length = '', ...rest] = text.split('/');
  const value = parseAddress(address);
  const prefix = Number(length);
  if (value === undefined || rest.length > 0 || !/^\d{1,2}$/.test(length) || prefix > 32) return undefined;
  const size = 2 ** (32 - prefix);
  return { base: Math.floor(value / size) * size, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.base)}/${cidr.prefix}`;
}

const sizeOf = (cidr: Cidr) => 2 ** (32 - cidr.prefix);

export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a);
}

export function contains(cidr: Cidr, address: number): boolean {
  return address >= cidr.base && address < cidr.base + sizeOf(cidr);
}

/** Is the address text inside the network text? false when either is malformed. */
export function addressIn(cidr: string, address: string): boolean {
  const network = parseCidr(cidr);
  const value = parseAddress(address);
  return network !== undefined && value !== undefined && contains(network, value);
}

/** Private blocks in the order of proposal: the customary pod ranges first, the carrier-grade block last. */
const PRIVATE_BLOCKS = ['192.168.0.0/16', '172.16.0.0/12', '10.0.0.0/8', '100.64.0.0/10'];

/** The first range of `prefix` bits that overlaps none of `taken`; undefined when there is none. */
export function freeCidr(prefix: number, taken: readonly string[]): string | undefined {
  const used = taken.map(parseCidr).filter((cidr): cidr is Cidr => cidr !== undefined);
  for (const text of PRIVATE_BLOCKS) {
    const block = parseCidr(text);
    if (!block || prefix < block.prefix) continue;
    const step = 2 ** (32 - prefix);
    const end = block.base + sizeOf(block);
    for (let base = block.base; base + step <= end; ) {
      const candidate = { base, prefix };
      const blocker = used.find((cidr) => overlaps(cidr, candidate));
      if (!blocker) return formatCidr(candidate);
      // Jump behind the blocker instead of trying every range inside it.
      base = Math.max(base + step, Math.ceil((blocker.base + sizeOf(blocker)) / step) * step);
    }
  }
  return undefined;
}

export interface CidrConflict {
  /** Which of our ranges, as a field path. */
  readonly field: string;
  readonly range: string;
  /** What it overlaps. */
  readonly with: string;
  readonly proposal: string | undefined;
}

/** Conflicts of pod and service ranges with each other and with the machines' networks. */
export function cidrConflicts(
  network: { readonly podCidr: string; readonly serviceCidr: string },
  machineNetworks: readonly string[],
): CidrConflict[] {
  const conflicts: CidrConflict[] = [];
  const check = (field: string, range: string, others: readonly string[]) => {
    const own = parseCidr(range);
    if (!own) return;
    const hit = others.find((other) => {
      const cidr = parseCidr(other);
      return cidr !== undefined && overlaps(own, cidr);
    });
    if (hit === undefined) return;
    const proposal = freeCidr(own.prefix, [...machineNetworks, network.podCidr, network.serviceCidr]);
    conflicts.push({ field, range, with: hit, proposal });
  };
  check('spec.network.podCidr', network.podCidr, [...machineNetworks, network.serviceCidr]);
  check('spec.network.serviceCidr', network.serviceCidr, machineNetworks);
  return conflicts;
}
