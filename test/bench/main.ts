/**
 * `npm run bench -- tunnel|maas|cluster [--json] [--case <name>] [--runs <n>]`. Every result is one JSON object a
 * line on stdout; ratios and verdicts are computed from them and printed after, for people, on stderr.
 */
import { parseArgs } from 'node:util';
import { Results } from './results.ts';

const BENCHES: Record<
  string,
  () => Promise<{ run: (results: Results, options: BenchOptions) => Promise<void> }>
> = {
  tunnel: () => import('./tunnel.ts'),
  maas: () => import('./maas.ts'),
  cluster: () => import('./cluster.ts'),
};

export interface BenchOptions {
  /** Only cases whose name starts with one of these; empty = all. */
  readonly cases: readonly string[];
  /** Repetitions of each case; results are medians. */
  readonly runs: number;
}

const DEFAULT_RUNS = 5;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    case: { type: 'string', multiple: true, default: [] },
    runs: { type: 'string', default: String(DEFAULT_RUNS) },
  },
});

const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
for (const name of names) {
  const load = BENCHES[name];
  if (!load) {
    process.stderr.write(`unknown bench "${name}"; known: ${Object.keys(BENCHES).join(', ')}\n`);
    process.exitCode = 2;
    continue;
  }
  const results = new Results(name, values.json);
  const bench = await load();
  await bench.run(results, { cases: values.case, runs: Number(values.runs) });
  results.summarise();
}
