/** When a store may act on clusters: at once after a restart, after the portal's word when it may be a restored backup. */
import { describe, expect, it } from 'vitest';
import { FirstSync } from '../../src/agent/first-sync.ts';
import { silentLog } from '../../src/base/log.ts';
import { COLLECTIONS } from '../../src/store/records.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { memoryOutbox, memoryRecords } from '../support/memory-store.ts';

const MINUTE_MS = 60_000;

interface Life {
  readonly clock: ManualClock;
  readonly first: FirstSync;
  readonly acts: () => boolean;
  stop(): Promise<void>;
}

/** One store over several lives of the agent. */
function store(documents: Record<string, unknown> = { 'cluster/cl-1': {} }) {
  const records = memoryRecords();
  const outbox = memoryOutbox();
  const ready = Promise.all(
    Object.entries(documents).map(([key, spec]) =>
      records.put(COLLECTIONS.documents, key, { generation: 1, spec }),
    ),
  );
  return {
    outbox,
    async start(clock: ManualClock): Promise<Life> {
      await ready;
      const first = new FirstSync({ records, outbox, clock, log: silentLog });
      const stop = new AbortController();
      let acting = false;
      const running = (async () => {
        if (!(await first.ready(stop.signal))) return;
        acting = true;
        await first.keepMark(stop.signal);
      })();
      await clock.settle(5);
      return {
        clock,
        first,
        acts: () => acting,
        stop: async () => {
          stop.abort(new Error('stopped'));
          await running;
        },
      };
    },
  };
}

/** A life that was long enough to leave its mark. */
async function used(documents?: Record<string, unknown>) {
  const kept = store(documents);
  const clock = new ManualClock();
  const life = await kept.start(clock);
  if (!life.acts()) life.first.current();
  await clock.settle(5);
  await clock.advance(30 * MINUTE_MS);
  await life.stop();
  return { kept, clock };
}

describe('a store', () => {
  it('acts at once when it is new, and when no cluster is in it', async () => {
    for (const documents of [{}, { 'cloud-account/ca-1': {} }]) {
      const life = await store(documents).start(new ManualClock());
      expect(life.acts()).toBe(true);
      await life.stop();
    }
  });

  it('acts at once after a restart, portal or not', async () => {
    const { kept, clock } = await used();
    await clock.advance(9 * MINUTE_MS);
    const life = await kept.start(clock);
    expect(life.acts()).toBe(true);
    expect(life.first.held).toBeUndefined();
    await life.stop();
    expect(await kept.outbox.recentEvents({}, 10)).toHaveLength(1); // of its very first start, which had no mark
  });

  it('that is a day old waits for the portal, says so, and acts when it was told all', async () => {
    const { kept, clock } = await used();
    const lastUsedMs = clock.now();
    await clock.advance(24 * 60 * MINUTE_MS);
    const life = await kept.start(clock);
    expect(life.acts()).toBe(false);
    expect(life.first.held).toMatchObject({ sinceMs: clock.now(), untilMs: clock.now() + 60 * MINUTE_MS });
    expect(life.first.held?.lastUsedMs).toBeGreaterThan(lastUsedMs - 2 * MINUTE_MS);
    const [event] = await kept.outbox.recentEvents({}, 10);
    expect(event).toMatchObject({ reason: 'StoreMayBeOld', severity: 'warning' });
    await clock.advance(40 * MINUTE_MS);
    expect(life.acts()).toBe(false);
    life.first.current();
    await clock.settle(5);
    expect(life.acts()).toBe(true);
    expect(life.first.held).toBeUndefined();
    await life.stop();
  });

  it('acts after an hour when no portal comes', async () => {
    const { kept, clock } = await used();
    await clock.advance(24 * 60 * MINUTE_MS);
    const life = await kept.start(clock);
    await clock.advance(59 * MINUTE_MS);
    expect(life.acts()).toBe(false);
    await clock.advance(2 * MINUTE_MS);
    expect(life.acts()).toBe(true);
    await life.stop();
  });

  it('that waits is no younger for being restarted while it waits', async () => {
    const { kept, clock } = await used();
    await clock.advance(24 * 60 * MINUTE_MS);
    for (let life = 0; life < 3; life += 1) {
      const waiting = await kept.start(clock);
      await clock.advance(2 * MINUTE_MS);
      expect(waiting.acts()).toBe(false);
      await waiting.stop();
    }
  });

  it('whose mark lies in the future is not believed', async () => {
    const { kept } = await used();
    const life = await kept.start(new ManualClock(Date.UTC(2025, 0, 1)));
    expect(life.acts()).toBe(false);
    await life.stop();
  });
});
