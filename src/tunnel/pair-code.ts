/**
 * The pairing code that a person copies: 30 characters of Crockford base32 in groups of five,
 * 7 for the code's id, 21 for its secret (105 bits) and 2 check characters. The check is a Reed-Solomon
 * code over GF(32): every one or two wrong characters and every swap is caught before the network, and for a
 * single wrong character the group that holds it can be named. It is a hint: nothing is ever corrected silently.
 */
import { randomBytes } from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const ID_CHARS = 7;
const SECRET_CHARS = 21;
const CODE_CHARS = ID_CHARS + SECRET_CHARS + 2;
const GROUP_CHARS = 5;
/** Pasted text longer than this is not a code with decoration. */
const MAX_INPUT_CHARS = 200;

export interface ParsedCode {
  /** `pc-` + seven characters, lower case: public, an IdSchema id. */
  readonly codeId: string;
  /** 21 characters, upper case. */
  readonly secret: Secret;
}

/** A fresh code. The text is shown once and never stored. */
export function generateCode(random: (bytes: number) => Buffer = randomBytes): ParsedCode & { code: Secret } {
  // 256 is a multiple of 32, so the low five bits of a random byte are uniform
  const data = [...random(ID_CHARS + SECRET_CHARS)].map((byte) => byte & 31);
  const text = [...data, ...checkSymbols(data)].map((symbol) => ALPHABET[symbol]).join('');
  const groups = text.match(/.{5}/g) ?? [];
  return { ...split(text), code: new Secret(groups.join('-')) };
}

/**
 * Reads a code as people write it: any case, hyphens and spaces anywhere, O for 0, I or L for 1.
 * Throws PcgError PAIRING_CODE_MALFORMED that says what is wrong and, where it can, in which group.
 */
export function parseCode(text: string): ParsedCode {
  if (text.length > MAX_INPUT_CHARS) throw malformed('this is too long for a pairing code');
  const clean = text
    .normalize('NFKC') // full-width digits of some keyboards
    .toUpperCase()
    .replace(/[\s\p{Pd}_.]/gu, '')
    .replaceAll('O', '0')
    .replace(/[IL]/g, '1');
  const wrong = Array.from(clean).findIndex((char) => !ALPHABET.includes(char));
  if (wrong >= 0) throw malformed(`group ${groupOf(wrong)} holds a character that no code has`);
  if (clean.length !== CODE_CHARS) {
    throw malformed(`a pairing code has ${CODE_CHARS} characters in 6 groups, this has ${clean.length}`);
  }
  const at = locateError(Array.from(clean, (char) => ALPHABET.indexOf(char)));
  if (at === 'somewhere') throw malformed('the pairing code has typing errors');
  if (at !== 'none') throw malformed(`the pairing code has a typing error, probably in group ${groupOf(at)}`);
  return split(clean);
}

const split = (text: string): ParsedCode => ({
  codeId: `pc-${text.slice(0, ID_CHARS).toLowerCase()}`,
  secret: new Secret(text.slice(ID_CHARS, ID_CHARS + SECRET_CHARS)),
});

const groupOf = (index: number): number => Math.floor(index / GROUP_CHARS) + 1;

const malformed = (message: string): PcgError =>
  new PcgError('PAIRING_CODE_MALFORMED', message, { field: 'code' });

// ---- GF(32), generator 2, modulus x^5 + x^2 + 1 ----
const EXP: number[] = [];
const LOG: number[] = [];
for (let power = 0, value = 1; power < 31; power += 1) {
  EXP[power] = value;
  LOG[value] = power;
  value = value & 16 ? ((value << 1) ^ 0b100101) & 31 : value << 1;
}
const exp = (power: number): number => EXP[((power % 31) + 31) % 31] as number;
const log = (value: number): number => LOG[value] as number;
const times = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : exp(log(a) + log(b)));

/** Plain sum and position-weighted sum; both are 0 for a whole code. */
function syndromes(symbols: readonly number[]): [number, number] {
  let plain = 0;
  let weighted = 0;
  symbols.forEach((symbol, index) => {
    plain ^= symbol;
    weighted ^= times(symbol, exp(index));
  });
  return [plain, weighted];
}

/** The two symbols that make both sums 0: a + b = s0, a*w1 + b*w2 = s1. */
function checkSymbols(data: readonly number[]): [number, number] {
  const [plain, weighted] = syndromes(data);
  const w1 = exp(data.length);
  const w2 = exp(data.length + 1);
  const inverse = exp(-log(w1 ^ w2));
  const b = times(weighted ^ times(plain, w1), inverse);
  return [plain ^ b, b];
}

function locateError(symbols: readonly number[]): 'none' | 'somewhere' | number {
  const [plain, weighted] = syndromes(symbols);
  if (plain === 0 && weighted === 0) return 'none';
  if (plain === 0 || weighted === 0) return 'somewhere';
  const index = (log(weighted) - log(plain) + 31) % 31;
  return index < symbols.length ? index : 'somewhere';
}
