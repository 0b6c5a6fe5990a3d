/**
 * Random lives of a session against a reference model: streams are opened from both ends, written, ended, reset and
 * stalled while links are cut and resumed. The model knows what each reader must have seen, by SHA-256.
 */
import { createHash, type Hash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SessionPair } from '../support/session-pair.ts';

const RUNS = Number(process.env['PCG_MODEL_RUNS'] ?? 1000);

type End = 'gateway' | 'portal';
type Side = 'opener' | 'acceptor';

/** One direction of a stream, as the model sees it. */
interface Direction {
  readonly wrote: Hash;
  wroteBytes: number;
  ended: boolean;
  readonly read: Hash;
  readBytes: number;
  sawEnd: boolean;
}

const direction = (): Direction => ({
  wrote: createHash('sha256'),
  wroteBytes: 0,
  ended: false,
  read: createHash('sha256'),
  readBytes: 0,
  sawEnd: false,
});

interface ModelStream {
  readonly name: string;
  readonly ends: Partial<Record<Side, TunnelStream>>;
  /** Written by the named side. */
  readonly by: Record<Side, Direction>;
  /** Somebody reset it: from here on prefixes are right as well. */
  reset: boolean;
  stalled: Record<Side, boolean>;
  errors: number;
}

interface World {
  readonly clock: ManualClock;
  readonly pair: SessionPair;
  readonly streams: ModelStream[];
  readonly byName: Map<string, ModelStream>;
  readonly synced: { sent: string[]; seen: string[] };
  draining: boolean;
  cuts: number;
}

const other: Record<Side, Side> = { opener: 'acceptor', acceptor: 'opener' };
const sides: Side[] = ['opener', 'acceptor'];

function watch(model: ModelStream, side: Side, stream: TunnelStream): void {
  model.ends[side] = stream;
  const heard = model.by[other[side]];
  stream.on('data', (chunk: Buffer) => {
    heard.read.update(chunk);
    heard.readBytes += chunk.length;
  });
  stream.on('end', () => {
    heard.sawEnd = true;
  });
  stream.on('error', () => {
    model.errors += 1;
  });
  if (model.stalled[side]) stream.pause();
}

async function begin(): Promise<World> {
  const clock = new ManualClock();
  const byName = new Map<string, ModelStream>();
  const synced = { sent: [] as string[], seen: [] as string[] };
  const accept = async (open: { target: string }) => {
    const model = byName.get(open.target) as ModelStream;
    return (stream: TunnelStream): void => watch(model, 'acceptor', stream);
  };
  const sync = async (_kind: string, payload: Buffer): Promise<void> => {
    synced.seen.push(payload.toString());
  };
  const pair = await SessionPair.connected({
    clock,
    gatewayTarget: accept,
    portalTarget: accept,
    gatewaySync: sync,
    portalSync: sync,
  });
  return { clock, pair, streams: [], byName, synced, draining: false, cuts: 0 };
}

interface Action {
  /** Printed by a failing run. */
  readonly [fc.toStringMethod]: () => string;
  run(world: World): Promise<void>;
}

const live = (world: World, index: number): ModelStream | undefined =>
  world.streams.length === 0 ? undefined : world.streams[index % world.streams.length];

const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .record({ from: fc.constantFrom<End>('gateway', 'portal'), cls: fc.constantFrom(1, 2, 3) })
      .map(open),
  },
  {
    weight: 8,
    arbitrary: fc
      .record({
        index: fc.nat(50),
        side: fc.constantFrom(...sides),
        bytes: fc.oneof(fc.nat(40), fc.nat(200_000)),
        fill: fc.nat(255),
      })
      .map(data),
  },
  { weight: 2, arbitrary: fc.record({ index: fc.nat(50), side: fc.constantFrom(...sides) }).map(fin) },
  { weight: 1, arbitrary: fc.record({ index: fc.nat(50), side: fc.constantFrom(...sides) }).map(reset) },
  { weight: 2, arbitrary: fc.record({ index: fc.nat(50), side: fc.constantFrom(...sides) }).map(stall) },
  { weight: 2, arbitrary: fc.record({ a: fc.nat(100_000), b: fc.nat(100_000) }).map(cut) },
  {
    weight: 2,
    arbitrary: fc
      .record({ from: fc.constantFrom<End>('gateway', 'portal'), bytes: fc.integer({ min: 1, max: 60_000 }) })
      .map(sync),
  },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 4 }).map(turn) },
);

