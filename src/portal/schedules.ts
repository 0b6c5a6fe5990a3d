/** Schedules are refused where they are given: one that never comes would look like a policy that works. */
import { Cron } from 'croner';
import { PcgError } from '../base/errors.ts';
import type { PoliciesRequest } from '../contract/policies.ts';

/** Throws INVALID_INPUT naming the schedule's field. */
export function checkSchedules({ patching, scans, backups }: PoliciesRequest): void {
  const given = {
    'patching.schedule': patching.schedule,
    'scans.cis': scans.cis,
    'scans.conformance': scans.conformance,
    'scans.vulnerabilities': scans.vulnerabilities,
    'backups.schedule': backups.schedule,
  };
  for (const [name, schedule] of Object.entries(given)) {
    if (schedule === 'never') continue;
    const wrong = mistake(schedule);
    if (wrong !== undefined)
      throw new PcgError('INVALID_INPUT', `"${schedule}" ${wrong}`, {
        field: `spec.policies.${name}`,
        fix: 'Give minute, hour, day of month, month and day of week like "0 3 * * 0", or "never".',
      });
  }
}

function mistake(schedule: string): string | undefined {
  try {
    return new Cron(schedule, { paused: true }).nextRun() === null
      ? 'names a time that never comes'
      : undefined;
  } catch (error) {
    return `is no schedule: ${(error as Error).message}`;
  }
}
