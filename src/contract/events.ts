/** Facts that happened, in order, once: the timeline. Sequence numbers are per gateway and never reused. */
import { z } from 'zod';
import { ProblemDetailsSchema } from './errors.ts';
import { IdSchema, TimeSchema } from './names.ts';

export const EventSchema = z.object({
  /** Gateway's own sequence, from 1, without gaps. */
  seq: z.int().min(1),
  time: TimeSchema,
  severity: z.enum(['info', 'warning', 'error']),
  /** CamelCase, e.g. `MachineAllocated`, `NodeReady`, `ClusterRunning`. */
  reason: z.string().regex(/^[A-Z][A-Za-z0-9]*$/),
  message: z.string(),
  cluster: IdSchema.optional(),
  /** Node name within the cluster. */
  node: z.string().optional(),
  /** MAAS system id. */
  machine: z.string().optional(),
  task: z.string().optional(),
  attempt: z.int().min(1).optional(),
  durationMs: z.number().min(0).optional(),
  error: ProblemDetailsSchema.optional(),
  /** Evidence, e.g. black-box recordings of a failed machine. */
  data: z.record(z.string(), z.unknown()).optional(),
});
export type Event = z.infer<typeof EventSchema>;
/** An event before the outbox gave it its sequence and time. */
export type EventDraft = Omit<Event, 'seq' | 'time'>;
