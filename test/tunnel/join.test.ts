import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { join } from '../../src/tunnel/join.ts';
import type { SessionStream } from '../../src/tunnel/stream.ts';

const FRAME = 16 * 1024;
const BUFFER = 64 * 1024;

/** A stream of the tunnel that holds all of `data` at once, as after a long stall. */
const holding = (data: Buffer): SessionStream => {
  let at = 0;
  return new Duplex({
    readableHighWaterMark: FRAME,
    read() {
      while (at < data.length && this.push(data.subarray(at, at + FRAME))) at += FRAME;
      if (at < data.length) at += FRAME;
      else this.push(null);
    },
    write: (_chunk, _encoding, done) => done(),
  }) as SessionStream;
};

/** A target that takes what it is given when `take` says so, as a socket whose peer may not read. */
function target(take: (done: () => void) => void): { duplex: Duplex; taken: Buffer[]; most: () => number } {
  const taken: Buffer[] = [];
  let most = 0;
  const duplex = new Duplex({
    writableHighWaterMark: BUFFER,
    read() {},
    writev(chunks, done) {
      most = Math.max(most, duplex.writableLength);
      for (const { chunk } of chunks) taken.push(chunk as Buffer);
      take(done);
    },
  });
  return { duplex, taken, most: () => Math.max(most, duplex.writableLength) };
}

describe('a stream joined with its target', () => {
  it('fills a target that does not read by twice its buffer at most, and goes on when it reads again', async () => {
    const data = randomBytes(4 * 1024 * 1024);
    let waiting: (() => void) | undefined;
    let stalled = true;
    const { duplex, taken, most } = target((done) => {
      if (stalled) waiting = done;
      else setImmediate(done);
    });
    const stream = holding(data);
    join(stream, duplex);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(stream.isPaused()).toBe(true);
    expect(most()).toBeLessThanOrEqual(2 * BUFFER + FRAME);
    stalled = false;
    waiting?.();
    await once(duplex, 'finish');
    expect(Buffer.concat(taken).equals(data)).toBe(true);
    expect(most()).toBeLessThanOrEqual(2 * BUFFER + FRAME);
  });

  it('does not stop the stream for what the system takes at once', async () => {
    const { duplex, taken } = target((done) => done());
    const stream = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() }) as SessionStream;
    const pause = vi.spyOn(stream, 'pause');
    join(stream, duplex);
    for (let turn = 0; turn < 10; turn += 1) {
      for (let count = 0; count < 4; count += 1) stream.push(Buffer.alloc(FRAME));
      await new Promise(setImmediate);
    }
    stream.push(null);
    await once(duplex, 'finish');
    expect(Buffer.concat(taken).length).toBe(10 * 4 * FRAME);
    expect(pause).not.toHaveBeenCalled();
  });
});
