/** The agent in this process, next to a simulated MAAS, with a portal that never answers. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type Agent, startAgent } from '../../src/agent/agent.ts';
import { savePairing } from '../../src/agent/identity-store.ts';
import { createApiServer } from '../../src/agent/api/server.ts';
import { systemClock, withDeadline } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { askAgent } from '../../src/cli/local-client.ts';
import { AGENT_SETTINGS } from '../../src/config/agent-settings.ts';
import { loadSettings } from '../../src/config/settings.ts';
import {
  AgentStatusSchema,
  CheckReportSchema,
  InventorySchema,
  PlacementReportSchema,
} from '../../src/contract/api.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { RECORDS_SCHEMA, SqliteFile, SqliteRecords } from '../../src/store/sqlite.ts';
import { eventually } from '../support/eventually.ts';

const stack: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of stack.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

const ACCOUNT = 'ca-test0001';

async function agentWith(options: { maasUrl: string; apiKey: string; paired?: boolean }): Promise<Agent> {
  const directory = mkdtempSync(join(tmpdir(), 'pcg-agent-'));
  stack.push({ [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true, force: true }) });
  if (options.paired !== false) {
    using file = SqliteFile.open(join(directory, 'agent.db'), RECORDS_SCHEMA);
    await savePairing(new SqliteRecords(file), {
      gatewayId: 'gw-test0001',
      gatewayName: 'test',
      portalUrl: 'http://127.0.0.1:9',
      tunnelUrl: 'ws://127.0.0.1:9/tunnel/v1',
      portalKey: Buffer.alloc(32, 7).toString('base64'),
      words: 'a-b-c-d',
    });
  }
  const settings = loadSettings(AGENT_SETTINGS, {
    environment: {
      PCG_STATE_DIR: directory,
      PCG_LISTEN: '127.0.0.1:0',
      PCG_MAAS_URL: options.maasUrl,
      PCG_MAAS_API_KEY: options.apiKey,
      PCG_POLL_ACTIVE_MS: '50',
    },
  }).values;
  const agent = await startAgent({
    settings,
    clock: systemClock,
    log: silentLog,
    version: '0.0.0',
    hostname: 'host',
    environment: {},
  });
  stack.push(agent);
  const stop = new AbortController();
  const running = agent.run(stop.signal);
  stack.push({
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
    },
  });
  return agent;
}

const ask = (agent: Agent, method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown) =>
  askAgent(agent.socketPath, method, path, new AbortController().signal, body);
const status = async (agent: Agent) => AgentStatusSchema.parse(await ask(agent, 'GET', '/v1/status'));

async function until<T>(probe: () => Promise<T | undefined | false>): Promise<T> {
  let value: T | undefined | false;
  await eventually(async () => Boolean((value = await probe())));
  return value as T;
}

async function simulator() {
  const started = await startSimulator({ speed: 1000 });
  stack.push(started);
  return started;
}

describe('the agent', () => {
  it('answers its local API while unpaired and says so', async () => {
    const maas = await simulator();
    const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: maas.adminKey, paired: false });
    expect(await status(agent)).toMatchObject({ tunnel: { state: 'unpaired' }, clusters: [] });
    await expect(ask(agent, 'GET', '/v1/clusters')).rejects.toMatchObject({
      code: 'TEMPORARY',
      fix: expect.stringContaining('pcg pair'),
    });
  });

  it('works next to MAAS while the portal is away, and shows cause and next attempt (X11)', async () => {
    const maas = await simulator();
    const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: maas.adminKey });
    const seen = await until(async () => {
      const now = await status(agent);
      return now.accounts[0]?.state === 'ready' && now.tunnel.state === 'waiting' ? now : undefined;
    });
    expect(seen.accounts[0]).toMatchObject({ id: ACCOUNT, maasVersion: expect.stringMatching(/^3\./) });
    expect(seen.tunnel).toMatchObject({
      state: 'waiting',
      cause: { code: 'PORTAL_UNREACHABLE', fix: expect.any(String) },
    });
    const live = await fetch(new URL('/livez', agent.healthUrl));
    expect(live.status).toBe(200);
    const metrics = await (await fetch(new URL('/metrics', agent.healthUrl))).text();
    expect(metrics).toContain('pcg_outbox_events_pending');
    expect(metrics).toContain('pcg_tunnel_state');
  });

  it.each([
    ['a wrong API key', 'MAAS_UNAUTHORIZED', (key: string) => `${key.slice(0, -4)}zzzz`],
    ['a key of two parts', 'MAAS_KEY_INVALID', () => 'abc:def'],
  ])(
    'with %s the account is failed with %s, and the key is nowhere to be read',
    async (_title, code, change) => {
      const maas = await simulator();
      const key = change(maas.adminKey);
      const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: key });
      const failed = await until(async () => {
        const { accounts } = await status(agent);
        return accounts[0]?.state === 'failed' ? accounts[0] : undefined;
      });
      expect(failed.problem?.code).toBe(code);
      const shown = JSON.stringify(await status(agent));
      for (const secret of [maas.adminKey, key, maas.adminKey.split(':')[2] ?? ''])
        expect(shown).not.toContain(secret);
    },
  );

  it('with a MAAS that is down the account is failed as unreachable', async () => {
    const agent = await agentWith({ maasUrl: 'http://127.0.0.1:9/MAAS', apiKey: 'a:b:c' });
    const failed = await until(async () =>
      (await status(agent)).accounts.find(({ state }) => state === 'failed'),
    );
    expect(failed.problem).toMatchObject({ code: 'MAAS_UNREACHABLE', fix: expect.stringContaining('5240') });
  });

  it('lists the site with counts, and explains a placement that cannot work (X4)', async () => {
    const maas = await simulator();
    const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: maas.adminKey });
    await until(async () => (await status(agent)).accounts[0]?.state === 'ready');
    const inventory = InventorySchema.parse(await ask(agent, 'GET', `/v1/accounts/${ACCOUNT}/inventory`));
    expect(inventory.zones.length).toBeGreaterThanOrEqual(3);
    expect(inventory.pools.reduce((sum, pool) => sum + pool.ready, 0)).toBeGreaterThan(10);
    expect(inventory.freeCidr).toMatch(/\/16$/);
    const report = PlacementReportSchema.parse(
      await ask(agent, 'POST', `/v1/accounts/${ACCOUNT}/explain`, {
        pools: [{ name: 'cp', role: 'control-plane', size: 1, placement: { minCpu: 512 } }],
      }),
    );
    expect(report.feasible).toBe(false);
    expect(report.pools[0]).toMatchObject({
      matching: 0,
      rejections: expect.arrayContaining([expect.objectContaining({ count: expect.any(Number) })]),
    });
    await expect(
      ask(agent, 'POST', `/v1/accounts/${ACCOUNT}/explain`, {
        pools: [{ name: 'cp', role: 'control-plane', size: 2 }],
      }),
    ).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      field: 'pools[0].size',
    });
    await expect(ask(agent, 'GET', '/v1/accounts/ca-none/inventory')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('holds new clusters in line at the word of the owner, and shows it (R85)', async () => {
    const maas = await simulator();
    const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: maas.adminKey });
    await until(async () => (await status(agent)).accounts[0]?.state === 'ready');
    expect(await ask(agent, 'GET', '/v1/queue')).toEqual({ waiting: [] });
    await expect(ask(agent, 'POST', '/v1/queue/hold', { reason: ' ' })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      field: 'reason',
    });
    await ask(agent, 'POST', '/v1/queue/hold', { reason: 'new disks' });
    expect((await status(agent)).queue).toMatchObject({ reason: 'new disks', since: expect.any(String) });
    expect(await ask(agent, 'POST', '/v1/queue/resume', {})).toEqual({ waiting: [] });
    expect((await status(agent)).queue).toBeUndefined();
  });

  it('calls a question that took too long pending, and no defect', async () => {
    await using server = createApiServer('local', silentLog, [
      (routes) => {
        routes.get('/slow', () =>
          withDeadline(systemClock, 5, 'the look', undefined, (signal) => systemClock.sleep(60_000, signal)),
        );
      },
    ]);
    const { statusCode, body } = await server.inject('/slow');
    expect(statusCode).toBe(504);
    expect(JSON.parse(body)).toMatchObject({
      code: 'DEADLINE',
      message: expect.stringContaining('the look'),
      fix: expect.stringContaining('pcg doctor'),
    });
  });

  it('keeps machines in quarantine over calls and gives them back (X6)', async () => {
    const maas = await simulator();
    const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: maas.adminKey });
    await until(async () => (await status(agent)).accounts[0]?.state === 'ready');
    const [first] = maas.region.machines.values();
    const machine = { systemId: first?.systemId ?? '', hostname: first?.hostname ?? '' };
    const put = (systemId: string) =>
      ask(agent, 'POST', `/v1/accounts/${ACCOUNT}/quarantine`, { systemId, reason: 'smells of smoke' });
    for (const name of [machine.systemId, machine.hostname]) {
      await put(name);
      expect(await ask(agent, 'GET', '/v1/quarantine')).toEqual([
        expect.objectContaining({ ...machine, reason: 'smells of smoke' }),
      ]);
    }
    await expect(put('nosuch')).rejects.toMatchObject({ code: 'NOT_FOUND', field: 'systemId' });
    await expect(put('../..')).rejects.toMatchObject({ code: 'INVALID_INPUT', field: 'systemId' });
    const lift = (name: string) => ask(agent, 'DELETE', `/v1/accounts/${ACCOUNT}/quarantine/${name}`);
    await expect(lift('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await lift(machine.hostname);
    expect(await ask(agent, 'GET', '/v1/quarantine')).toEqual([]);
  });

  it('examines itself: each check with what was measured, what is required and a fix (X14)', async () => {
    const maas = await simulator();
    const agent = await agentWith({ maasUrl: maas.maasUrl, apiKey: maas.userKey });
    await until(async () => (await status(agent)).accounts[0]?.state === 'ready');
    const report = CheckReportSchema.parse(await ask(agent, 'POST', '/v1/doctor', {}));
    const byId = new Map(report.checks.map((check) => [check.id.split(' ')[0], check]));
    expect(byId.get('STORAGE_STATE_DIR')?.state).not.toBe('fail');
    expect(byId.get('PORTAL_TUNNEL')).toMatchObject({ state: expect.stringMatching(/fail|warn/) });
    expect(byId.get('MAAS_RIGHTS')).toMatchObject({
      group: 'MAAS',
      measured: expect.stringContaining('MAAS 3.'),
    });
    expect(byId.get('MAAS_READY_MACHINES')?.state).toBe('pass');
    expect(byId.get('TIME_MAAS')?.state).toBe('pass');
  });
});
