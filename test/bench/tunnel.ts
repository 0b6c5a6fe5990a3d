/**
 * The tunnel against what else could carry the same load: a plain relay of two hops, HTTP/2 over a WebSocket, yamux
 * over a WebSocket, and OpenSSH -R. Load and target are the same processes for all; each end is a process of its own.
 * "up" is from the gateway to the portal. Links of 50 Mbit/s are namespaces with tbf; what the kernel cannot do
 * is done by a piping process in front of every subject, and said.
 */
import type { BenchOptions } from './main.ts';
import { median, type Results } from './results.ts';
import { gateways } from './tunnel/gateways.ts';
import { PAYLOAD_SHARE, TwoNamespaces } from './tunnel/namespaces.ts';
import { pause } from './tunnel/rpc.ts';
import { type Path, Site, SUBJECTS, type Subject } from './tunnel/site.ts';

const LINK_MBIT = 50;
const LINK_BYTES_PER_S = (LINK_MBIT * 1e6) / 8;
const BULK_MS = 1500;
/**
 * Short and often: a machine that is shared is slow for seconds at a time, and medians of few long runs would show
 * whom that met.
 */
const REQUESTS_MS = 300;
const REQUESTS_TURNS = 10;
const WARM_MS = 400;
const SMALL_REQUESTS = 60;
const SMALL_EVERY_MS = 50;
const PROXY_BUFFER_BYTES = 10 * 1024 * 1024;
const DELAY_BUFFER_BYTES = 1024 * 1024;
const CUT_MS = 5000;
/** What one session may hold for its readers at the portal. */
const SESSION_BUDGET_MB = 8;

type Values = Record<string, number>;
interface Case {
  readonly names: readonly string[];
  readonly units: readonly string[];
  /** One run. */
  readonly once: (site: Site) => Promise<Values>;
  readonly path?: 'loopback' | 'link' | 'link-proxy' | 'delay' | 'proxy' | undefined;
  /** Measured for ours over wss as well. */
  readonly tls?: boolean;
  /** So many in each run; 1 unless told. */
  readonly turns?: number;
  /** Set up anew for every run. */
  readonly fresh?: boolean;
}

/** Bytes per second that arrive while connections of `kind` run. */
async function flow(site: Site, kind: 'S' | 'D', n: number, warmMs: number, ms: number): Promise<number> {
  const counter = kind === 'S' ? site.client : site.target;
  await site.client.ask({ op: 'bulk', port: site.frontPort, kind, n });
  await pause(warmMs);
  const before = await counter.ask<number>({ op: 'count' });
  const started = performance.now();
  await pause(ms);
  const bytes = (await counter.ask<number>({ op: 'count' })) - before;
  return bytes / ((performance.now() - started) / 1000);
}

async function quiet(site: Site): Promise<void> {
  await Promise.all([site.client.ask({ op: 'reset' }), site.target.ask({ op: 'reset' })]);
  await pause(100);
}

const throughput = (n: number, way: 'up' | 'down'): Case => {
  const name = `throughput-${n}-${way}`;
  return {
    names: [name],
    units: ['MB/s'],
    tls: true,
    once: async (site) => ({
      [name]: (await flow(site, way === 'up' ? 'S' : 'D', n, WARM_MS, BULK_MS)) / 1e6,
    }),
  };
};

const underBulk = (name: string, path: Case['path'], warmMs: number): Case => ({
  names: [`${name}-p50`, `${name}-p99`, ...(path === 'loopback' ? [] : [`${name}-link`])],
  units: ['ms', 'ms', 'share'],
  path,
  once: async (site) => {
    await site.client.ask({ op: 'bulk', port: site.frontPort, kind: 'S', n: 1 });
    await pause(warmMs);
    const before = await site.client.ask<number>({ op: 'count' });
    const started = performance.now();
    const { p50, p99 } = await site.client.ask<{ p50: number; p99: number }>(
      { op: 'small', port: site.frontPort, n: SMALL_REQUESTS, everyMs: SMALL_EVERY_MS },
      300_000,
    );
    const bytes = (await site.client.ask<number>({ op: 'count' })) - before;
    const rate = bytes / ((performance.now() - started) / 1000);
    return {
      [`${name}-p50`]: p50,
      [`${name}-p99`]: p99,
      [`${name}-link`]: rate / (LINK_BYTES_PER_S * PAYLOAD_SHARE),
    };
  },
});

