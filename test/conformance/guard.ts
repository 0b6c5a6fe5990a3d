/**
 * A process of its own that outlives the run, whatever ends it (Ctrl-C, a time-out, kill -9): when its standard
 * input closes before `done` was said, it gives back what the run allocated. `startGuard` is the run's side.
 */
import { spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import { maasCaller } from '../support/maas-caller.ts';
import { giveBack } from './give-back.ts';

interface Orders {
  readonly maasUrl: string;
  readonly apiKey: string;
  readonly username: string;
  readonly agentName: string;
  readonly skewMs: number;
  /** How long MAAS may take to have everything back, milliseconds. */
  readonly withinMs: number;
  /** How long at least an allocation is looked for that may still be under way, milliseconds. */
  readonly lookMs: number;
}

const POLL_MS = 5_000;

/** Resolves when the guard watches; call the result when nothing is left to give back. */
export async function startGuard(orders: Orders): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, ['--no-warnings', fileURLToPath(import.meta.url)], {
    detached: true, // Ctrl-C goes to the whole process group
    stdio: ['pipe', 'pipe', 'pipe'], // what it inherited it would keep open, and whoever runs the tests waits for that
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  child.stderr.pipe(process.stderr, { end: false });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const ready = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the guard ended at once, exit code ${code}`)));
    child.stdout.once('data', () => resolve());
  });
  child.stdin.write(`${JSON.stringify(orders)}\n`);
  await ready;
  // The run may end without it: then the closed pipe sets it to work.
  child.unref();
  child.stdout.destroy();
  if (child.stderr instanceof Socket) child.stderr.unref();
  return async () => {
    child.stdin.end('done\n');
    await ended;
  };
}

async function watch(): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const { maasUrl, apiKey, username, agentName, skewMs, withinMs, lookMs } = JSON.parse(
    (await lines.next()).value ?? '{}',
  ) as Orders;
  process.stdout.write('watching\n');
  if ((await lines.next()).value === 'done') return;
  process.stderr.write(`the run ended early: whatever it allocated as ${agentName} is given back\n`);
  const call = maasCaller(maasUrl, apiKey, () => Date.now() + skewMs);
  const options = { clock: systemClock, pollMs: Math.min(POLL_MS, lookMs / 10), withinMs, lookMs };
  const ids = await giveBack({ call, username }, agentName, options);
  process.stderr.write(`given back: ${ids.join(', ') || 'nothing was held'}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  // The run is gone, its pipes too: what cannot be said must not end the work.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  await watch();
}
