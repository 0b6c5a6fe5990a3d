/**
 * Who an end of the tunnel is: an Ed25519 key that signs handshakes and an X25519 key to which secrets are
 * sealed. Public keys travel as raw 32 bytes in base64, so that any language can use them.
 * Sealing is ephemeral X25519 + HKDF-SHA256 + AES-256-GCM, bound to a context: a MAAS key sealed for one
 * account cannot be opened as another's. The browser can do the same with WebCrypto.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';

type Algorithm = 'ed25519' | 'x25519';

/** DER around a raw 32-byte key (RFC 8410); Node 24 reads no raw keys. */
const PUBLIC_DER = {
  ed25519: Buffer.from('302a300506032b6570032100', 'hex'),
  x25519: Buffer.from('302a300506032b656e032100', 'hex'),
} as const;
const PRIVATE_DER = {
  ed25519: Buffer.from('302e020100300506032b657004220420', 'hex'),
  x25519: Buffer.from('302e020100300506032b656e04220420', 'hex'),
} as const;

const KEY_BYTES = 32;
const TAG_BYTES = 16;
const SEAL_PREFIX = 'pcg1.';
/** A sealed MAAS key has about 150 characters; anything far larger is a lie. */
const MAX_SEALED_CHARS = 256 * 1024;

export interface Identity {
  /** Ed25519, raw, base64: what the peer pins. */
  readonly publicKey: string;
  /** X25519, raw, base64: what secrets for this end are sealed to. */
  readonly sealingKey: string;
  sign(data: Uint8Array): Buffer;
  /** The plain text of `seal(sealingKey, plaintext, context)`. Throws PcgError INVALID_INPUT. */
  open(sealed: string, context: string): Buffer;
  /** Everything, for the state directory (0600): `parseIdentity` reads it back. */
  serialize(): Secret;
}

export function generateIdentity(): Identity {
  return identityOf(generateKeyPairSync('ed25519').privateKey, generateKeyPairSync('x25519').privateKey);
}

/** Reads what `serialize` wrote. Throws PcgError BAD_CONFIG; never repairs by making a new identity. */
export function parseIdentity(serialized: Secret | string): Identity {
  try {
    const text = typeof serialized === 'string' ? serialized : serialized.reveal();
    const { version, signing, sealing } = JSON.parse(text) as Record<string, unknown>;
    if (version !== 1) throw new TypeError('unknown version');
    return identityOf(privateKeyOf('ed25519', signing), privateKeyOf('x25519', sealing));
  } catch {
    // no cause: a parser's message quotes the text, and the text is a private key
    throw new PcgError('BAD_CONFIG', 'the stored gateway identity is damaged', {
      fix: 'Restore the identity file from a backup, or remove it and pair the gateway again in place.',
    });
  }
}

function identityOf(signing: KeyObject, sealing: KeyObject): Identity {
  const publicKey = rawPublic(signing).toString('base64');
  const sealingKey = rawPublic(sealing).toString('base64');
  return {
    publicKey,
    sealingKey,
    sign: (data) => sign(null, data, signing),
    open: (sealed, context) => open(sealing, sealed, context),
    serialize: () =>
      new Secret(JSON.stringify({ version: 1, signing: rawPrivate(signing), sealing: rawPrivate(sealing) })),
  };
}

/** False for anything that is not a signature of `data` by `publicKey`, malformed keys included. */
export function verifySignature(publicKey: string, data: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(null, data, publicKeyOf('ed25519', publicKey), signature);
  } catch {
    return false;
  }
}

/** SHA-256 of the raw public key, first 16 hex digits: for showing and for logs. */
export function fingerprint(publicKey: string): string {
  return createHash('sha256').update(Buffer.from(publicKey, 'base64')).digest('hex').slice(0, 16);
}

/** True when `text` is a canonical base64 form of a raw 32-byte key: one key has one spelling. */
export function isPublicKey(text: string): boolean {
  const raw = Buffer.from(text, 'base64');
  return raw.length === KEY_BYTES && raw.toString('base64') === text;
}

