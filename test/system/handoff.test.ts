/**
 * 63: one agent's process after the other on the same state. A lock lets one work at a time: a new one that comes too
 * early, or dies before it works, leaves the old one, the tunnel and the hardware alone.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { ENTRY } from '../support/program.ts';
import { Site } from '../support/site.ts';

/** Milliseconds after which a new process is killed: before its first statement, in its start, and when it works. */
const KILLED_AFTER_MS = [20, 150, 300, 450, 600, 900];

/** What the portal says of the one gateway's connection. */
async function connection(site: Site): Promise<{ state: string; since?: string }> {
  const { items } = (await site.call('GET', '/api/v1/gateways')) as {
    items: { connection: { state: string; since?: string } }[];
  };
  return items[0]!.connection;
}

/** `pcg agent` on the state of `site`, killed after `ms` unless it has ended by itself. */
async function shortLived(site: Site, ms: number): Promise<number | null> {
  const child = spawn(process.execPath, [ENTRY, 'agent', '--json'], {
    env: site.environment(),
    stdio: 'ignore',
  });
  const exited = once(child, 'exit');
  void systemClock.sleep(ms).then(() => child.kill('SIGKILL'));
  return ((await exited) as [number | null])[0];
}

describe('two processes on one state', () => {
  it('63: a new one beside one that works is refused or dies, and the old one goes on; one that dies after it is followed by the next', async () => {
    await using site = await Site.start({ speed: 100 });
    const { since } = await connection(site);
    const cluster = await site.createCluster();
    // beside it
    await expect(site.run('second', ['agent'])).rejects.toThrow('ended at start with code 9');
    for (const ms of KILLED_AFTER_MS) expect([null, 9]).toContain(await shortLived(site, ms));
    await expect(site.run('second', ['agent'])).rejects.toThrow('ended at start with code 9');
    expect(await connection(site)).toMatchObject({ state: 'connected', since });
    // in its place
    await site.agent?.[Symbol.asyncDispose]();
    for (const ms of KILLED_AFTER_MS) expect(await shortLived(site, ms)).toBeNull();
    await site.startAgent();
    const running = await site.waitForPhase(cluster.id, 'Running');
    expect(running.status?.nodes.filter((node) => node.phase === 'Ready')).toHaveLength(6);
    const ledger = await site.ledger();
    expect(ledger.doublyAllocated).toEqual([]);
    expect(ledger.leaked).toHaveLength(6);
  });
});
