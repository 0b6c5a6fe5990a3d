/**
 * What HELLO, WELCOME, RESUME, RESUMED and RESUME_FAIL say. Unknown members are ignored, so that newer peers can say
 * more; members that matter are bounded here once and trusted afterwards.
 */
import { z } from 'zod';
import { MAX_PAYLOAD_BYTES } from './frame.ts';
import { MAX_SYNC_BYTES } from './sync-channel.ts';

/** Versions of the protocol that this program speaks. */
export const PROTOCOL = { min: 1, max: 1 } as const;
export const NONCE_BYTES = 32;

const name = z.string().min(1).max(256);
const count = z.int().min(0);
const nonce = z.string().length(44);
const time = z.number();
/** Any numbers: a version that is too old must be told so, not called unreadable. */
const protocol = z.object({ min: z.int(), max: z.int() });
const capabilities = z.array(z.string().max(64)).max(64);

/** A peer that announces less cannot even take a handshake; one that announces more is not believed. */
const settings = z.object({
  maxFrameBytes: z
    .int()
    .min(1024)
    .transform((bytes) => Math.min(bytes, MAX_PAYLOAD_BYTES)),
  openCredit: z.int().min(0).max(0xffff_ffff),
  syncCredit: z.int().min(MAX_SYNC_BYTES).max(0xffff_ffff),
  maxStreams: z.int().min(1),
});

export const portalHelloSchema = z.object({
  role: z.literal('portal'),
  protocol,
  serverId: name,
  nonce,
  time,
});

export const gatewayHelloSchema = z.object({
  role: z.literal('gateway'),
  protocol,
  software: name,
  gatewayId: name,
  instanceId: name,
  capabilities,
  settings,
  nonce,
  time,
  /** Another agent with this identity pushed this one out (4410), and it comes back all the same. */
  displaced: z.boolean().optional(),
});

export const welcomeSchema = z.object({
  protocol: z.int().min(PROTOCOL.min).max(PROTOCOL.max),
  sessionId: name,
  epoch: z.int().min(1),
  graceMs: count,
  serverId: name,
  software: name,
  capabilities,
  settings,
  time,
});

export const resumeSchema = z.object({
  sessionId: name,
  epoch: count,
  attempt: z.int().min(1),
  nextExpected: count,
  gatewayId: name,
  instanceId: name,
  nonce,
  time,
});

export const resumedSchema = z.object({ epoch: z.int().min(1), nextExpected: count });

const resumeFailReason = z.enum(['unknown', 'expired', 'superseded', 'gap', 'moved']);
export type ResumeFailReason = z.infer<typeof resumeFailReason>;
export const resumeFailSchema = z.object({ reason: resumeFailReason, hint: z.string().max(2048).optional() });
