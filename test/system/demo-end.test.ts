/** However the demo ends, at whatever moment: no process of it stays behind. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { MARK, noneLeft } from '../support/processes.ts';
import { ENTRY } from '../support/program.ts';

/** Small and fast: the moments come sooner, and are the same. */
const SMALL = ['--control-plane', '1', '--workers', '2', '--speed', '100'];

/** A demo that runs until it has come to `moment`: milliseconds, or the first line that names these words. */
async function demoUntil(moment: number | RegExp, directory: string) {
  const child = spawn(process.execPath, [ENTRY, 'demo', '--json', ...SMALL, '--state-dir', directory], {
    env: { ...process.env, [MARK]: directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  let errors = '';
  const closed = new Promise<number | null>((resolve) => void child.once('close', resolve));
  const reached = new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      text += String(chunk);
      if (moment instanceof RegExp && moment.test(text)) resolve();
    });
    child.stderr.on('data', (chunk) => {
      errors += String(chunk);
    });
    void closed.then((code) => reject(new Error(`the demo ended early with ${String(code)}\n${text}`)));
    if (typeof moment === 'number') void systemClock.sleep(moment).then(resolve);
  });
  reached.catch(() => {});
  await reached;
  const pidOf = (name: string) =>
    Number(new RegExp(`"name":"${name}","pid":(\\d+)`).exec(text)?.[1] ?? 'none');
  return { child, closed, pidOf, stderr: () => errors };
}

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'pcg-demo-end-'));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const MOMENTS: [string, number | RegExp][] = [
  ['at once', 250],
  ['while the simulator starts', 600],
  ['while the portal starts', /"name":"simulator"/],
  ['while the agent is paired', /"event":"portal"/],
  ['while the agent starts', /"event":"paired"/],
  ['while machines are allocated', /MachineAllocated/],
  ['when the cluster runs', /"event":"running"/],
];

describe('the end of the demo', () => {
  it.each(MOMENTS)('Ctrl-C %s leaves no process', (_title, moment) =>
    inDirectory(async (directory) => {
      const { child, closed } = await demoUntil(moment, directory);
      child.kill('SIGINT');
      const code = await closed;
      expect(await noneLeft(directory)).toEqual([]);
      // It ran until Ctrl-C as it said, or it was interrupted (at once: before anything listens).
      expect([0, 130, null]).toContain(code);
    }),
  );

  it.each([MOMENTS[2], MOMENTS[4], MOMENTS[6]] as typeof MOMENTS)(
    'kill -9 %s leaves no process',
    (_title, moment) =>
      inDirectory(async (directory) => {
        const { child } = await demoUntil(moment, directory);
        child.kill('SIGKILL');
        expect(await noneLeft(directory)).toEqual([]);
      }),
  );

  it.each([
    ['portal', /MachineAllocated/],
    ['simulator', /"event":"running"/],
  ] as const)('kill -9 of its %s ends it with that reason, and leaves no process', (name, moment) =>
    inDirectory(async (directory) => {
      const { closed, pidOf, stderr } = await demoUntil(moment, directory);
      process.kill(pidOf(name), 'SIGKILL');
      expect(await closed).toBe(75);
      expect(stderr()).toContain(`Error TEMPORARY: the ${name} of the demo has ended (SIGKILL)`);
      expect(await noneLeft(directory)).toEqual([]);
    }),
  );
});
