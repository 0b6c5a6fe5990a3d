/**
 * Who is connected and has not yet proven who it is: bounded in number, of one network and in all, until it has
 * proven it or its socket is gone. What each may send meanwhile is STRANGER_BYTES, so all together hold little.
 */
import { isIP } from 'node:net';

/** Two greetings of 8 KiB with their signatures and headers (RESUME, then HELLO), and pings of a proxy. */
export const STRANGER_BYTES = 32 * 1024;

export interface StrangerLimits {
  /** Of one address; of IPv6 of one /64, which is what one machine has. */
  readonly perAddress: number;
  readonly all: number;
}

export class Strangers {
  readonly #limits: StrangerLimits;
  readonly #of = new Map<string, number>();
  #count = 0;

  constructor(limits: StrangerLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#count;
  }

  /** Which bound one more would break. */
  full(address: string): 'address' | 'all' | undefined {
    if ((this.#of.get(networkOf(address)) ?? 0) >= this.#limits.perAddress) return 'address';
    return this.#count >= this.#limits.all ? 'all' : undefined;
  }

  /** Call what it returns when it is proven or gone; twice is once. */
  enter(address: string): () => void {
    const network = networkOf(address);
    this.#of.set(network, (this.#of.get(network) ?? 0) + 1);
    this.#count += 1;
    let here = true;
    return () => {
      if (!here) return;
      here = false;
      this.#count -= 1;
      const left = (this.#of.get(network) ?? 1) - 1;
      if (left > 0) this.#of.set(network, left);
      else this.#of.delete(network);
    };
  }
}

/** What a proxy may write that is no address: a host name, an address with a port. */
const MAX_NAME_CHARS = 64;

/** Whose address this is: IPv4 as it is, mapped or not; of IPv6 the /64. What is no address stays, up to 64 characters. */
export function networkOf(address: string): string {
  // a copy: a part of a header would keep all of it in memory
  if (isIP(address) !== 6) return Buffer.from(address.slice(0, MAX_NAME_CHARS)).toString();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped?.[1] !== undefined) return mapped[1];
  const [head = '', tail] = (address.split('%', 1)[0] as string).split('::');
  const groups = (text: string): string[] =>
    text === '' ? [] : text.split(':').flatMap((group) => (group.includes('.') ? ['v4', 'v4'] : [group]));
  const first = groups(head);
  const last = groups(tail ?? '');
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0');
  return `${[...first, ...zeros, ...last]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
