/** Reads only: safe on a MAAS in production. */
import { describe, expect, it } from 'vitest';
import { driveReadOnly } from '../../conformance/live-read-only.ts';
import { LiveSite } from '../../conformance/live-site.ts';
import { liveMaas } from './environment.ts';

describe('a live MAAS, read-only', () => {
  it('answers the recorded reads alike', async () => {
    const findings = await driveReadOnly(await LiveSite.look(liveMaas()));
    expect(findings.length).toBeGreaterThan(100);
    expect(findings.filter((finding) => finding.differences.length > 0)).toEqual([]);
  }, 600_000);
});
