/**
 * Pairing messages: HTTP on the portal, two POSTs. The secret part of the code never crosses the wire;
 * both ends prove it with an HMAC over the transcript (tunnel/pair.ts computes it).
 */
import { z } from 'zod';
import { IdSchema, TimeSchema } from './names.ts';

/** A pairing code as the portal's API returns it, once, at creation. */
export const PairingCodeSchema = z.object({
  id: IdSchema,
  /** The code to type, grouped Crockford base32 with checksum. Shown once. */
  code: z.string(),
  gatewayName: z.string(),
  expiresAt: TimeSchema,
});
export type PairingCode = z.infer<typeof PairingCodeSchema>;

export const PairHelloSchema = z.object({
  codeId: z.string().max(64),
  /** Ed25519 public key of the gateway, raw, base64. */
  gatewayKey: z.string().max(64),
  /** X25519 public key for sealing, raw, base64. */
  sealingKey: z.string().max(64),
  nonce: z.string().max(64),
  portalUrl: z.string().max(512),
  gatewayName: z.string().max(128).optional(),
});
export type PairHello = z.infer<typeof PairHelloSchema>;

export const PairChallengeSchema = z.object({
  portalKey: z.string(),
  nonce: z.string(),
  gatewayName: z.string(),
  /** HMAC by which the portal proves that it knows the code. */
  proof: z.string(),
});
export type PairChallenge = z.infer<typeof PairChallengeSchema>;

export const PairConfirmSchema = PairHelloSchema.extend({
  portalNonce: z.string().max(64),
  proof: z.string().max(128),
});
export type PairConfirm = z.infer<typeof PairConfirmSchema>;

export const PairResultSchema = z.object({
  gatewayId: IdSchema,
  gatewayName: z.string(),
  tunnelUrl: z.string(),
  words: z.string(),
  /** HMAC over transcript and result: nobody on the way can name another tunnel. */
  proof: z.string(),
});
export type PairResult = z.infer<typeof PairResultSchema>;
