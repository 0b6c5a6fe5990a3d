/**
 * Messages of durable sync (layer 5) and how they travel in SYNC and SYNC_ACK payloads: JSON, cut into chunks,
 * each behind one byte that says whether more follows. Every message comes from another machine and is checked.
 * Messages of an unknown type are ignored, so that a newer peer may say more.
 */
import { z } from 'zod';
import { Assembly } from '../base/assembly.ts';
import { EventSchema } from '../contract/events.ts';
import type { SyncKind, TunnelSession } from './session.ts';

/** A status of a cluster of 1 000 nodes with all its tasks is about 2 MB. Larger ones are refused, visibly. */
export const MAX_SYNC_MESSAGE_BYTES = 8 * 1024 * 1024;
/** Small enough that an acknowledgement need not wait long behind a large status. */
const CHUNK_BYTES = 128 * 1024;
/** More than both ends ever have in flight together. */
const MAX_UNSENT_ACKS = 64;
/** Of arrays and objects in each other. What is far deeper can be read, but ends whoever writes it again. */
const MAX_DEPTH = 500;
const LAST = 0;
const MORE = 1;

const name = z.string().min(1).max(253);
const number = z.int().min(0);
const refusal = z.object({ refused: z.string().max(4000) });

export const DocumentOutcomeSchema = z.union([z.enum(['applied', 'stale']), refusal]);
export const SnapshotOutcomeSchema = z.union([z.enum(['stored', 'stale']), refusal]);

/** What the portal sends. */
export const DownMessageSchema = z.discriminatedUnion('t', [
  /** First of a session: events up to here are stored. */
  z.object({ t: z.literal('ready'), lastEventSeq: number }),
  z.object({ t: z.literal('document'), kind: name, id: name, generation: number, spec: z.unknown() }),
  /** Once a session: the gateway has answered every document that there was. */
  z.object({ t: z.literal('current') }),
]);
export const DownAckSchema = z.discriminatedUnion('t', [
  z.object({
    t: z.literal('snapshot'),
    kind: name,
    id: name,
    revision: number,
    outcome: SnapshotOutcomeSchema,
  }),
  z.object({ t: z.literal('events'), seq: number }),
]);

/** What the gateway sends. */
export const UpMessageSchema = z.discriminatedUnion('t', [
  /** First of a session: what is on disk, so that only newer generations come. */
  z.object({
    t: z.literal('known'),
    documents: z.array(z.object({ kind: name, id: name, generation: number })).max(100_000),
  }),
  z.object({ t: z.literal('snapshot'), kind: name, id: name, revision: number, status: z.unknown() }),
  z.object({
    t: z.literal('events'),
    // the store judges the rest of each event: one bad event must not cost the others
    events: z
      .array(z.looseObject({ seq: z.int().min(1) }))
      .min(1)
      .max(10_000),
  }),
]);
export const UpAckSchema = z.discriminatedUnion('t', [
  z.object({
    t: z.literal('document'),
    kind: name,
    id: name,
    generation: number,
    outcome: DocumentOutcomeSchema,
  }),
]);

export type DownMessage = z.infer<typeof DownMessageSchema>;
export type DownAck = z.infer<typeof DownAckSchema>;
export type UpMessage = z.infer<typeof UpMessageSchema>;
export type UpAck = z.infer<typeof UpAckSchema>;

/** For senders: what they may not send because it is too large. */
export class SyncTooLarge extends Error {
  readonly bytes: number;
  constructor(bytes: number) {
    super(`${bytes} bytes are more than the ${MAX_SYNC_MESSAGE_BYTES} of a sync message`);
    this.name = 'SyncTooLarge';
    this.bytes = bytes;
  }
}

/** Throws SyncTooLarge. */
export function encodeMessage(message: unknown): Buffer[] {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length > MAX_SYNC_MESSAGE_BYTES) throw new SyncTooLarge(bytes.length);
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    const end = Math.min(at + CHUNK_BYTES, bytes.length);
    chunks.push(Buffer.concat([Buffer.from([end === bytes.length ? LAST : MORE]), bytes.subarray(at, end)]));
  }
  return chunks;
}

/** Puts chunks together again; one for each kind. */
export class MessageReader {
  readonly #chunks = new Assembly();

  /** Undefined until the last chunk. Throws SyntaxError or RangeError for what no honest peer sends. */
  push(payload: Buffer): unknown {
    if (this.#chunks.length + payload.length - 1 > MAX_SYNC_MESSAGE_BYTES) {
      this.#chunks.clear();
      throw new RangeError('a sync message is too large');
    }
    this.#chunks.add(payload.subarray(1));
    if (payload[0] === MORE) return undefined;
    const message: unknown = JSON.parse(this.#chunks.take().toString('utf8'));
    if (isTooDeep(message)) throw new RangeError(`a sync message is nested more than ${MAX_DEPTH} deep`);
    return message;
  }
}

function isTooDeep(message: unknown): boolean {
  let level: unknown[] = [message];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > MAX_DEPTH) return true;
    level = level.flatMap((value) =>
      typeof value === 'object' && value !== null ? Object.values(value) : [],
    );
  }
  return false;
}

/** Sends whole messages over a session: the chunks of two messages of one kind never mix. */
export class MessageSender {
  readonly #session: Pick<TunnelSession, 'sendSync'>;
  #unsentAcks = 0;
  readonly #tail: Record<SyncKind, Promise<void>> = { sync: Promise.resolve(), ack: Promise.resolve() };

  constructor(session: Pick<TunnelSession, 'sendSync'>) {
    this.#session = session;
  }

  /** Resolves when it was handed to the wire. Rejects with SyncTooLarge, or StreamError SESSION_LOST. */
  async send(message: UpMessage | DownMessage): Promise<void> {
    await this.#send('sync', encodeMessage(message));
  }

  /**
   * Queues an acknowledgement without waiting for the wire: a receiver that waited for its own sending could
   * deadlock with a peer that does the same. Waits only when a peer provokes more of them than an honest one can.
   */
  async acknowledge(message: UpAck | DownAck): Promise<void> {
    this.#unsentAcks += 1;
    const sending = this.#send('ack', encodeMessage(message)).catch(() => {}); // the session's end tells others
    void sending.finally(() => {
      this.#unsentAcks -= 1;
    });
    if (this.#unsentAcks > MAX_UNSENT_ACKS) await sending;
  }

  async #send(kind: SyncKind, chunks: readonly Buffer[]): Promise<void> {
    const before = this.#tail[kind];
    const sending = (async () => {
      await before;
      // no signal: half a message would be the beginning of the next one
      for (const chunk of chunks) await this.#session.sendSync(kind, chunk);
    })();
    this.#tail[kind] = sending.catch(() => {});
    await sending;
  }
}

/** An event that would not fit keeps its place with what is safe of it. */
export function shrinkEvent(event: z.infer<typeof EventSchema>): z.infer<typeof EventSchema> {
  const { data: _data, error: _error, ...rest } = event;
  return { ...rest, message: rest.message.slice(0, 1000), data: { truncated: true } };
}
