/**
 * Signed handshake messages. A payload is 64 bytes of Ed25519 signature, then JSON. The signature covers a digest
 * chain over all messages of this carrier so far, types and lengths included: nothing can be replayed (both nonces
 * are in the chain), reordered, dropped or downgraded.
 */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { type Identity, verifySignature } from './identity.ts';
import { readObject } from './payload.ts';

const SIGNATURE_BYTES = 64;
const UNSIGNED = Buffer.alloc(SIGNATURE_BYTES);
/** Of the JSON. */
export const MAX_GREETING_BYTES = 8 * 1024;
export const MAX_HANDSHAKE_PAYLOAD_BYTES = SIGNATURE_BYTES + MAX_GREETING_BYTES;
const DOMAIN = 'pcg.tunnel.v1 handshake';

export type Greeting<T> =
  | { readonly kind: 'ok'; readonly body: T }
  | { readonly kind: 'bad'; readonly why: string };

export class Transcript {
  #chain: Buffer = createHash('sha256').update(DOMAIN).digest();

  /** A message without proof: the portal's first. */
  open(type: number, body: object): Buffer {
    const json = Buffer.from(JSON.stringify(body));
    this.#chain = this.#after(type, json);
    return Buffer.concat([UNSIGNED, json]);
  }

  /** A signed message. */
  seal(type: number, identity: Identity, body: object): Buffer {
    const json = Buffer.from(JSON.stringify(body));
    this.#chain = this.#after(type, json);
    return Buffer.concat([identity.sign(this.#chain), json]);
  }

  /** What a message says, before it is believed; it does not join the chain. */
  peek<T>(payload: Buffer, schema: z.ZodType<T>): T | undefined {
    if (payload.length <= SIGNATURE_BYTES || payload.length > MAX_HANDSHAKE_PAYLOAD_BYTES) return undefined;
    const parsed = schema.safeParse(readObject(payload.subarray(SIGNATURE_BYTES)));
    return parsed.success ? parsed.data : undefined;
  }

  /** Checks the signature and, when it is right, takes the message into the chain. */
  verify(type: number, payload: Buffer, publicKey: string): boolean {
    const chain = this.#after(type, payload.subarray(SIGNATURE_BYTES));
    if (!verifySignature(publicKey, chain, payload.subarray(0, SIGNATURE_BYTES))) return false;
    this.#chain = chain;
    return true;
  }

  /** `peek` and `verify`; without a key the message joins the chain unproven. */
  read<T>(type: number, payload: Buffer, schema: z.ZodType<T>, publicKey: string | undefined): Greeting<T> {
    const body = this.peek(payload, schema);
    if (body === undefined) return { kind: 'bad', why: 'unreadable handshake message' };
    if (publicKey === undefined) this.#chain = this.#after(type, payload.subarray(SIGNATURE_BYTES));
    else if (!this.verify(type, payload, publicKey))
      return { kind: 'bad', why: 'the pinned key was not proven' };
    return { kind: 'ok', body };
  }

  #after(type: number, json: Buffer): Buffer {
    const head = Buffer.alloc(5);
    head[0] = type;
    head.writeUInt32BE(json.length, 1);
    return createHash('sha256').update(this.#chain).update(head).update(json).digest();
  }
}
