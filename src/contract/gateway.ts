/** A gateway as the portal shows it, and the status it sends up. */
import { z } from 'zod';
import { ProblemDetailsSchema } from './errors.ts';
import { IdSchema, TimeSchema } from './names.ts';

/** Snapshot of kind `gateway`. */
export const GatewayStatusSchema = z.object({
  version: z.string(),
  startedAt: TimeSchema,
  observedAt: TimeSchema,
  hostname: z.string(),
  nodeVersion: z.string(),
  /** MAAS regions that the gateway can reach, per cloud account. */
  accounts: z
    .array(
      z.object({
        id: IdSchema,
        endpoint: z.string(),
        maasVersion: z.string().optional(),
        state: z.enum(['ready', 'failed', 'unknown']),
        message: z.string().default(''),
        problem: ProblemDetailsSchema.optional(),
      }),
    )
    .default([]),
  nodes: z.array(z.object({ name: z.string(), ready: z.boolean(), version: z.string() })).default([]),
  clusters: z.int().min(0).default(0),
  rssBytes: z.number().optional(),
});
export type GatewayStatus = z.infer<typeof GatewayStatusSchema>;

export const GatewaySchema = z.object({
  id: IdSchema,
  name: z.string(),
  createdAt: TimeSchema,
  /** SHA-256 of the pinned public key, first 16 hex digits. */
  keyFingerprint: z.string(),
  /** The gateway's X25519 public key for sealing secrets to it, base64. */
  sealingKey: z.string(),
  /** Four words that both ends show. */
  words: z.string(),
  connection: z.discriminatedUnion('state', [
    z.object({
      state: z.literal('connected'),
      since: TimeSchema,
      remoteAddress: z.string(),
      rttMs: z.number().optional(),
    }),
    z.object({ state: z.literal('disconnected'), since: TimeSchema, reason: z.string() }),
    z.object({ state: z.literal('never') }),
  ]),
  lastHeartbeatAt: TimeSchema.optional(),
  /** Another agent with this gateway's identity (a cloned machine) was refused not long ago. */
  clone: z
    .object({
      /** The last time. */
      refusedAt: TimeSchema,
      /** Of the one that is connected and of the one that was refused. */
      remoteAddresses: z.array(z.string()),
    })
    .optional(),
  status: GatewayStatusSchema.optional(),
});
export type Gateway = z.infer<typeof GatewaySchema>;
