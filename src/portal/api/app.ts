/** The Fastify instance with zod types, and what every endpoint group gets. */
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
} from 'fastify';
import type { Server } from 'node:http';
import { z } from 'zod';
import { ProblemDetailsSchema } from '../../contract/errors.ts';
import { IdSchema } from '../../contract/names.ts';
import type { ZodTypeProvider } from '../zod-fastify.ts';

export type App = FastifyInstance<
  Server,
  RawRequestDefaultExpression<Server>,
  RawReplyDefaultExpression<Server>,
  FastifyBaseLogger,
  ZodTypeProvider
>;

export const IdParams = z.object({ id: IdSchema });
export const ConfirmBody = z.object({ confirm: z.string().max(100).optional() });

/** Errors look the same everywhere. */
export const PROBLEMS = {
  '4xx': ProblemDetailsSchema.describe('What the caller can correct.'),
  '5xx': ProblemDetailsSchema.describe('What went wrong here or at the gateway.'),
} as const;

export function listOf<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item) });
}
