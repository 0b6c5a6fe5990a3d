/**
 * Allocates one Ready machine, starts and aborts a deployment on it, and gives it back, also when it is interrupted.
 * Touches no other.
 */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { driveLifecycle } from '../../conformance/live-lifecycle.ts';
import { LiveSite } from '../../conformance/live-site.ts';
import { liveMaas } from './environment.ts';

/** BMCs take their time, and MAAS waits for them. */
const PATIENCE_MS = 15 * 60_000;

/** Ctrl-C ends the runner, but not at once this process of it; the guard gives back what it holds when it is dead. */
const ENDINGS = ['SIGINT', 'SIGTERM', 'disconnect'] as const;
const end = (): void => void process.kill(process.pid, 'SIGKILL');

/**
 * Set by the tests of this suite alone: their simulator has nothing under way that a real MAAS may have, and is gone
 * before whoever cleans up behind a killed run has looked for it.
 */
const lateMs = process.env['PCG_TEST_LATE_MS'];

describe('a live MAAS, with a machine of its own', () => {
  it(
    'answers the recorded life of a machine alike',
    async () => {
      const options = liveMaas();
      const site = await LiveSite.look(options);
      for (const event of ENDINGS) process.once(event, end);
      const findings = await driveLifecycle(site, {
        clock: systemClock,
        patienceMs: PATIENCE_MS,
        pollMs: 5_000,
        machine: options.machine,
        ...(lateMs === undefined ? {} : { lateMs: Number(lateMs) }),
      }).finally(() => {
        for (const event of ENDINGS) process.removeListener(event, end);
      });
      expect(findings.filter((finding) => finding.differences.length > 0)).toEqual([]);
    },
    6 * PATIENCE_MS,
  );
});