const CASES: readonly Case[] = [
  throughput(1, 'up'),
  throughput(1, 'down'),
  throughput(16, 'up'),
  throughput(16, 'down'),
  {
    names: ['requests-32', 'requests-32-p99'],
    units: ['1/s', 'ms'],
    tls: true,
    turns: REQUESTS_TURNS,
    once: async (site) => {
      const requests = (ms: number) =>
        site.client.ask<{ perSecond: number; p99: number }>({
          op: 'requests',
          port: site.frontPort,
          n: 32,
          ms,
        });
      await requests(REQUESTS_MS / 3);
      const { perSecond, p99 } = await requests(REQUESTS_MS);
      return { 'requests-32': perSecond, 'requests-32-p99': p99 };
    },
  },
  underBulk('small-under-bulk-loopback', 'loopback', WARM_MS),
  underBulk('small-under-bulk-50mbit', 'link', 1500),
  underBulk('small-under-bulk-50mbit-proxy', 'link-proxy', 2500),
  {
    names: ['bulk-at-100ms-rtt'],
    units: ['share'],
    path: 'delay',
    once: async (site) => ({
      'bulk-at-100ms-rtt': (await flow(site, 'S', 1, 2500, 2500)) / LINK_BYTES_PER_S,
    }),
  },
  {
    names: ['reconnect'],
    units: ['ms'],
    // a portal that crashes again and again is dialled slower and slower: one restart for each site
    fresh: true,
    once: async (site) => {
      await site.restartPortal();
      const started = performance.now();
      await site.ready();
      return { reconnect: performance.now() - started };
    },
  },
  {
    names: ['idle-1000'],
    units: ['MB'],
    fresh: true,
    once: async (site) => {
      const before = site.rss();
      await site.client.ask({ op: 'idle', port: site.frontPort, n: 1000 });
      await pause(1000);
      return { 'idle-1000': site.rss() - before };
    },
  },
  {
    names: ['stalled-100', 'stalled-100-portal'],
    units: ['MB', 'MB'],
    fresh: true,
    once: async (site) => {
      // a process that has never carried anything grows by what its allocator wants, whoever stalls
      await flow(site, 'S', 16, WARM_MS, BULK_MS);
      await quiet(site);
      await pause(1000);
      await site.collect();
      const [before, portal] = [site.rss(), site.rss('portal')];
      await site.client.ask({ op: 'stall', port: site.frontPort, n: 100 });
      await pause(3000);
      await site.collect();
      return { 'stalled-100': site.rss() - before, 'stalled-100-portal': site.rss('portal') - portal };
    },
  },
  {
    names: ['survive-5s'],
    units: ['share'],
    path: 'proxy',
    once: async (site) => {
      await site.client.ask({ op: 'idle', port: site.frontPort, n: 20 });
      await site.pipe?.ask({ op: 'cut' });
      await pause(CUT_MS);
      await site.pipe?.ask({ op: 'mend' });
      const share = await site.client.ask<number>({ op: 'alive' });
      await quiet(site);
      await site.ready();
      return { 'survive-5s': share };
    },
  },
];

