/** `pcg doctor`: one report with a fix per check; exit code 5 when a check fails. */
import type { Command } from 'commander';
import { CheckReportSchema } from '../contract/api.ts';
import { type AccountFlags, agentQuestions, withAgent } from './agent-questions.ts';
import type { CliContext } from './context.ts';

const MARKS = { pass: 'ok  ', warn: 'WARN', fail: 'FAIL', skip: 'skip' } as const;
const EXIT_PREFLIGHT_FAILED = 5;

export function doctorCommand(program: Command, context: CliContext): void {
  const { ask } = agentQuestions(context);
  withAgent(
    program
      .command('doctor')
      .description(
        'Examine this gateway: host, storage, portal, MAAS, clocks, capacity; a fix for each failure.',
      ),
  ).action(async (flags: AccountFlags) => {
    const report = CheckReportSchema.parse(await ask(flags, 'POST', '/v1/doctor', {}));
    if (context.json) context.event(report);
    for (const check of context.json ? [] : report.checks) {
      context.out(`${MARKS[check.state]} ${check.id.padEnd(36)} ${check.measured}`);
      if (check.state === 'fail' || check.state === 'warn')
        context.out(`     required: ${check.required}${check.fix === '' ? '' : `; fix: ${check.fix}`}`);
    }
    if (report.checks.some(({ state }) => state === 'fail')) process.exitCode = EXIT_PREFLIGHT_FAILED;
  });
}
