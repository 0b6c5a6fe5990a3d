/** Passwords and bearer secrets. Passwords: scrypt with a salt each. Bearer secrets: 256 random bits, kept as SHA-256. */
import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** So 1 KiB of memory for each of N, which limits.ts has. */
const BLOCK = { r: 8, p: 1 };
const KEY_BYTES = 32;
const MAX_MEMORY = 256 * 1024 * 1024;

function derive(password: string, salt: Buffer, cost: { N: number; r: number; p: number }): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFKC'), salt, KEY_BYTES, { ...cost, maxmem: MAX_MEMORY }, (error, key) =>
      error ? reject(error) : resolve(key),
    );
  });
}

/** `scrypt$N$r$p$salt$key`, base64url. */
export async function hashPassword(password: string, N: number): Promise<string> {
  const salt = randomBytes(16);
  return written(N, salt, await derive(password, salt, { N, ...BLOCK }));
}

function written(N: number, salt: Buffer, key: Buffer): string {
  return ['scrypt', N, BLOCK.r, BLOCK.p, salt.toString('base64url'), key.toString('base64url')].join('$');
}

/** As much work for an unknown user (undefined), so that time does not tell which e-mails exist. */
export async function verifyPassword(
  password: string,
  stored: string | undefined,
  costOfNobody: number,
): Promise<boolean> {
  const checked = stored ?? written(costOfNobody, randomBytes(16), randomBytes(KEY_BYTES));
  const [kind, N, r, p, salt, key] = checked.split('$');
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
