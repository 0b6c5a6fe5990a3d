/**
 * Pairing, both ends as pure functions; `pair-client.ts` carries it over HTTP, the portal calls begin/confirm.
 *
 *   gateway -> portal  hello    code id, keys, nonce, portal URL           (nothing secret)
 *   portal -> gateway  challenge  portal key, nonce, name, proof("portal")
 *   gateway -> portal  confirm  hello again, portal nonce, proof("gateway")
 *   portal -> gateway  result   gateway id, tunnel URL, words, proof("result")
 *
 * Every proof is an HMAC over the whole transcript, so a proxy that sees or changes everything can neither read the
 * secret nor replace a key. The portal keeps no state between hello and confirm.
 *
 * What the portal stores: not the code and not its secret, but a MAC key derived from it (HKDF, bound to the code id),
 * sealed at rest like every secret of its store. It is dropped with the code's life: at expiry, revocation or lock;
 * until then it must stay, because the same gateway key may repeat the pairing after a crash at either end.
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { PcgError } from '../base/errors.ts';
import type { Secret } from '../base/log.ts';
import type { ErrorCode } from '../contract/errors.ts';
import type { PairChallenge, PairConfirm, PairHello, PairResult } from '../contract/pairing.ts';
import { isPublicKey } from './identity.ts';
import { generateCode } from './pair-code.ts';
import { comparisonWords } from './words.ts';

/** R31: a code is valid for 24 hours. */
export const PAIRING_CODE_LIFE_MS = 24 * 60 * 60 * 1000;
/** After this many wrong proofs a code is locked: 105 bits need no more, a person never gets here. */
export const MAX_WRONG_PROOFS = 5;
const NONCE_BYTES = 32;

/** A code as the portal stores it; plain JSON. Changed only by the functions below, saved before answering. */
export interface PairingRecord {
  readonly codeId: string;
  /** Fixed when the code is made, so that every retry names the same gateway. */
  readonly gatewayId: string;
  readonly gatewayName: string;
  readonly createdAt: number;
  /** Milliseconds since the epoch, by the portal's clock alone. */
  readonly expiresAt: number;
  /** HKDF of the secret, base64; null once it can no longer be used. A secret: seal it at rest. */
  readonly macKey: string | null;
  readonly wrongProofs: number;
  readonly state:
    | { readonly kind: 'open' }
    | {
        readonly kind: 'paired';
        readonly gatewayKey: string;
        readonly sealingKey: string;
        readonly at: number;
      }
    | { readonly kind: 'locked' }
    | { readonly kind: 'revoked' };
}

/** What the portal says of itself. */
export interface PortalSide {
  /** Ed25519, raw, base64: what gateways pin. */
  readonly publicKey: string;
  /** Where gateways dial afterwards, e.g. `wss://portal.example/tunnel/v1`. */
  readonly tunnelUrl: string;
  /**
   * Is this one of our own addresses? A stranger who relays a pairing under another name is refused here.
   * Leave it out only where the portal cannot know its names.
   */
  readonly isOwnUrl?: (url: string) => boolean;
}

export type ConfirmOutcome =
  | {
      /** `repeat`: the same key had paired before; nothing changed. */
      readonly kind: 'paired' | 'repeat';
      readonly record: PairingRecord;
      readonly gateway: { id: string; name: string; publicKey: string; sealingKey: string; words: string };
      readonly result: PairResult;
    }
  /** The record may have changed (a wrong proof counts): save it, then answer with the error. */
  | { readonly kind: 'refused'; readonly record: PairingRecord | undefined; readonly error: PcgError };

/** A new code and its record. The code is shown once; the record is stored. */
export function createPairingCode(options: {
  gatewayId: string;
  gatewayName: string;
  now: number;
  random?: (bytes: number) => Buffer;
}): { code: Secret; record: PairingRecord } {
  const { code, codeId, secret } = generateCode(options.random ?? randomBytes);
  const record: PairingRecord = {
    codeId,
    gatewayId: options.gatewayId,
    gatewayName: options.gatewayName,
    createdAt: options.now,
    expiresAt: options.now + PAIRING_CODE_LIFE_MS,
    macKey: deriveMacKey(codeId, secret).toString('base64'),
    wrongProofs: 0,
    state: { kind: 'open' },
  };
  return { code, record };
}

/** A new code for the same gateway revokes the old one (R31). */
export function revokePairing(record: PairingRecord): PairingRecord {
  return { ...record, macKey: null, state: { kind: 'revoked' } };
}

/** What the portal's daily sweep keeps of a code: its fate without its key. */
export function forgetExpiredKey(record: PairingRecord, now: number): PairingRecord {
  return record.macKey !== null && now >= record.expiresAt ? { ...record, macKey: null } : record;
}

