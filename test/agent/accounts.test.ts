/** What an account says of its MAAS: never a stale green, whatever the region does. */
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { Accounts, type AccountState } from '../../src/agent/accounts.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import { eventually } from '../support/eventually.ts';
import { json, KEY, serveScript } from '../support/maas-wire.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { memoryRecords } from '../support/memory-store.ts';

const ACCOUNT = 'ca-test0001';
/** Of one answer. */
const SLOW_MS = 25_000;
const VERSION = { version: '3.5.13', subversion: '', capabilities: [] };

/** An account whose region answers, hangs or stands behind a proxy that answers for it. */
async function account() {
  const clock = new ManualClock();
  const held: ServerResponse[] = [];
  const region = { mode: 'answers' as 'answers' | 'hangs' | 'away' | 'slow' };
  /** How often each path was asked for. */
  const asked: Record<string, number> = {};
  const answer = (path: string, out: ServerResponse): void => {
    if (path === 'version/') json(out, VERSION);
    else if (path === 'users/') json(out, { username: 'admin', is_superuser: true });
    else json(out, []);
  };
  const wire = await serveScript((seen, out) => {
    asked[seen.path] = (asked[seen.path] ?? 0) + 1;
    if (region.mode === 'hangs') held.push(out);
    else if (region.mode === 'slow' && asked['version/'] === 2)
      clock.timer(SLOW_MS, () => answer(seen.path, out));
    else if (region.mode === 'away') json(out, 'no region', 502);
    else answer(seen.path, out);
  });
  const changes: string[] = [];
  const accounts = new Accounts({
    records: memoryRecords(),
    clock,
    log: silentLog,
    local: { id: ACCOUNT, endpoint: `${wire.origin}/MAAS`, apiKey: new Secret(KEY) },
    openSealed: () => new Secret(''),
    pollActiveMs: 5_000,
    pollIdleMs: 30_000,
    onChange: (id) => void changes.push(id),
  });
  await accounts.start();
  const silentMs = (): number => {
    const client = accounts.client(ACCOUNT);
    return 'maas' in client ? client.maas.silentMs : 0;
  };
  const state = (): AccountState | undefined => accounts.list()[0]?.state;
  return {
    clock,
    region,
    asked,
    held,
    changes,
    state,
    silentMs,
    /**
     * Lets time pass until the account is in this state. Not while an answer is on its way that must come in time: that
     * takes real time.
     */
    until: (kind: AccountState['kind']) =>
      eventually(async () => {
        if (state()?.kind === kind) return true;
        const counts = region.mode === 'answers' && state()?.kind !== 'failed' && silentMs() > 0;
        if (!counts) await clock.advance(5_000);
        return false;
      }),
    async [Symbol.asyncDispose]() {
      for (const out of held) out.destroy();
      await accounts[Symbol.asyncDispose]();
      await wire[Symbol.asyncDispose]();
    },
  };
}

describe('an account', () => {
  it('is ready once its MAAS said who we are', async () => {
    await using it = await account();
    await it.until('ready');
    expect(it.state()).toEqual({ kind: 'ready', maasVersion: '3.5.13', username: 'admin' });
    expect(it.changes).toEqual([ACCOUNT]);
  });

  it('whose region needs half a minute for each answer stays ready', async () => {
    await using it = await account();
    await it.until('ready');
    it.region.mode = 'slow';
    await eventually(async () => {
      if (it.asked['version/'] === 2) return true;
      // Not while an answer is on its way: that takes real time.
      if (it.silentMs() === 0) await it.clock.advance(5_000);
      return false;
    });
    await it.clock.advance(SLOW_MS);
    await eventually(() => it.silentMs() < SLOW_MS); // the version has arrived
    await it.clock.advance(SLOW_MS);
    expect(it.changes).toEqual([ACCOUNT]);
    expect(it.state()).toMatchObject({ kind: 'ready' });
  });

  it.each(['hangs', 'away'] as const)(
    'whose region %s is failed with the cause, and ready again by itself',
    async (mode) => {
      await using it = await account();
      await it.until('ready');
      it.region.mode = mode;
      await it.until('failed');
      const failed = it.state();
      expect(failed).toMatchObject({
        problem: {
          code:
            mode === 'hangs' ? 'MAAS_UNREACHABLE' : expect.stringMatching(/^MAAS_(OVERLOADED|UNREACHABLE)$/),
        },
      });
      if (mode === 'hangs')
        expect(failed).toMatchObject({
          problem: { message: expect.stringMatching(/^MAAS has answered nothing for \d+ s$/) },
        });
      it.region.mode = 'answers';
      for (const out of it.held.splice(0)) out.destroy();
      await it.until('ready');
      expect(it.changes).toEqual([ACCOUNT, ACCOUNT, ACCOUNT]);
    },
  );
});