function open(choice: { from: End; cls: 1 | 2 | 3 }): Action {
  return {
    [fc.toStringMethod]: () => `open from ${choice.from} class ${choice.cls}`,
    async run(world) {
      const model: ModelStream = {
        name: `t${world.streams.length}`,
        ends: {},
        by: { opener: direction(), acceptor: direction() },
        reset: false,
        stalled: { opener: false, acceptor: false },
        errors: 0,
      };
      world.streams.push(model);
      world.byName.set(model.name, model);
      world.pair[choice.from]
        .open({ target: model.name, class: choice.cls, deadlineMs: 1_000_000 })
        .then((stream) => watch(model, 'opener', stream))
        .catch(() => {
          model.errors += 1;
        });
    },
  };
}

function data(choice: { index: number; side: Side; bytes: number; fill: number }): Action {
  return {
    [fc.toStringMethod]: () => `${choice.side} writes ${choice.bytes}`,
    async run(world) {
      const model = live(world, choice.index);
      const stream = model?.ends[choice.side];
      if (model === undefined || stream === undefined || model.reset || model.by[choice.side].ended) return;
      const chunk = Buffer.alloc(choice.bytes, choice.fill);
      const written = model.by[choice.side];
      written.wrote.update(chunk);
      written.wroteBytes += chunk.length;
      stream.write(chunk);
    },
  };
}

function fin(choice: { index: number; side: Side }): Action {
  return {
    [fc.toStringMethod]: () => `${choice.side} ends`,
    async run(world) {
      const model = live(world, choice.index);
      const stream = model?.ends[choice.side];
      if (model === undefined || stream === undefined || model.reset || model.by[choice.side].ended) return;
      model.by[choice.side].ended = true;
      stream.end();
    },
  };
}

function reset(choice: { index: number; side: Side }): Action {
  return {
    [fc.toStringMethod]: () => `${choice.side} resets`,
    async run(world) {
      const model = live(world, choice.index);
      const stream = model?.ends[choice.side];
      if (model === undefined || stream === undefined) return;
      model.reset = true;
      stream.destroy(new StreamError(STREAM.CANCELLED));
    },
  };
}

function stall(choice: { index: number; side: Side }): Action {
  return {
    [fc.toStringMethod]: () => `${choice.side} stalls or goes on`,
    async run(world) {
      const model = live(world, choice.index);
      if (model === undefined) return;
      model.stalled[choice.side] = !model.stalled[choice.side];
      const stream = model.ends[choice.side];
      if (model.stalled[choice.side]) stream?.pause();
      else stream?.resume();
    },
  };
}

function cut(choice: { a: number; b: number }): Action {
  return {
    [fc.toStringMethod]: () => `cut; the next link breaks after ${choice.a} or ${choice.b} bytes`,
    async run(world) {
      world.cuts += 1;
      world.pair.link.cut();
      await reconnect(world, { a: 700 + choice.a, b: 700 + choice.b });
    },
  };
}

function sync(choice: { from: End; bytes: number }): Action {
  return {
    [fc.toStringMethod]: () => `${choice.from} syncs ${choice.bytes}`,
    async run(world) {
      const text = `${world.synced.sent.length}:`.padEnd(choice.bytes, 's');
      world.synced.sent.push(text);
      void world.pair[choice.from].sendSync('sync', Buffer.from(text));
    },
  };
}

function turn(rounds: number): Action {
  return {
    [fc.toStringMethod]: () => `${rounds} turns`,
    async run(world) {
      await world.clock.settle(rounds);
      if (!world.pair.link.a.open) await reconnect(world);
    },
  };
}

