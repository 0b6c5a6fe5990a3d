import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Of the processes that tests start, also of those that start others. */
const NODE_COMPILE_CACHE = fileURLToPath(new URL('node_modules/.cache/pcg-tests', import.meta.url));
process.env['NODE_COMPILE_CACHE'] = NODE_COMPILE_CACHE;

/**
 * Time-outs only end a hang; only the longest runs have their own, and what a test waits for gives up before. A machine
 * that is several times slower than the one on which a test was written must not reach them.
 */
const shared = {
  pool: 'forks',
  testTimeout: 900_000,
  hookTimeout: 900_000,
  expect: { poll: { timeout: 240_000 } },
  env: { NODE_COMPILE_CACHE },
} as const;

/** Runs ten clusters at once. */
const ALONE = ['test/system/day-two.test.ts'];

/** Half a minute and more. Without results of an earlier run vitest goes by size, and some of these would be last. */
const LONGEST = [
  'test/conformance/live.test.ts',
  'test/cluster/fault-runs.test.ts',
  'test/cluster/disturbed.test.ts',
  'test/cluster/rollout-through-trouble.test.ts',
  'test/portal/page-day-two.test.ts',
  'test/portal/page.test.ts',
  'test/tunnel/endurance.test.ts',
  'test/tunnel/netns.test.ts',
  'test/kube/etcd.test.ts',
  'test/cluster/engine.test.ts',
  'test/cluster/upgrade-run.test.ts',
  'test/cluster/transitions.test.ts',
  'test/cluster/named-faults.test.ts',
  'test/cluster/remediation.test.ts',
  'test/cli/clusters.test.ts',
  'test/system/policies.test.ts',
  'test/system/demo-end.test.ts',
  'test/system/kubectl.test.ts',
  'test/system/restored-store.test.ts',
  'test/system/kill-agent.test.ts',
].map((path) => fileURLToPath(new URL(path, import.meta.url)));

// A list that names what was renamed would change the order or the group of a file without a word.
const absent = [...ALONE, ...LONGEST].filter((path) => !existsSync(path));
if (absent.length > 0)
  throw new Error(`vitest.config.ts names files that are not there: ${absent.join(', ')}`);

/** No worker is left with a long file when the others have ended. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const group = ({ project }: TestSpecification) => project.config.sequence.groupOrder;
    const later = ({ moduleId }: TestSpecification) => (LONGEST.includes(moduleId) ? 0 : 1);
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => group(a) - group(b) || later(a) - later(b));
  }
}

/**
 * Three groups, one after the other: what shares the machine, what wants it alone, and what starts whole sites. Many
 * files wait for most of their time, for processes, deadlines and the network: more workers than cores.
 */
export default defineConfig({
  test: {
    globalSetup: 'test/support/compile-cache.ts',
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          ...shared,
          name: 'modules',
          include: ['test/**/*.test.ts'],
          exclude: ['test/live/**', 'test/system/**', 'node_modules/**', ...ALONE],
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: 'alone',
          include: ALONE,
          testTimeout: 900_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...shared,
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          exclude: ['node_modules/**', ...ALONE],
          testTimeout: 900_000,
          maxWorkers: 3,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