/**
 * Encrypts to `sealingKey` (X25519, raw, base64). `context` names what it is for, e.g. `maas-key:<account>`,
 * and must be given again to open. Result: `pcg1.` + base64url(ephemeral key 32 | ciphertext | tag 16).
 */
export function seal(sealingKey: string, plaintext: Uint8Array | string, context: string): string {
  if (!isPublicKey(sealingKey))
    throw new PcgError('INVALID_INPUT', 'not a sealing key', { field: 'sealingKey' });
  const ephemeral = generateKeyPairSync('x25519').privateKey;
  const ephemeralRaw = rawPublic(ephemeral);
  const { key, iv } = sealingSecrets(
    ephemeral,
    publicKeyOf('x25519', sealingKey),
    ephemeralRaw,
    Buffer.from(sealingKey, 'base64'),
    context,
  );
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(context));
  const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return SEAL_PREFIX + Buffer.concat([ephemeralRaw, body, cipher.getAuthTag()]).toString('base64url');
}

function open(own: KeyObject, sealed: string, context: string): Buffer {
  try {
    if (!sealed.startsWith(SEAL_PREFIX) || sealed.length > MAX_SEALED_CHARS)
      throw new TypeError('not sealed');
    const raw = Buffer.from(sealed.slice(SEAL_PREFIX.length), 'base64url');
    if (raw.length < KEY_BYTES + TAG_BYTES) throw new TypeError('too short');
    const ephemeral = raw.subarray(0, KEY_BYTES);
    const peer = publicKeyOf('x25519', ephemeral.toString('base64'));
    const { key, iv } = sealingSecrets(own, peer, ephemeral, rawPublic(own), context);
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES })
      .setAAD(Buffer.from(context))
      .setAuthTag(raw.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(raw.subarray(KEY_BYTES, -TAG_BYTES)), decipher.final()]);
  } catch {
    throw new PcgError('INVALID_INPUT', 'the sealed secret cannot be opened by this gateway', {
      fix: 'Enter the secret again: it was sealed for another gateway, another purpose, or was changed.',
    });
  }
}

/** A key is used for one message only (the ephemeral key is fresh), so the IV may come from the same HKDF. */
function sealingSecrets(
  own: KeyObject,
  peer: KeyObject,
  ephemeral: Buffer,
  recipient: Buffer,
  context: string,
): { key: Buffer; iv: Buffer } {
  const shared = diffieHellman({ privateKey: own, publicKey: peer });
  const salt = Buffer.concat([ephemeral, recipient]);
  const bytes = Buffer.from(hkdfSync('sha256', shared, salt, `pcg.seal.v1|${context}`, 44));
  return { key: bytes.subarray(0, 32), iv: bytes.subarray(32) };
}

function publicKeyOf(algorithm: Algorithm, base64: string): KeyObject {
  const raw = Buffer.from(base64, 'base64');
  if (raw.length !== KEY_BYTES) throw new TypeError('not a raw 32-byte key');
  return createPublicKey({ key: Buffer.concat([PUBLIC_DER[algorithm], raw]), format: 'der', type: 'spki' });
}

function privateKeyOf(algorithm: Algorithm, base64: unknown): KeyObject {
  const raw = Buffer.from(typeof base64 === 'string' ? base64 : '', 'base64');
  if (raw.length !== KEY_BYTES) throw new TypeError('not a raw 32-byte key');
  return createPrivateKey({
    key: Buffer.concat([PRIVATE_DER[algorithm], raw]),
    format: 'der',
    type: 'pkcs8',
  });
}

const rawPublic = (key: KeyObject): Buffer =>
  createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES);

const rawPrivate = (key: KeyObject): string =>
  key.export({ format: 'der', type: 'pkcs8' }).subarray(-KEY_BYTES).toString('base64');
