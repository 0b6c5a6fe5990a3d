/** Worker processes of the tunnel bench: spawned (in a network namespace if need be), asked over IPC, ended by pid. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { NODE_FLAGS } from '../../../src/cli/programs.ts';

export type Command = { readonly op: string } & Record<string, unknown>;
type Handler = (command: never) => unknown;

/**
 * The kernel shares the processor among sessions first (sched_autogroup), and sshd makes one for each connection. With
 * all others in the bench's own session that one process had as much of the machine as three of the others together.
 */
export const OWN_SESSION = { detached: true } as const;

/** Only ends a hang: a busy machine starts no process in a second. */
const ANSWER_MS = 120_000;

export class Worker implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 0;
  #said = '';
  readonly ended: Promise<void>;

  /** `file` beside this one; `namespace` must exist. */
  constructor(file: string, namespace?: string) {
    const script = new URL(file, import.meta.url).pathname;
    const command = [process.execPath, '--no-warnings', ...NODE_FLAGS, script];
    const full = namespace === undefined ? command : ['ip', 'netns', 'exec', namespace, ...command];
    this.#child = spawn(full[0] as string, full.slice(1), {
      ...OWN_SESSION,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-2000);
    });
    this.ended = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.on('message', ({ id, value, error }: { id: number; value?: unknown; error?: string }) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    });
    this.#child.on('error', (error) => this.#fail(error.message));
    void this.ended.then(() => this.#fail(this.#said));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Rejects when the worker dies or does not answer. */
  async ask<T = void>(command: Command, timeoutMs = ANSWER_MS): Promise<T> {
    const id = (this.#next += 1);
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    const timer = setTimeout(() => waiting.reject(new Error(`${command.op}: no answer`)), timeoutMs);
    this.#child.send({ ...command, id }, (error) => error && waiting.reject(error));
    try {
      return (await waiting.promise) as T;
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  #fail(why: string): void {
    for (const waiting of this.#waiting.values()) waiting.reject(new Error(`worker ended: ${why}`));
    this.#waiting.clear();
  }
}

/** In the worker: answers commands until the parent is gone. */
export function serve(handlers: Record<string, Handler>): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', async (command: Command & { id: number }) => {
    try {
      const value = await handlers[command.op]?.(command as never);
      process.send?.({ id: command.id, value });
    } catch (error) {
      process.send?.({ id: command.id, error: String(error) });
    }
  });
}

/** Resident memory of a process, MB. */
export function rssMb(pid: number): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kb ?? Number.NaN) / 1024;
}

/** CPU seconds of a process so far. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));
