import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Duplex, PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { ReceiveBudget, ReceiveWindow } from '../../src/tunnel/credit.ts';
import { join } from '../../src/tunnel/join.ts';
import { SessionStream } from '../../src/tunnel/stream.ts';

const FRAME = 16 * 1024;
const BUFFER = 64 * 1024;

/** A stream of a session that is not there; it is told what arrives. */
function sessionStream(): { stream: SessionStream; consumed: () => number } {
  let consumed = 0;
  const nothing = (): void => {};
  const link = {
    wake: nothing,
    consumed: (_stream: SessionStream, bytes: number) => void (consumed += bytes),
    ended: nothing,
    finished: nothing,
    released: nothing,
    stop: nothing,
  };
  const stream = new SessionStream(link, {
    id: 2,
    target: 'load',
    class: 2,
    shareKey: 'load',
    maxFrameBytes: FRAME,
    sendCredit: 0,
    window: new ReceiveWindow(new ReceiveBudget(0), 0, 2),
    backlog: { bytes: 0 },
    now: 0,
  });
  return { stream, consumed: () => consumed };
}

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
    const { stream, consumed } = sessionStream();
    // as after a long stall: all of it is there at once
    for (let at = 0; at < data.length; at += FRAME) stream.receive(data.subarray(at, at + FRAME));
    stream.receiveEnd();
    join(stream, duplex);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(most()).toBeLessThanOrEqual(2 * BUFFER + FRAME);
    // what a target has not taken costs its stream's window, wherever it waits
    expect(consumed()).toBe(0);
    stalled = false;
    waiting?.();
    await once(duplex, 'finish');
    expect(Buffer.concat(taken).equals(data)).toBe(true);
    expect(most()).toBeLessThanOrEqual(2 * BUFFER + FRAME);
    expect(consumed()).toBe(data.length);
  });

  it('gives the credit of a few bytes back as soon as the target has taken them', async () => {
    const waiting: (() => void)[] = [];
    const { duplex } = target((done) => void waiting.push(done));
    const { stream, consumed } = sessionStream();
    join(stream, duplex);
    for (let total = 100; total <= 300; total += 100) {
      stream.receive(Buffer.alloc(100));
      for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
      expect(consumed()).toBe(total - 100);
      while (waiting.length > 0) waiting.shift()?.();
      await new Promise(setImmediate);
      while (waiting.length > 0) waiting.shift()?.();
      await new Promise(setImmediate);
      expect(consumed()).toBe(total);
    }
    stream.receive(Buffer.alloc(100));
    stream.receiveEnd();
    for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
    expect(consumed()).toBe(300);
    while (waiting.length > 0) {
      waiting.shift()?.();
      await new Promise(setImmediate);
    }
    expect(duplex.writableFinished).toBe(true);
    expect(consumed()).toBe(400);
  });

  it('does not stop the stream for what the system takes at once', async () => {
    const { duplex, taken } = target((done) => done());
    const { stream } = sessionStream();
    const hold = vi.spyOn(stream, 'hold');
    join(stream, duplex);
    for (let turn = 0; turn < 10; turn += 1) {
      for (let count = 0; count < 4; count += 1) stream.receive(Buffer.alloc(FRAME));
      await new Promise(setImmediate);
      expect(Buffer.concat(taken).length).toBe((turn + 1) * 4 * FRAME);
    }
    stream.receiveEnd();
    await once(duplex, 'finish');
    expect(hold).not.toHaveBeenCalled();
  });

  it('keeps order and end, whether one chunk or many come in a turn', async () => {
    const { duplex, taken } = target((done) => setImmediate(done));
    const { stream } = sessionStream();
    join(stream, duplex);
    const data = randomBytes(1000);
    let at = 0;
    for (const count of [1, 3, 1, 1, 5]) {
      for (let chunk = 0; chunk < count; chunk += 1, at += 50) stream.receive(data.subarray(at, at + 50));
      if (count === 3) await new Promise(setImmediate);
    }
    stream.receive(data.subarray(at));
    stream.receiveEnd();
    await once(duplex, 'finish');
    expect(Buffer.concat(taken).equals(data)).toBe(true);
  });

  it('stops a source that the peer gives no credit for, and loses none of it', async () => {
    const { stream } = sessionStream();
    const source = new PassThrough();
    join(stream, source);
    stream.talk();
    const data = randomBytes(1024 * 1024);
    for (let at = 0; at < data.length; at += BUFFER) source.write(data.subarray(at, at + BUFFER));
    source.end();
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(source.isPaused()).toBe(true);
    const sent: Buffer[] = [];
    while (Buffer.concat(sent).length < data.length) {
      expect(stream.addCredit(100_000)).toBe(true);
      const done: (() => void)[] = [];
      while (stream.ready) sent.push(stream.nextFrame(done).payload);
      for (const callback of done) callback();
      await new Promise(setImmediate);
    }
    expect(Buffer.concat(sent).equals(data)).toBe(true);
  });
});
