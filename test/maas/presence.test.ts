/** Addresses as a sign of life: how many subnets one look asks for, and how long a machine's end stays unseen. */
import { describe, expect, it } from 'vitest';
import type { Machine } from '../../src/maas/client.ts';
import { createPresence } from '../../src/maas/presence.ts';
import { fakeMachine } from '../support/fake-site.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { never } from '../support/maas-wire.ts';

const EVERY_MS = 22_500;
const POLL_MS = 30_000;

/** One deployed machine in each of `count` networks 10.<n>.0.0/24. */
function site(count: number) {
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const machines: Machine[] = numbers.map((n) => ({
    ...fakeMachine(n, { status: 'deployed' }),
    interfaces: [
      {
        name: 'eno1',
        mac: '',
        links: [{ mode: 'auto', ip: `10.${n}.0.5`, subnetCidr: `10.${n}.0.0/24`, gatewayIp: undefined }],
      },
    ],
  }));
  const asked: number[] = [];
  const deleted = new Set<number>();
  const clock = new ManualClock();
  const presence = createPresence(
    {
      subnets: async () =>
        numbers.map((n) => ({
          id: n,
          name: `net-${n}`,
          cidr: `10.${n}.0.0/24`,
          gatewayIp: undefined,
          managed: true,
          vid: n,
          fabric: 'fabric-0',
          space: undefined,
          dnsServers: [],
        })),
      addressesIn: async (id) => {
        asked.push(id);
        return new Set(deleted.has(id) ? [] : [`10.${id}.0.5`]);
      },
    },
    { clock, everyMs: EVERY_MS },
  );
  return {
    asked,
    deleted,
    /** What the next poll finds vanished. */
    poll: async (): Promise<string[]> => {
      const vanished = await presence.look(machines, never());
      await clock.advance(POLL_MS);
      return vanished;
    },
  };
}

describe('a site with many subnets', () => {
  it('costs two requests a look, and every subnet has its turn', async () => {
    const { asked, poll } = site(7);
    for (let looks = 1; looks <= 20; looks += 1) {
      expect(await poll()).toEqual([]);
      expect(asked).toHaveLength(2 * looks);
    }
    // Of seven subnets none waits longer than five looks of two.
    for (let from = 0; from <= asked.length - 10; from += 2)
      expect(new Set(asked.slice(from, from + 10)).size).toBe(7);
  });

  it('shows a deleted machine within five polls of seven subnets', async () => {
    const { deleted, poll } = site(7);
    for (let looks = 0; looks < 4; looks += 1) await poll();
    deleted.add(6);
    const seen: string[] = [];
    for (let looks = 0; looks < 5; looks += 1) seen.push(...(await poll()));
    expect(seen).toEqual(['m0006']);
  });
});
