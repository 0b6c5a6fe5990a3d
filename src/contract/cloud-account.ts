/**
 * A cloud account: one MAAS region reached through one gateway. The API key is sealed to the gateway's
 * public key in the browser, CLI or portal edge; the portal keeps only the sealed form and a fingerprint.
 */
import { z } from 'zod';
import { DescriptionSchema, DnsLabelSchema, IdSchema, TimeSchema } from './names.ts';

export const CloudAccountSchema = z.object({
  id: IdSchema,
  name: DnsLabelSchema,
  description: DescriptionSchema,
  scope: z.enum(['tenant', 'project']).default('tenant'),
  gateway: IdSchema,
  /** MAAS endpoint, e.g. `http://10.11.12.13:5240/MAAS`. */
  endpoint: z.url(),
  /** Fingerprint of the key: SHA-256 of consumer and token key (never of the secret), first 12 hex digits. */
  keyFingerprint: z.string(),
  /** May tenant clusters use it? */
  enabled: z.boolean().default(true),
  createdAt: TimeSchema,
  /** True for the account that pairing made. */
  default: z.boolean().default(false),
});
export type CloudAccount = z.infer<typeof CloudAccountSchema>;

/** The document of kind `cloud-account` that goes down to the gateway. `sealedKey` absent: the gateway has it locally. */
export const CloudAccountDocumentSchema = z.object({
  id: IdSchema,
  name: z.string(),
  endpoint: z.url(),
  sealedKey: z.string().optional(),
  caPem: z.string().optional(),
  enabled: z.boolean(),
});
export type CloudAccountDocument = z.infer<typeof CloudAccountDocumentSchema>;

/** Binds a sealed API key to its account: it cannot be opened as another's. */
export function accountSealContext(accountId: string): string {
  return `pcg.cloud-account.${accountId}`;
}
