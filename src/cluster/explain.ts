/**
 * X4: the placement report. Pure: machines and pools in, PlacementReport of contract/api.ts out. A machine is
 * counted under the first rule that rejects it; the nearest fix comes from machines that one rule alone rejects.
 */
import type { z } from 'zod';
import type { PlacementReportSchema } from '../contract/api.ts';
import type { Pool } from '../contract/cluster.ts';
import { ERROR_CODES, type ErrorCode, type ProblemDetails } from '../contract/errors.ts';
import type { Machine } from '../maas/client.ts';
import { assign } from './assignment.ts';
import { type PlacementContext, RULES, rejections } from './placement.ts';

export type PlacementReport = z.infer<typeof PlacementReportSchema>;

/** Machine names listed per rule; the count is always complete. */
const LISTED_MACHINES = 20;

export interface WantedPool {
  readonly pool: Pool;
  /** Nodes still to be placed. */
  readonly wanted: number;
  /** Index in the request, for field paths. */
  readonly index: number;
  readonly context: PlacementContext;
}

export function explainPlacement(
  machines: readonly Machine[],
  pools: readonly WantedPool[],
): PlacementReport {
  const judged = pools.map((wanted) => judge(machines, wanted));
  const given = assign(
    judged.map(({ wanted, fits }) => ({
      pool: wanted.pool.name,
      wanted: wanted.wanted,
      fits: fits.map((machine) => machine.systemId),
    })),
  );
  const problems: ProblemDetails[] = [];
  const report = judged.map(({ wanted, fits, first, alone }) => {
    const gets = given.get(wanted.pool.name) ?? 0;
    const missing = wanted.wanted - gets;
    const nearestFix = missing > 0 ? nearest(alone, missing, wanted) : undefined;
    if (missing > 0) problems.push(shortage(wanted, fits.length, gets, first, nearestFix));
    return {
      pool: wanted.pool.name,
      wanted: wanted.wanted,
      matching: fits.length,
      contested: Math.max(0, Math.min(fits.length, wanted.wanted) - gets),
      rejections: first,
      ...(nearestFix === undefined ? {} : { nearestFix }),
    };
  });
  return { feasible: problems.length === 0, pools: report, problems };
}

type Rejection = PlacementReport['pools'][number]['rejections'][number];

interface Judged {
  readonly wanted: WantedPool;
  readonly fits: Machine[];
  readonly first: Rejection[];
  /** rule name -> machines that only this rule rejects. */
  readonly alone: Map<string, Machine[]>;
}

function judge(machines: readonly Machine[], wanted: WantedPool): Judged {
  const fits: Machine[] = [];
  const alone = new Map<string, Machine[]>();
  const byRule = new Map<string, { machines: Machine[]; example: string }>();
  for (const machine of machines) {
    const rejected = rejections(machine, wanted.pool.placement, wanted.context);
    const head = rejected[0];
    if (!head) {
      fits.push(machine);
      continue;
    }
    const entry = byRule.get(head.rule.name) ?? {
      machines: [],
      example: `${machine.hostname} ${head.reason}`,
    };
    entry.machines.push(machine);
    byRule.set(head.rule.name, entry);
    if (rejected.length === 1) alone.set(head.rule.name, [...(alone.get(head.rule.name) ?? []), machine]);
  }
  const first = [...byRule].map(([rule, entry]) => ({
    rule,
    count: entry.machines.length,
    machines: entry.machines.slice(0, LISTED_MACHINES).map((machine) => machine.hostname),
    example: entry.example,
  }));
  first.sort((a, b) => b.count - a.count);
  return { wanted, fits, first, alone };
}

/** The one change that admits most machines. */
function nearest(
  alone: ReadonlyMap<string, Machine[]>,
  missing: number,
  wanted: WantedPool,
): string | undefined {
  const [name, machines] = [...alone].sort(([, a], [, b]) => b.length - a.length)[0] ?? [];
  const rule = RULES.find((candidate) => candidate.name === name);
  if (!rule || !machines) return undefined;
  const admits = `admits ${Math.min(machines.length, missing)} of ${missing} missing`;
  return `${rule.fix(machines, missing, wanted.pool.placement)} (${admits})`;
}

function shortage(
  wanted: WantedPool,
  matching: number,
  gets: number,
  rejected: readonly Rejection[],
  nearestFix: string | undefined,
): ProblemDetails {
  const code: ErrorCode = matching === 0 ? 'NO_MATCHING_MACHINE' : 'NOT_ENOUGH_MACHINES';
  const entry = ERROR_CODES[code];
  const why = rejected
    .slice(0, 3)
    .map((rejection) => `${rejection.rule} ${rejection.count}`)
    .join(', ');
  return {
    code,
    message:
      `pool ${wanted.pool.name} needs ${wanted.wanted} machines and gets ${gets}` +
      (matching > gets ? ` (${matching} match, other pools need them)` : '') +
      (why === '' ? '' : `; rejected by ${why}`),
    fix: nearestFix ?? entry.fix,
    retryable: true, // a machine may become Ready
    userFixable: true,
    field: `spec.pools[${wanted.index}]`,
    details: { pool: wanted.pool.name, wanted: wanted.wanted, matching, rejections: rejected },
  };
}
