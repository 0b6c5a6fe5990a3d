/**
 * Child processes of the demo: the same `pcg` with another command. A program says on its first stdout line
 * (JSON) that it is up and where; its log goes to a file. Stopping is SIGTERM first, SIGKILL after a grace;
 * a child that loses its parent stops by itself (lifeline.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { LIFELINE_VARIABLE } from './lifeline.ts';

/** Ends a hang only: a machine that is busy with something else may take twenty times as long as an idle one. */
const START_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 8_000;

export interface Program extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** What the program said when it was up. */
  readonly ready: Record<string, unknown>;
  /** Resolves when the process is gone. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  kill(signal: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP' | 'SIGCONT' | 'SIGHUP'): void;
}

export interface ProgramOptions {
  readonly name: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly logFile: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** This package's entry: source when run from source, compiled when run from dist. */
const ENTRY = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url),
);

/**
 * For every long-lived process. Socket buffers live outside V8's heap and are freed only when their small owners are
 * collected: with a young generation of 1 MB that is soon and cheap, with the default of up to 16 MB they pile up
 * until V8 collects everything. V8 counts them as growth of the old generation all the same, of which it allows
 * 8 MB to a small heap: less than a fast tunnel has in flight, so that it collected everything twenty times a second.
 * The first 64 MB are no reason to. Measured by the tunnel bench: a multiple of the throughput.
 */
export const NODE_FLAGS: readonly string[] = ['--max-semi-space-size=1', '--initial-old-space-size=64'];

export async function startProgram(options: ProgramOptions): Promise<Program> {
  mkdirSync(dirname(options.logFile), { recursive: true, mode: 0o700 });
  const log = openSync(options.logFile, 'a', 0o600);
  const child = spawn(process.execPath, [...NODE_FLAGS, ENTRY, ...options.args], {
    env: { ...options.environment, [LIFELINE_VARIABLE]: 'stdin' },
    stdio: ['pipe', 'pipe', log],
    // An own process group: Ctrl-C reaches the demo only, which stops its children in order.
    detached: true,
  });
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: 1, signal: null }));
  });
  closeSync(log);
  const { stdout } = child;
  if (!stdout) throw new Error('the child has no stdout');
  const firstLine = new Promise<string>((resolve) => {
    const lines = createInterface({ input: stdout });
    lines.once('line', (line) => {
      resolve(line);
      lines.on('line', (more) => appendFileSync(options.logFile, `${more}\n`));
    });
  });
  try {
    const ready = await withDeadline(
      options.clock,
      START_TIMEOUT_MS,
      `start of ${options.name}`,
      options.signal,
      (signal) =>
        Promise.race([
          firstLine.then((line) => parseReady(options.name, line)),
          exited.then(({ code }) => {
            throw new PcgError('TEMPORARY', `${options.name} ended at start with code ${String(code)}`, {
              fix: `Read ${options.logFile}.`,
              retryable: false,
            });
          }),
          rejectOnAbort(signal),
        ]),
    );
    return {
      name: options.name,
      pid: child.pid ?? 0,
      ready,
      exited,
      kill: (signal) => void child.kill(signal),
      [Symbol.asyncDispose]: () => stop(child, exited, options.clock),
    };
  } catch (error) {
    await stop(child, exited, options.clock);
    throw error;
  }
}

function parseReady(name: string, line: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  } catch {
    // falls through to the typed error
  }
  throw new PcgError('INTERNAL', `${name} said "${line.slice(0, 200)}" instead of its address`);
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

async function stop(child: ChildProcess, exited: Promise<unknown>, clock: Clock): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  using _force = clock.timer(STOP_GRACE_MS, () => child.kill('SIGKILL'));
  await exited;
}
