/** `pcg simulate` as a user starts it: every option reaches the simulated MAAS, and the ledger can be looked at. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { faultCatalogue } from '../../src/simulator/maas/faults.ts';
import { maasCaller } from '../support/maas-caller.ts';
import { bareEnvironment, ENTRY } from '../support/program.ts';

interface Ready {
  readonly event: 'ready';
  readonly maasUrl: string;
  readonly adminKey: string;
  readonly userKey: string;
}

async function simulate(...args: string[]) {
  const child: ChildProcess = spawn(
    process.execPath,
    [ENTRY, '--json', 'simulate', '--port', '0', '--log-level', 'error', ...args],
    { env: bareEnvironment(), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const exit = once(child, 'exit');
  if (!child.stdout) throw new Error('the program has no output');
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const ready = JSON.parse(line) as Ready;
  return {
    ready,
    call: maasCaller(ready.maasUrl, ready.adminKey),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM');
      expect(await exit).toEqual([0, null]);
    },
  };
}

describe('pcg simulate', () => {
  it('takes flavour, number and size of machines, faults and latencies from its options', async () => {
    await using program = await simulate(
      ...['--maas-version', '3.7', '--machines', '4', '--machine-size', '30'],
      ...['--fault', 'http-503:1@zones', '--fault', 'deploy-failed:2'],
      ...['--list-latency-ms', '40', '--allocate-latency-ms', '120', '--deploy-latency-ms', '150'],
      ...['--speed', '1000'],
    );
    const { call, ready } = program;
    expect((await call('GET', 'version/')).json.version).toBe('3.7.0');
    expect([(await call('GET', 'zones/')).status, (await call('GET', 'zones/')).status]).toEqual([503, 200]);
    const timed = async (...request: Parameters<typeof call>) => {
      const began = performance.now();
      const answer = await call(...request);
      expect(answer.status).toBe(200);
      return { ...answer, tookMs: performance.now() - began };
    };
    const list = await timed('GET', 'machines/');
    expect(list.json).toHaveLength(4);
    expect(list.text.length / 4).toBeGreaterThan(28_000);
    expect(list.tookMs).toBeGreaterThan(155);
    const allocated = await timed('POST', 'machines/?op=allocate', { agent_name: 'who' });
    expect(allocated.tookMs).toBeGreaterThan(115);
    const id: string = allocated.json.system_id;
    expect((await timed('POST', `machines/${id}/?op=deploy`)).tookMs).toBeGreaterThan(145);
    const rules = await (await fetch(new URL('/simulator/faults', ready.maasUrl))).text();
    expect(rules).toContain('deploy-failed:2');
    const ledger = (await (await fetch(new URL('/simulator/ledger', ready.maasUrl))).json()) as {
      leaked: unknown[];
    };
    expect(ledger.leaked).toMatchObject([{ systemId: id, agentName: 'who', user: 'admin' }]);
    const page = await (await fetch(new URL('/simulator/', ready.maasUrl))).text();
    expect(page).toContain('MAAS 3.7.0 simulator');
  });

  it('gives the same machines for the same seed, and other ones for another', async () => {
    const machines = async (seed: string) => {
      await using program = await simulate('--machines', '8', '--seed', seed);
      return (await program.call('GET', 'machines/')).json.map(
        (machine: Record<string, unknown>) =>
          `${String(machine['system_id'])} ${String(machine['cpu_count'])} ${String(machine['memory'])}`,
      ) as string[];
    };
    const first = await machines('7');
    expect(await machines('7')).toEqual(first);
    expect(await machines('8')).not.toEqual(first);
  });

  it('explains every fault in its help', () => {
    const { stdout } = spawnSync(process.execPath, [ENTRY, 'simulate', '--help'], {
      env: bareEnvironment(),
      encoding: 'utf8',
    });
    expect(faultCatalogue().filter(({ name }) => !stdout.includes(`  ${name} `))).toEqual([]);
  });
});