/** Portal, first POST. Throws PcgError PAIRING_* or INVALID_INPUT; changes nothing. */
export function beginPairing(
  record: PairingRecord | undefined,
  hello: PairHello,
  portal: PortalSide,
  now: number,
  random: (bytes: number) => Buffer = randomBytes,
): PairChallenge {
  const { macKey, found } = usable(record, hello, portal, now);
  const nonce = issueNonce(macKey, hello, random);
  const proof = prove(macKey, 'portal', transcript(hello, portal.publicKey, nonce, found.gatewayName));
  return { portalKey: portal.publicKey, nonce, gatewayName: found.gatewayName, proof };
}

/** Portal, second POST. Never throws for what the peer sent: the outcome says what to save and to answer. */
export function confirmPairing(
  record: PairingRecord | undefined,
  confirm: PairConfirm,
  portal: PortalSide,
  now: number,
): ConfirmOutcome {
  let checked: { macKey: Buffer; found: PairingRecord };
  try {
    checked = usable(record, confirm, portal, now);
  } catch (error) {
    if (error instanceof PcgError) return { kind: 'refused', record, error };
    throw error;
  }
  const { macKey, found } = checked;
  const bytes = transcript(confirm, portal.publicKey, confirm.portalNonce, found.gatewayName);
  const ours = isOwnNonce(macKey, confirm);
  if (!equalText(confirm.proof, prove(macKey, 'gateway', bytes)) || !ours) {
    const wrongProofs = found.wrongProofs + 1;
    const locks = wrongProofs >= MAX_WRONG_PROOFS && found.state.kind === 'open';
    return {
      kind: 'refused',
      record: locks
        ? { ...found, wrongProofs, macKey: null, state: { kind: 'locked' } }
        : { ...found, wrongProofs },
      error: refusal(locks ? 'PAIRING_TOO_MANY_TRIES' : 'PAIRING_PROOF_FAILED'),
    };
  }
  const keys = {
    portalKey: portal.publicKey,
    gatewayKey: confirm.gatewayKey,
    sealingKey: confirm.sealingKey,
  };
  const words = comparisonWords(keys);
  const result = {
    gatewayId: found.gatewayId,
    gatewayName: found.gatewayName,
    tunnelUrl: portal.tunnelUrl,
    words,
  };
  const repeat = found.state.kind === 'paired';
  return {
    kind: repeat ? 'repeat' : 'paired',
    record: repeat
      ? found
      : {
          ...found,
          state: { kind: 'paired', gatewayKey: confirm.gatewayKey, sealingKey: confirm.sealingKey, at: now },
        },
    gateway: {
      id: found.gatewayId,
      name: found.gatewayName,
      publicKey: confirm.gatewayKey,
      sealingKey: confirm.sealingKey,
      words,
    },
    result: { ...result, proof: proveResult(macKey, bytes, result) },
  };
}

// ---- gateway's half ----

/** Holds what the gateway needs between its two requests. */
export interface PairingAttempt {
  readonly hello: PairHello;
  readonly macKey: Buffer;
}

export function startAttempt(options: {
  codeId: string;
  secret: Secret;
  gatewayKey: string;
  sealingKey: string;
  portalUrl: string;
  gatewayName?: string | undefined;
  random?: (bytes: number) => Buffer;
}): PairingAttempt {
  const { codeId, secret, gatewayKey, sealingKey, portalUrl, gatewayName, random = randomBytes } = options;
  const nonce = random(NONCE_BYTES).toString('base64');
  return {
    hello: {
      codeId,
      gatewayKey,
      sealingKey,
      nonce,
      portalUrl,
      ...(gatewayName === undefined ? {} : { gatewayName }),
    },
    macKey: deriveMacKey(codeId, secret),
  };
}

/** Checks the portal's proof and answers it. Throws PAIRING_PROOF_FAILED: nothing of ours is proven to a stranger. */
export function answerChallenge(attempt: PairingAttempt, challenge: PairChallenge): PairConfirm {
  const { hello, macKey } = attempt;
  const bytes = transcript(hello, challenge.portalKey, challenge.nonce, challenge.gatewayName);
  if (!isPublicKey(challenge.portalKey) || !equalText(challenge.proof, prove(macKey, 'portal', bytes))) {
    throw refusal('PAIRING_PROOF_FAILED');
  }
  return { ...hello, portalNonce: challenge.nonce, proof: prove(macKey, 'gateway', bytes) };
}

/** Checks the portal's last word, so that nobody on the way can send the gateway to another tunnel. */
export function checkResult(attempt: PairingAttempt, challenge: PairChallenge, result: PairResult): void {
  const { hello, macKey } = attempt;
  const bytes = transcript(hello, challenge.portalKey, challenge.nonce, challenge.gatewayName);
  const words = comparisonWords({ ...hello, portalKey: challenge.portalKey });
  if (!equalText(result.proof, proveResult(macKey, bytes, result)) || result.words !== words) {
    throw refusal('PAIRING_PROOF_FAILED');
  }
}

// ---- shared ----

