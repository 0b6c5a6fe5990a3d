/** The suite for a MAAS of flesh and blood, tried on a simulator whose site is not the recorded one. */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { defaultScenario } from '../../src/simulator/scenario.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { driveLifecycle } from './live-lifecycle.ts';
import { driveReadOnly } from './live-read-only.ts';
import { LiveSite } from './live-site.ts';

describe('the live suite', () => {
  it.each(['3.5.13', '3.7'])(
    'finds nothing to object to in a simulated MAAS %s, and leaves nothing behind',
    async (version) => {
      await using simulator = await startSimulator({ scenario: defaultScenario(), speed: 600, version });
      const before = [...simulator.region.machines.values()].map((one) => one.status);
      const site = await LiveSite.look({
        url: simulator.maasUrl,
        apiKey: simulator.adminKey,
        userKey: simulator.userKey,
      });
      const read = await driveReadOnly(site);
      expect(simulator.ledger.entries()).toEqual([]);
      // MAAS keeps every nonce that it has seen: asking it all again must not repeat one.
      const again = await driveReadOnly(
        await LiveSite.look({
          url: simulator.maasUrl,
          apiKey: simulator.adminKey,
          userKey: simulator.userKey,
        }),
      );
      const life = await driveLifecycle(site, { clock: systemClock, patienceMs: 10_000, pollMs: 5 });
      const differing = [...read, ...again, ...life].filter((finding) => finding.differences.length > 0);
      expect(differing).toEqual([]);
      expect(read.length).toBeGreaterThan(200);
      expect(life.length).toBeGreaterThan(30);
      expect(simulator.ledger.leaked()).toEqual([]);
      expect([...simulator.region.machines.values()].map((one) => one.status)).toEqual(before);
    },
    60_000,
  );

  it('says what is wrong with a MAAS that answers otherwise', async () => {
    await using simulator = await startSimulator({ faults: ['http-500@machine get_curtin_config'] });
    const site = await LiveSite.look({ url: simulator.maasUrl, apiKey: simulator.adminKey });
    const differing = (await driveReadOnly(site)).filter((finding) => finding.differences.length > 0);
    expect(differing.map((finding) => finding.name)).toEqual(['get_curtin_config Ready']);
  }, 60_000);
});
