/** Passwords and bearer secrets. Passwords: scrypt with a salt each. Bearer secrets: 256 random bits, kept as SHA-256. */
import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** 64 MiB and about 150 ms on one core: dear to guess, cheap to sign in. */
const COST = { N: 2 ** 16, r: 8, p: 1 };
const KEY_BYTES = 32;
const MAX_MEMORY = 256 * 1024 * 1024;

function derive(password: string, salt: Buffer, cost: typeof COST): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFKC'), salt, KEY_BYTES, { ...cost, maxmem: MAX_MEMORY }, (error, key) =>
      error ? reject(error) : resolve(key),
    );
  });
}

/** `scrypt$N$r$p$salt$key`, base64url. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, COST);
  return ['scrypt', COST.N, COST.r, COST.p, salt.toString('base64url'), key.toString('base64url')].join('$');
}

/** Constant work for an unknown user, so that time does not tell which e-mails exist. */
const NOBODY = `scrypt$${COST.N}$${COST.r}$${COST.p}$${randomBytes(16).toString('base64url')}$${randomBytes(KEY_BYTES).toString('base64url')}`;

export async function verifyPassword(password: string, stored: string | undefined): Promise<boolean> {
  const [kind, N, r, p, salt, key] = (stored ?? NOBODY).split('$');
  if (kind !== 'scrypt' || !salt || !key) return false;
  const derived = await derive(password, Buffer.from(salt, 'base64url'), {
    N: Number(N),
    r: Number(r),
    p: Number(p),
  });
  const expected = Buffer.from(key, 'base64url');
  return expected.length === derived.length && timingSafeEqual(expected, derived) && stored !== undefined;
}

/** A new bearer secret; the prefix lets secret scanners recognise it. */
export function newBearer(): string {
  return `pcgt_${randomBytes(32).toString('base64url')}`;
}

export function hashBearer(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}

/** For a person to type once: 24 characters, no look-alikes. */
export function newPassword(): string {
  const alphabet = 'abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789';
  let password = '';
  while (password.length < 24) {
    const byte = randomBytes(1)[0] as number;
    if (byte < 256 - (256 % alphabet.length)) password += alphabet[byte % alphabet.length];
  }
  return password;
}
