/**
 * What a command gets from the outside: streams, environment, the stop signal. Data goes to stdout, messages
 * to stderr; `--json` turns data into one JSON object a line. Only `main.ts` makes one.
 */
import type { Clock } from '../base/clock.ts';
import { describeError, toProblem } from '../base/errors.ts';
import { PlacementReportSchema } from '../contract/api.ts';
import { placementLines } from './placement-text.ts';

export interface CliContext {
  readonly clock: Clock;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Runs at every SIGHUP until disposed, instead of ending the process. */
  onHangup(run: () => void): Disposable;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** Colours and in-place progress: stderr is a terminal, NO_COLOR unset, TERM not dumb. */
  readonly color: boolean;
  readonly interactive: boolean;
  /** Data. */
  out(text: string): void;
  /** One JSON object on one line of stdout. */
  event(event: Record<string, unknown>): void;
  /** Messages for people; silent with --quiet. */
  say(text: string): void;
  /** In-place progress on a terminal: replaces what the last call drew. */
  draw(lines: readonly string[]): void;
}

/** `Error CODE: what happened`, what to do, how to see more. Never a bare stack trace. */
export function formatError(error: unknown, verbose: boolean): string {
  const problem = toProblem(error);
  const message = problem.code === 'INTERNAL' && error instanceof Error ? error.message : problem.message;
  const lines = [`Error ${problem.code}: ${message}`];
  if (problem.field !== undefined) lines.push(`  field: ${problem.field}`);
  lines.push(`  fix:   ${problem.fix}`);
  const evidence = problem.details?.['report'];
  const placement = PlacementReportSchema.safeParse(evidence);
  if (placement.success) lines.push(...placementLines(placement.data).map((line) => `  why:   ${line}`));
  else if (evidence !== undefined) lines.push(`  why:   ${JSON.stringify(evidence)}`);
  if (verbose)
    lines.push(
      `  cause: ${describeError(error)}`,
      ...(error instanceof Error && error.stack ? [error.stack] : []),
    );
  else lines.push('  more:  run again with --verbose');
  return lines.join('\n');
}
