/**
 * 78: every allocation of the tunnel fails once, as Node fails when there is no memory: at each of them the process
 * lives, what was asked is done or fails with an error, and the next connection serves as if nothing had been.
 */
import { describe, expect, it } from 'vitest';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import type { Session } from '../../src/tunnel/session.ts';
import { collect } from '../support/collect.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SessionPair } from '../support/session-pair.ts';

const ALLOCATE = ['alloc', 'allocUnsafe', 'allocUnsafeSlow', 'concat', 'from'] as const;
type Allocate = (...args: unknown[]) => Buffer;
const buffers = Buffer as unknown as Record<(typeof ALLOCATE)[number], Allocate>;

/** Lets the `nth` allocation that the tunnel asks for fail. */
function scarce(nth: number): { readonly failed: boolean } & Disposable {
  const originals = ALLOCATE.map((name) => [name, buffers[name]] as const);
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 2;
  let left = nth;
  for (const [name, allocate] of originals)
    buffers[name] = (...args) => {
      if (left > 0 && /\/src\/tunnel\//.test(new Error('who asks').stack ?? '')) {
        left -= 1;
        if (left === 0) throw new RangeError('Array buffer allocation failed');
      }
      return allocate.apply(Buffer, args);
    };
  return {
    get failed() {
      return left === 0;
    },
    [Symbol.dispose]: () => {
      Error.stackTraceLimit = stackTraceLimit;
      for (const [name, allocate] of originals) buffers[name] = allocate;
    },
  };
}

const DATA = Buffer.alloc(40_000, 'data');
/** Longer than the deadline of any open and any handshake, and the grace time. */
const LONG_MS = 200_000;

const echo = async () => (stream: TunnelStream) => void stream.on('error', () => {}).pipe(stream);

async function ask(end: Session): Promise<boolean> {
  const stream = await end.open({ target: 'echo' });
  stream.end(DATA);
  return (await collect(stream)).equals(DATA);
}

/** Streams and messages both ways: true or why not, each. */
const work = ({ portal, gateway }: SessionPair): Promise<unknown>[] =>
  [
    ask(portal),
    ask(gateway),
    portal.sendSync('sync', DATA).then(() => true),
    gateway.sendSync('ack', DATA).then(() => true),
  ].map((asked) => asked.catch((error: unknown) => error));

async function dial(pair: SessionPair, clock: ManualClock): Promise<void> {
  const dialling = pair.dial().then(
    () => {},
    () => {}, // an end that failed half-way says so to who called it, and dials again
  );
  await clock.advance(10_000);
  await dialling;
}

describe('an allocation that fails', () => {
  it('78: wherever it is, is an error of whoever asked and of nobody else, and the next connection is whole', async () => {
    let runs = 0;
    for (let more = true; more; runs += 1) {
      const clock = new ManualClock();
      await using pair = new SessionPair({ clock, gatewayTarget: echo, portalTarget: echo });
      const under: Promise<unknown>[] = [];
      {
        using memory = scarce(runs + 1);
        await dial(pair, clock);
        if (pair.gateway?.state.kind === 'attached' && pair.portal?.state.kind === 'attached') {
          under.push(...work(pair));
          await clock.advance(100);
          pair.link.cut();
          await dial(pair, clock);
        }
        await clock.advance(1_000);
        more = memory.failed;
      }
      await clock.advance(LONG_MS);
      for (const result of await Promise.all(under))
        expect(result === true || result instanceof Error, `allocation ${runs + 1}: ${String(result)}`).toBe(
          true,
        );
      // with memory again
      await dial(pair, clock);
      const whole = Promise.all(work(pair));
      await clock.advance(LONG_MS);
      expect(await whole, `after allocation ${runs + 1}`).toEqual([true, true, true, true]);
    }
    // all of a handshake, a resumption and two streams
    expect(runs).toBeGreaterThan(40);
  });
});
