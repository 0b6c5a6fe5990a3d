/** MAAS version texts (`3.5.13`, `3.6.0~rc1`, `3.4.2 from source`) and which versions are supported. */
import { PcgError } from '../base/errors.ts';

export const OLDEST_SUPPORTED = { major: 3, minor: 3 } as const;
export const NEWEST_KNOWN = { major: 3, minor: 7 } as const;

/** Throws MAAS_PROTOCOL when there is no version in it. */
export function parseVersion(version: string): { version: string; major: number; minor: number } {
  const match = /^\s*v?(\d{1,4})\.(\d{1,4})/.exec(version);
  if (match === null) throw new PcgError('MAAS_PROTOCOL', 'the server names no MAAS version');
  return { version: version.trim(), major: Number(match[1]), minor: Number(match[2]) };
}

/** `newer` works as far as known, but nobody has tried it. */
export function supportOf(version: { major: number; minor: number }): 'supported' | 'too-old' | 'newer' {
  const order = (a: { major: number; minor: number }) => a.major * 10_000 + a.minor;
  if (order(version) < order(OLDEST_SUPPORTED)) return 'too-old';
  return order(version) > order(NEWEST_KNOWN) ? 'newer' : 'supported';
}
