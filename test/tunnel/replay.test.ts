import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameBytes, outFrame, TYPE } from '../../src/tunnel/frame.ts';
import { ReplayBuffer } from '../../src/tunnel/replay.ts';

const frame = (bytes: number) => outFrame(TYPE.DATA, 1, Buffer.alloc(bytes));

describe('replay buffer', () => {
  it('holds exactly what was sent and not acknowledged', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ push: fc.nat(50), acknowledge: fc.nat(50) }), { maxLength: 100 }),
        fc.constantFrom(0, 2 ** 32 - 7, 2 ** 40),
        (steps, first) => {
          const buffer = new ReplayBuffer(first);
          const model: number[] = [];
          let next = first;
          let base = first;
          for (const step of steps) {
            for (let count = 0; count < step.push; count += 1) {
              buffer.push(frame(next % 97));
              model.push(next % 97);
              next += 1;
            }
            const to = base + Math.min(step.acknowledge, model.length);
            const dropped = model.splice(0, to - base);
            base = to;
            expect(buffer.acknowledge(to)?.bytes).toBe(dropped.reduce((sum, bytes) => sum + bytes + 12, 0));
            expect(buffer.base).toBe(base);
            expect(buffer.next).toBe(next);
            expect(buffer.bytes).toBe(model.reduce((sum, bytes) => sum + bytes + 12, 0));
            for (const [index, bytes] of model.entries())
              expect(frameBytes(buffer.at(base + index))).toBe(bytes + 12);
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  it('#38: refuses acknowledgements of what was never sent, or less than before', () => {
    const buffer = new ReplayBuffer();
    for (let count = 0; count < 10; count += 1) buffer.push(frame(1));
    expect(buffer.acknowledge(11)).toBeUndefined();
    expect(buffer.acknowledge(6)?.bytes).toBe(6 * 13);
    expect(buffer.acknowledge(5)).toBeUndefined();
    expect(buffer.acknowledge(Number.NaN)).toBeDefined(); // compares with nothing: no frame is dropped
    expect(buffer.bytes).toBe(4 * 13);
  });

  it('forgets acknowledged frames for good, also after a million of them', () => {
    const buffer = new ReplayBuffer();
    for (let count = 0; count < 1_000_000; count += 1) {
      buffer.push(frame(0));
      if (count % 7 === 0) buffer.acknowledge(buffer.next - 3 > buffer.base ? buffer.next - 3 : buffer.base);
    }
    expect(buffer.next - buffer.base).toBeLessThan(12);
  });
});
