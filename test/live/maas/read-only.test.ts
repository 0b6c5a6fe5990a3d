/** Reads only: safe on a MAAS in production. */
import { describe, expect, it } from 'vitest';
import { driveReadOnly } from '../../conformance/live-read-only.ts';
import { LiveSite } from '../../conformance/live-site.ts';
import { liveMaas } from './environment.ts';

describe('a live MAAS, read-only', () => {
  it(
    'answers the recorded reads alike',
    async () => {
      const site = await LiveSite.look(liveMaas());
      const { findings, leftOut } = await driveReadOnly(site);
      process.stderr.write(`MAAS ${site.door.version}: ${findings.length} recorded reads repeated\n`);
      if (!site.hasUser) process.stderr.write('without PCG_MAAS_USER_KEY: none as a user without rights\n');
      for (const [word, count] of leftOut)
        process.stderr.write(`${count} left out: nothing here stands for the recorded ${word}\n`);
      expect(findings.filter((finding) => finding.differences.length > 0)).toEqual([]);
      expect(findings.length).toBeGreaterThan(100);
    },
    60 * 60_000,
  );
});
