/** Allocates one Ready machine, starts and aborts a deployment on it, and gives it back. Touches no other. */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { driveLifecycle } from '../../conformance/live-lifecycle.ts';
import { LiveSite } from '../../conformance/live-site.ts';
import { liveMaas } from './environment.ts';

/** BMCs take their time, and MAAS waits for them. */
const PATIENCE_MS = 10 * 60_000;

describe('a live MAAS, with a machine of its own', () => {
  it(
    'answers the recorded life of a machine alike',
    async () => {
      const site = await LiveSite.look(liveMaas());
      const findings = await driveLifecycle(site, {
        clock: systemClock,
        patienceMs: PATIENCE_MS,
        pollMs: 5_000,
      });
      expect(findings.filter((finding) => finding.differences.length > 0)).toEqual([]);
    },
    3 * PATIENCE_MS,
  );
});