export async function run(results: Results, options: BenchOptions): Promise<void> {
  const chosen = (names: readonly string[]): boolean =>
    options.cases.length === 0 ||
    names.some((name) => options.cases.some((wanted) => name.startsWith(wanted)));
  // what was made outside this process goes with it, however it ends
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
  using stack = new DisposableStack();
  let spaces: TwoNamespaces | undefined;
  let whyNoSpaces = '';
  try {
    spaces = stack.use(TwoNamespaces.create(LINK_MBIT));
  } catch (error) {
    whyNoSpaces = String(error).slice(0, 200);
  }
  if (spaces === undefined)
    process.stderr.write(`no network namespaces (${whyNoSpaces}): links are piping processes\n`);
  process.stderr.write(
    'the 100 ms round trip is a piping process (50 Mbit/s, 50 ms each way) for every subject\n',
  );

  const pathOf = (kind: NonNullable<Case['path']>): Path => {
    const link = { bytesPerSecond: LINK_BYTES_PER_S * PAYLOAD_SHARE, bufferBytes: DELAY_BUFFER_BYTES };
    switch (kind) {
      case 'loopback':
        return {};
      case 'link':
        return spaces ? { spaces } : { pipe: link };
      case 'link-proxy':
        return spaces
          ? { spaces, pipe: { bufferBytes: PROXY_BUFFER_BYTES } }
          : { pipe: { ...link, bufferBytes: PROXY_BUFFER_BYTES } };
      case 'proxy':
        return { pipe: { bufferBytes: DELAY_BUFFER_BYTES } };
      case 'delay':
        return { pipe: { bytesPerSecond: LINK_BYTES_PER_S, delayMs: 50, bufferBytes: DELAY_BUFFER_BYTES } };
    }
  };

  for (const one of CASES)
    if (chosen(one.names)) await runCase(one, pathOf(one.path ?? 'loopback'), options.runs, results);
  if (chosen(['gateways-5000'])) await gateways(results, options.runs);
  bars(results);
}

/**
 * All runs of one case. Subjects take turns, and every other round in the opposite order: what else the machine does
 * meanwhile, and how warm it is, meets all of them alike.
 */
async function runCase(one: Case, path: Path, runs: number, results: Results): Promise<void> {
  const values = new Map<string, number[]>();
  const failed = new Map<Subject, string>();
  const subjects: readonly Subject[] = [...SUBJECTS, ...(one.tls ? (['pcg-tls'] as const) : [])];
  await using stack = new AsyncDisposableStack();
  const sites = new Map<Subject, Site>();
  const measure = async (subject: Subject, site: Site): Promise<void> => {
    const got = await one.once(site);
    for (const name of one.names) {
      const key = `${name}/${subject}`;
      values.set(key, [...(values.get(key) ?? []), got[name] as number]);
    }
    await quiet(site);
  };
  for (let round = 0; round < runs * (one.turns ?? 1); round += 1) {
    for (const subject of round % 2 === 0 ? subjects : subjects.toReversed()) {
      if (failed.has(subject)) continue;
      try {
        if (one.fresh) {
          await using site = await Site.create(subject, path);
          await measure(subject, site);
          continue;
        }
        const site = sites.get(subject) ?? stack.use(await Site.create(subject, path));
        sites.set(subject, site);
        await measure(subject, site);
      } catch (error) {
        failed.set(subject, String(error).slice(0, 300));
      }
    }
  }
  for (const subject of subjects) {
    const why = failed.get(subject);
    if (why !== undefined) results.skip(one.names.join(', '), subject, why);
    one.names.forEach((name, at) => {
      const got = values.get(`${name}/${subject}`);
      if (got && median(got) === median(got))
        results.add({ case: name, subject, unit: one.units[at] as string, values: got });
    });
  }
}

function bars(results: Results): void {
  for (const way of ['up', 'down'])
    for (const n of [1, 16]) {
      const name = `throughput-${n}-${way}`;
      results.expect({ case: name, kind: 'ratio', baseline: 'relay', atLeast: 0.7 });
      for (const baseline of ['http2', 'yamux', 'openssh'])
        results.expect({ case: name, kind: 'ratio', baseline, atLeast: 1 });
    }
  for (const baseline of ['relay', 'http2', 'yamux', 'openssh'])
    results.expect({ case: 'requests-32', kind: 'ratio', baseline, atLeast: 1 });
  for (const path of ['50mbit', '50mbit-proxy']) {
    results.expect({ case: `small-under-bulk-${path}-p50`, kind: 'at-most', value: 25 });
    results.expect({ case: `small-under-bulk-${path}-p99`, kind: 'at-most', value: 60 });
    results.expect({ case: `small-under-bulk-${path}-link`, kind: 'at-least', value: 0.95 });
  }
  results.expect({ case: 'bulk-at-100ms-rtt', kind: 'ratio', baseline: 'relay', atLeast: 0.95 });
  results.expect({ case: 'reconnect', kind: 'at-most', value: 1500 });
  results.expect({ case: 'stalled-100-portal', kind: 'at-most', value: SESSION_BUDGET_MB });
  results.expect({ case: 'survive-5s', kind: 'at-least', value: 1 });
}
