import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** Of the processes that tests start, also of those that start others. */
const NODE_COMPILE_CACHE = fileURLToPath(new URL('node_modules/.cache/pcg-tests', import.meta.url));
process.env['NODE_COMPILE_CACHE'] = NODE_COMPILE_CACHE;

const shared = { pool: 'forks', hookTimeout: 120_000, env: { NODE_COMPILE_CACHE } } as const;

/** Judge the memory of a process or the kernel's own network. */
const ALONE = ['test/tunnel/endurance.test.ts', 'test/tunnel/netns.test.ts'];

/** Three groups, one after the other: what shares the machine, what wants it alone, and what starts whole sites. */
export default defineConfig({
  test: {
    globalSetup: 'test/support/compile-cache.ts',
    projects: [
      {
        test: {
          ...shared,
          name: 'modules',
          include: ['test/**/*.test.ts'],
          exclude: ['test/live/**', 'test/system/**', 'node_modules/**', ...ALONE],
          testTimeout: 60_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: 'alone',
          include: ALONE,
          testTimeout: 60_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...shared,
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          testTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
