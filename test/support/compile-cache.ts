/**
 * Loads every command once before the tests, so that Node keeps the compiled sources: each of the hundreds of processes
 * that the tests start then takes half of the time. Those that are killed keep nothing themselves.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const COMMANDS = new URL('../../src/cli/', import.meta.url);

export function setup(): void {
  const loads = readdirSync(COMMANDS)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `await import(${JSON.stringify(new URL(name, COMMANDS).href)});`);
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', loads.join('\n')],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`the commands cannot be loaded: ${stderr}`);
}