async function reconnect(world: World, cutAfter?: { a: number; b: number }): Promise<void> {
  const met = await world.pair.connect(cutAfter === undefined ? undefined : { cutAfter });
  expect(met.gateway.kind).toBe('resumed');
}

/** Lets everything arrive: no stalls, no cuts, enough time for acknowledgements. */
async function finish(world: World): Promise<void> {
  for (const model of world.streams)
    for (const side of sides) {
      model.stalled[side] = false;
      model.ends[side]?.resume();
    }
  const quiet = (): boolean =>
    world.streams.every(
      (model) =>
        model.reset ||
        (model.ends.opener !== undefined &&
          model.ends.acceptor !== undefined &&
          sides.every(
            (side) =>
              model.by[side].readBytes === model.by[side].wroteBytes &&
              model.by[side].ended === model.by[side].sawEnd,
          )),
    ) && world.synced.seen.length === world.synced.sent.length;
  for (let round = 0; round < 400; round += 1) {
    if (!world.pair.link.a.open) await reconnect(world);
    await world.clock.advance(10);
    if (quiet() && round > 2) return;
  }
}

function check(world: World): void {
  for (const model of world.streams) {
    for (const side of sides) {
      const { wrote, read, readBytes, wroteBytes, sawEnd, ended } = model.by[side];
      expect(readBytes, `${model.name}: nothing is invented`).toBeLessThanOrEqual(wroteBytes);
      if (model.reset) continue;
      expect(readBytes, `${model.name} ${side}: bytes`).toBe(wroteBytes);
      expect(sawEnd, `${model.name} ${side}: end`).toBe(ended);
      expect(read.copy().digest('hex')).toBe(wrote.copy().digest('hex'));
    }
    if (!model.reset) expect(model.errors, `${model.name}: errors`).toBe(0);
  }
  expect(world.synced.seen.toSorted()).toEqual(world.synced.sent.toSorted());
  const halfOpen = world.streams.filter(
    (model) => !model.reset && !(model.by.opener.ended && model.by.acceptor.ended),
  ).length;
  expect(world.pair.gateway.streams, 'streams left at the gateway').toBe(halfOpen);
  expect(world.pair.portal.streams, 'streams left at the portal').toBe(halfOpen);
}

describe('model', () => {
  it(`agrees with the reference model in ${RUNS} random lives`, async () => {
    let cuts = 0;
    let streams = 0;
    let bytes = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(actions, { minLength: 20, maxLength: 100, size: 'max' }), async (steps) => {
        const world = await begin();
        await using pair = world.pair;
        for (const step of steps) {
          if (!pair.link.a.open) await reconnect(world);
          await step.run(world);
        }
        await finish(world);
        check(world);
        cuts += world.cuts;
        streams += world.streams.length;
        for (const model of world.streams) bytes += model.by.opener.readBytes + model.by.acceptor.readBytes;
        Object.assign(pair.link.options, { cutAfter: undefined });
        // drain is the last act: what is open may finish, nothing new begins
        const draining = pair.portal.drain({
          reason: 'restart',
          deadlineMs: 1000,
          reconnectAfterMs: 0,
          spreadMs: 0,
        });
        await world.clock.settle();
        const refused = await pair.gateway.open({ target: 'late' }).catch((error: unknown) => error);
        // a session without streams is over at once
        expect([STREAM.DRAINING, STREAM.SESSION_LOST]).toContain((refused as StreamError).streamCode);
        await world.clock.advance(1100);
        await draining;
        await world.clock.settle();
        expect(pair.gateway.state.kind).toBe('closed');
        expect(world.clock.pending).toBe(0);
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
    expect(cuts).toBeGreaterThan(RUNS / 4);
    expect(streams).toBeGreaterThan(RUNS);
    expect(bytes).toBeGreaterThan(RUNS * 100_000);
  }, 600_000);
});