function usable(
  record: PairingRecord | undefined,
  hello: PairHello,
  portal: PortalSide,
  now: number,
): { macKey: Buffer; found: PairingRecord } {
  if (!record || record.codeId !== hello.codeId) throw refusal('PAIRING_CODE_UNKNOWN');
  // order matters: a revoked or locked code says so even after it expired
  if (record.state.kind === 'revoked') throw refusal('PAIRING_CODE_REVOKED');
  if (record.state.kind === 'locked') throw refusal('PAIRING_TOO_MANY_TRIES');
  if (now >= record.expiresAt || record.macKey === null) throw refusal('PAIRING_CODE_EXPIRED');
  for (const field of ['gatewayKey', 'sealingKey', 'nonce'] as const) {
    if (!isPublicKey(hello[field])) {
      throw new PcgError('INVALID_INPUT', 'not 32 bytes in base64', { field });
    }
  }
  const { state } = record;
  if (state.kind === 'paired') {
    const same = state.gatewayKey === hello.gatewayKey && state.sealingKey === hello.sealingKey;
    if (!same) throw refusal('PAIRING_CODE_USED');
  }
  if (hello.gatewayName !== undefined && hello.gatewayName !== record.gatewayName) {
    throw new PcgError('INVALID_INPUT', 'the pairing code was made for a gateway of another name', {
      field: 'gatewayName',
      fix: `Use the name "${record.gatewayName}", or make a code for the other name in the portal.`,
      details: { expected: record.gatewayName },
    });
  }
  if (portal.isOwnUrl && !portal.isOwnUrl(hello.portalUrl)) {
    throw new PcgError('PAIRING_PROOF_FAILED', 'the portal does not know the address that the gateway used', {
      field: 'portalUrl',
      fix: 'Use the portal URL that is shown with the code.',
    });
  }
  return { macKey: Buffer.from(record.macKey, 'base64'), found: record };
}

const MESSAGES = {
  PAIRING_CODE_UNKNOWN: 'the portal does not know this pairing code',
  PAIRING_CODE_EXPIRED: 'the pairing code has expired',
  PAIRING_CODE_USED: 'the pairing code was used by another gateway',
  PAIRING_CODE_REVOKED: 'the pairing code was replaced by a newer one',
  PAIRING_PROOF_FAILED: 'the other end could not prove that it knows the pairing code',
  PAIRING_TOO_MANY_TRIES: 'the pairing code is locked after too many wrong proofs',
} as const satisfies Partial<Record<ErrorCode, string>>;

const refusal = (code: keyof typeof MESSAGES): PcgError => new PcgError(code, MESSAGES[code]);

const deriveMacKey = (codeId: string, secret: Secret): Buffer =>
  Buffer.from(hkdfSync('sha256', secret.reveal(), '', `pcg.pairing.v1|${codeId}`, 32));

/** Fields with their lengths, so that no two different transcripts have the same bytes. */
function fields(parts: readonly string[]): Buffer {
  return Buffer.concat(
    parts.flatMap((part) => {
      const bytes = Buffer.from(part);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

function transcript(hello: PairHello, portalKey: string, portalNonce: string, gatewayName: string): Buffer {
  return fields([
    'pcg.pairing.v1',
    hello.codeId,
    hello.gatewayKey,
    hello.sealingKey,
    portalKey,
    hello.nonce,
    portalNonce,
    hello.portalUrl,
    gatewayName,
  ]);
}

const mac = (key: Buffer, label: string, bytes: Buffer): Buffer =>
  createHmac('sha256', key).update(label).update('\0').update(bytes).digest();

/** The role is inside the MAC: a proof cannot be reflected to the end that made it. */
const prove = (key: Buffer, role: 'portal' | 'gateway', bytes: Buffer): string =>
  mac(key, role, bytes).toString('base64');

const proveResult = (key: Buffer, bytes: Buffer, result: Omit<PairResult, 'proof'>): string =>
  mac(
    key,
    'result',
    Buffer.concat([bytes, fields([result.gatewayId, result.gatewayName, result.tunnelUrl, result.words])]),
  ).toString('base64');

/** Half random, half a tag over it and the hello: the portal knows its own nonces without storing them. */
function issueNonce(key: Buffer, hello: PairHello, random: (bytes: number) => Buffer): string {
  const fresh = random(NONCE_BYTES / 2);
  return Buffer.concat([fresh, nonceTag(key, fresh, hello)]).toString('base64');
}

function isOwnNonce(key: Buffer, confirm: PairConfirm): boolean {
  const raw = Buffer.from(confirm.portalNonce, 'base64');
  if (raw.length !== NONCE_BYTES) return false;
  const half = NONCE_BYTES / 2;
  return timingSafeEqual(raw.subarray(half), nonceTag(key, raw.subarray(0, half), confirm));
}

const nonceTag = (key: Buffer, fresh: Buffer, hello: PairHello): Buffer =>
  mac(
    key,
    'nonce',
    Buffer.concat([fresh, fields([hello.codeId, hello.gatewayKey, hello.sealingKey, hello.nonce])]),
  ).subarray(0, NONCE_BYTES / 2);

/** Constant time in the content; the length of a proof is no secret. */
function equalText(left: string, right: string): boolean {
  const a = Buffer.from(left);
  const b = Buffer.from(right);
  return a.length === b.length && timingSafeEqual(a, b);
}
