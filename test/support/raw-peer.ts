/**
 * A peer that says whatever a test wants, frame by frame: it makes the real handshake as the gateway and then
 * speaks bytes. `received` is what the session under test (the portal's) sent, frame by frame.
 */
import type { Clock } from '../../src/base/clock.ts';
import { encodeFrame, isReliable, outFrame, readFrames, TYPE } from '../../src/tunnel/frame.ts';
import { type GatewayLookup, greetGateway } from '../../src/tunnel/handshake.ts';
import { generateIdentity, type Identity } from '../../src/tunnel/identity.ts';
import type { TunnelMetrics } from '../../src/tunnel/metrics.ts';
import { type OpenRequest, writeAck, writeOpen } from '../../src/tunnel/payload.ts';
import type { TargetHandler } from '../../src/tunnel/ports.ts';
import {
  defaultSettings,
  type Session,
  type SessionHandlers,
  type SessionSettings,
} from '../../src/tunnel/session.ts';
import { Transcript } from '../../src/tunnel/transcript.ts';
import { MemoryLink } from './memory-carrier.ts';

export interface RawFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

export interface RawPeerOptions {
  readonly clock: Clock;
  readonly target?: TargetHandler;
  readonly sync?: SessionHandlers['sync'];
  readonly settings?: Partial<SessionSettings>;
  readonly lookup?: (publicKey: string) => Promise<GatewayLookup>;
  /** Changes the HELLO before it is signed. */
  readonly hello?: Record<string, unknown>;
  /** Signs with another key. */
  readonly identity?: Identity;
  /** Of the portal's end. */
  readonly metrics?: TunnelMetrics;
}

const gateway = generateIdentity();
const portal = generateIdentity();

export class RawPeer implements AsyncDisposable {
  readonly link = new MemoryLink();
  readonly received: RawFrame[] = [];
  readonly transcript = new Transcript();
  closed: { code: number; reason: string } | undefined;
  session!: Session;
  #sequence = 0;
  #reliable = 0;
  #bytes = 0;

  /** A carrier with an established session behind it. */
  static async established(options: RawPeerOptions): Promise<RawPeer> {
    const peer = new RawPeer();
    const outcome = await peer.greet(options);
    if (outcome.kind !== 'established') throw new Error(`no session: ${JSON.stringify(outcome)}`);
    peer.session = outcome.session as Session;
    peer.received.length = 0;
    return peer;
  }

  /** Makes the handshake, honest unless `options` say otherwise. */
  greet(options: RawPeerOptions): ReturnType<typeof greetGateway> {
    this.link.a.bind({
      message: (message) => {
        readFrames(message, 0xffff, (type, flags, streamId, sequence, payload) => {
          this.received.push({ type, flags, streamId, sequence, payload: Buffer.from(payload) });
          if (isReliable(type)) {
            this.#reliable += 1;
            this.#bytes += 12 + payload.length;
          }
          if (type === TYPE.HELLO) this.#sayHello(payload, options);
          return true;
        });
      },
      closed: (code, reason) => {
        this.closed = { code, reason };
      },
      drained() {},
    });
    return greetGateway(
      this.link.b,
      {
        clock: options.clock,
        identity: portal,
        serverId: 'portal-1',
        software: 'test',
        lookup: () =>
          options.lookup?.(gateway.publicKey) ??
          Promise.resolve({ kind: 'known', publicKey: gateway.publicKey }),
        findSession: () => undefined,
        metrics: options.metrics,
        handlers: () => ({
          target:
            options.target ??
            (() => {
              throw new Error('no target in this test');
            }),
          sync: options.sync ?? (async () => {}),
        }),
      },
      new AbortController().signal,
    );
  }

  #sayHello(payload: Buffer, options: RawPeerOptions): void {
    this.transcript.open(TYPE.HELLO, JSON.parse(payload.toString('utf8', 64)) as object);
    const hello = this.transcript.seal(TYPE.HELLO, options.identity ?? gateway, {
      role: 'gateway',
      protocol: { min: 1, max: 1 },
      software: 'raw',
      gatewayId: 'gateway-1',
      instanceId: 'node-1',
      capabilities: [],
      settings: { ...defaultSettings('gateway'), ...options.settings },
      nonce: Buffer.alloc(32, 1).toString('base64'),
      time: 0,
      ...options.hello,
    });
    this.raw(encodeFrame(outFrame(TYPE.HELLO, 0, hello)));
  }

  /** Sends one frame with the right sequence number, in a message of its own. */
  send(type: number, streamId: number, payload: Buffer = Buffer.alloc(0), flags = 0): void {
    this.raw(this.encode(type, streamId, payload, flags));
  }

  /** The bytes that `send` would send. */
  encode(type: number, streamId: number, payload: Buffer = Buffer.alloc(0), flags = 0): Buffer {
    const sequence = isReliable(type) ? this.#sequence++ : 0;
    return encodeFrame(outFrame(type, streamId, payload, flags), sequence);
  }

  open(id: number, request: Partial<OpenRequest> = {}): void {
    this.send(TYPE.OPEN, id, writeOpen({ target: 'agent', class: 2, credit: 1 << 20, ...request }));
  }

  /** Acknowledges all that was received. */
  acknowledge(): void {
    this.send(TYPE.ACK, 0, writeAck({ sequence: this.#reliable, bytes: this.#bytes, delayUs: 0 }));
  }

  raw(message: Buffer): void {
    this.link.a.send([Buffer.concat([Buffer.alloc(this.link.a.headroom), message])]);
  }

  /** Frames of a type that were received. */
  of(type: number, streamId?: number): RawFrame[] {
    return this.received.filter(
      (frame) => frame.type === type && (streamId === undefined || frame.streamId === streamId),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.session?.[Symbol.asyncDispose]();
  }
}
