/**
 * Loads every command before the tests, so that Node keeps the compiled sources: each of the hundreds of processes
 * that the tests start then takes half of the time. Those that are killed keep nothing themselves. What was compiled
 * under one set of V8's flags is of no use under another: long-lived processes have their own.
 */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { NODE_FLAGS } from '../../src/cli/programs.ts';

const COMMANDS = new URL('../../src/cli/', import.meta.url);

export async function setup(): Promise<void> {
  const loads = readdirSync(COMMANDS)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `await import(${JSON.stringify(new URL(name, COMMANDS).href)});`);
  const load = (flags: readonly string[]) =>
    promisify(execFile)(process.execPath, [...flags, '--input-type=module', '--eval', loads.join('\n')]);
  await Promise.all([load([]), load(NODE_FLAGS)]);
}
