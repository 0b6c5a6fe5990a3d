import { defineConfig } from 'vitest/config';

/**
 * A few tests judge latency or memory of a machine that other tests load at the same time, and one of the engine
 * has an unexplained stall under load. A failure counts when it repeats; a retried test is named by the runner.
 */
const RETRIES = 2;
const shared = { pool: 'forks', hookTimeout: 120_000, retry: RETRIES } as const;

/** Two groups, one after the other: what runs in one process, then what starts whole sites and wants the machine. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...shared,
          name: 'modules',
          include: ['test/**/*.test.ts'],
          exclude: ['test/live/**', 'test/system/**', 'node_modules/**'],
          testTimeout: 60_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          testTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
