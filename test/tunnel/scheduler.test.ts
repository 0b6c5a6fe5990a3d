import { describe, expect, it } from 'vitest';
import type { StreamClass } from '../../src/tunnel/ports.ts';
import { BULK_RATE_BYTES, type Flow, FlowLink, Scheduler } from '../../src/tunnel/scheduler.ts';

interface TestFlow extends Flow {
  sent: number;
  frame: number;
}

const flow = (cls: StreamClass, shareKey: string, frame = 16_384): TestFlow => ({
  class: cls,
  shareKey,
  link: new FlowLink(),
  sent: 0,
  frame,
});

/** Sends `bytes` in total among flows that always have more. Time stands still unless `perFrameMs`. */
function run(scheduler: Scheduler, bytes: number, perFrameMs = 0, from = 0): number {
  let now = from;
  for (let total = 0; total < bytes; ) {
    const next = scheduler.pick(3) as TestFlow | undefined;
    if (next === undefined) return now;
    next.sent += next.frame;
    total += next.frame;
    scheduler.sent(next, next.frame, now);
    now += perFrameMs;
  }
  return now;
}

const activate = (scheduler: Scheduler, flows: readonly Flow[]): void => {
  for (const one of flows) scheduler.activate(one, 0);
};

describe('scheduler', () => {
  it('#16: one stream of a cluster gets half of the link against fifteen of another', () => {
    const scheduler = new Scheduler();
    const many = Array.from({ length: 15 }, () => flow(3, 'cluster-a'));
    const single = flow(3, 'cluster-b');
    activate(scheduler, [...many, single]);
    run(scheduler, 10_000_000);
    const others = many.reduce((sum, one) => sum + one.sent, 0);
    expect(single.sent / (single.sent + others)).toBeGreaterThan(0.4);
    const shares = many.map((one) => one.sent / others);
    expect(Math.min(...shares)).toBeGreaterThan(0.9 / 15);
  });

  it('#16: small frames do not cost a stream its share', () => {
    const scheduler = new Scheduler();
    const small = flow(3, 'a', 1000);
    const large = flow(3, 'b', 16_384);
    activate(scheduler, [small, large]);
    run(scheduler, 5_000_000);
    expect(small.sent / (small.sent + large.sent)).toBeGreaterThan(0.45);
  });

  it('#16: a flood of class 1 leaves half of the link to others that wait', () => {
    const scheduler = new Scheduler();
    const status = flow(1, 'status');
    const exec = flow(2, 'exec');
    activate(scheduler, [status, exec]);
    run(scheduler, 800_000);
    expect(exec.sent / (status.sent + exec.sent)).toBeGreaterThan(0.4);
    scheduler.deactivate(exec);
    const before = status.sent;
    run(scheduler, 400_000);
    expect(status.sent - before).toBeGreaterThanOrEqual(400_000);
  });

  it('serves interactive before bulk, and bulk all the same', () => {
    const scheduler = new Scheduler();
    const interactive = flow(2, 'a', 4096);
    const bulk = flow(3, 'b');
    activate(scheduler, [interactive, bulk]);
    run(scheduler, 900_000);
    const share = bulk.sent / (bulk.sent + interactive.sent);
    expect(share).toBeGreaterThan(0.08);
    expect(share).toBeLessThan(0.2);
  });

  it('treats an interactive stream as bulk after 1 MiB in 1 s, until it was idle for 1 s', () => {
    const scheduler = new Scheduler();
    const greedy = flow(2, 'a');
    activate(scheduler, [greedy]);
    const end = run(scheduler, BULK_RATE_BYTES + 20_000, 1);
    expect(scheduler.waiting).toBe('bulk');
    scheduler.deactivate(greedy);
    scheduler.activate(greedy, end + 500);
    expect(scheduler.waiting).toBe('bulk');
    scheduler.deactivate(greedy);
    scheduler.activate(greedy, end + 1500);
    expect(scheduler.waiting).toBe('urgent');
  });

  it('never demotes a stream that sends slowly for long', () => {
    const scheduler = new Scheduler();
    const steady = flow(2, 'a');
    activate(scheduler, [steady]);
    run(scheduler, 20_000_000, 20);
    expect(scheduler.waiting).toBe('urgent');
  });

  it('#29: costs the same per frame with a thousand streams as with ten', () => {
    const FRAMES = 10_000;
    /** How often the scheduler looks at a flow for each frame: time would be the machine's, too. */
    const looks = (streams: number): number => {
      let count = 0;
      const watched = (index: number): Flow =>
        new Proxy(flow(3, `share-${index % 50}`), {
          get: (target, name) => {
            count += 1;
            return Reflect.get(target, name) as unknown;
          },
        });
      const scheduler = new Scheduler();
      activate(
        scheduler,
        Array.from({ length: streams }, (_, index) => watched(index)),
      );
      count = 0;
      run(scheduler, 16_384 * FRAMES);
      return count / FRAMES;
    };
    expect(looks(10)).toBeGreaterThan(0);
    expect(looks(1000)).toBeLessThan(2 * looks(10));
  });

  it('forgets flows that have nothing to send', () => {
    const scheduler = new Scheduler();
    const flows = Array.from({ length: 100 }, (_, index) =>
      flow(((index % 3) + 1) as StreamClass, `${index}`),
    );
    activate(scheduler, flows);
    for (const one of flows) scheduler.deactivate(one);
    for (const one of flows) scheduler.deactivate(one);
    expect(scheduler.waiting).toBe('none');
    expect(scheduler.pick(3)).toBeUndefined();
  });
});
