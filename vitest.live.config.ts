/** Suites that need a real MAAS or Kubernetes: run on request, one file after the other, never in CI. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/live/**/*.test.ts'],
    testTimeout: 600_000,
    fileParallelism: false,
    pool: 'forks',
  },
});
