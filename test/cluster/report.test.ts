/** When a cluster's status is told: what concerns the whole at once, single machines once per interval. */
import { expect, it } from 'vitest';
import type { PlanInput } from '../../src/cluster/plan.ts';
import { problem as aProblem } from '../../src/cluster/plan-node.ts';
import { StatusReport } from '../../src/cluster/report.ts';
import type { Outbox } from '../../src/store/outbox.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { memoryOutbox } from '../support/memory-store.ts';
import { scene } from '../support/scenes.ts';

const INTERVAL_MS = 1_000;
const EXTRAS = {
  history: { usualMs: () => undefined, isSlow: () => false },
  waiting: new Map<string, string>(),
};
const growing = (ready: number): PlanInput =>
  scene({
    cp1: { shape: 'ready' },
    w1: { shape: ready > 1 ? 'ready' : 'deploying' },
    w2: { shape: 'deploying' },
  });

async function told(outbox: Outbox): Promise<{ phases: string; revision: number } | undefined> {
  const [snapshot] = await outbox.pendingSnapshots();
  if (!snapshot) return undefined;
  const { nodes } = snapshot.status as { nodes: { phase: string }[] };
  return { phases: nodes.map(({ phase }) => phase).join(' '), revision: snapshot.revision };
}

it('the progress of machines is kept back for the rest of the interval, and not lost', async () => {
  const clock = new ManualClock();
  const outbox = memoryOutbox(clock);
  const report = new StatusReport('cl-demo', outbox, clock, INTERVAL_MS);
  expect(await report.put(growing(1), EXTRAS)).toBe(Number.POSITIVE_INFINITY);
  expect((await told(outbox))?.phases).toBe('Ready Deploying Deploying');
  await clock.advance(300);
  expect(await report.put(growing(2), EXTRAS)).toBe(700);
  expect((await told(outbox))?.phases).toBe('Ready Deploying Deploying');
  expect(report.status?.nodes[1]?.phase).toBe('Deploying');
  await clock.advance(700);
  expect(await report.put(growing(2), EXTRAS)).toBe(Number.POSITIVE_INFINITY);
  expect((await told(outbox))?.phases).toBe('Ready Ready Deploying');
});

it('a new phase, generation or cause of failure is said at once', async () => {
  const clock = new ManualClock();
  const outbox = memoryOutbox(clock);
  const report = new StatusReport('cl-demo', outbox, clock, INTERVAL_MS);
  const first = growing(1);
  const problem = aProblem('MAAS_UNREACHABLE', 'gone');
  let revision = 0;
  for (const input of [
    first,
    { ...first, generation: first.generation + 1 },
    { ...first, record: { ...first.record, problem } },
  ]) {
    expect(await report.put(input, EXTRAS)).toBe(Number.POSITIVE_INFINITY);
    expect((await told(outbox))?.revision).toBeGreaterThan(revision);
    revision = (await told(outbox))?.revision ?? 0;
  }
  expect(report.status?.error).toEqual(problem);
});
