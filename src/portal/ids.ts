/** Identifiers that the portal makes: a kind and 50 random bits, e.g. `cl-7f3k2m9qsx`. Never reused. */
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const LENGTH = 10;

export type IdPrefix = 'cl' | 'gw' | 'ca' | 'pr' | 'us' | 'tk' | 'ac';

export function newId(prefix: IdPrefix): string {
  let id = `${prefix}-`;
  for (const byte of randomBytes(LENGTH)) id += ALPHABET[byte & 31];
  return id;
}
