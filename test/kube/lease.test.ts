import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import { LeadershipLost, leadWhilePossible } from '../../src/kube/lease.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type QuietClient, quietClient } from '../support/quiet-client.ts';
import { readBody, sendJson, startTlsServer } from '../support/tls-server.ts';

interface Spec {
  holderIdentity: string;
  leaseDurationSeconds: number;
  renewTime: string;
  acquireTime: string;
  leaseTransitions: number;
}

/** A server that keeps one Lease, checks versions as the real one does, and can be told to fail. */
async function leaseServer(initial?: Partial<Spec>) {
  let version = 1;
  let spec: Partial<Spec> | undefined = initial;
  let down = false;
  const lease = () => ({
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: 'leader', namespace: 'pcg', resourceVersion: String(version) },
    spec,
  });
  const server = await startTlsServer(async (request, response) => {
    const body = request.method === 'GET' ? undefined : JSON.parse(await readBody(request));
    if (down) sendJson(response, 503, { kind: 'Status', message: 'down' });
    else if (request.method === 'GET' && spec === undefined) sendJson(response, 404, { kind: 'Status' });
    else if (request.method === 'GET') sendJson(response, 200, lease());
    else if (request.method === 'PUT' && body.metadata.resourceVersion !== String(version))
      sendJson(response, 409, { kind: 'Status', reason: 'Conflict' });
    else {
      version += 1;
      spec = body.spec;
      sendJson(response, request.method === 'POST' ? 201 : 200, lease());
    }
  });
  return {
    target: server.target,
    spec: () => spec,
    setDown: (value: boolean) => {
      down = value;
    },
    steal: (holderIdentity: string, renewTime: string) => {
      version += 1;
      spec = { ...spec, holderIdentity, renewTime };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

class Run implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly log: string[] = [];
  readonly stop = new AbortController();
  reason: unknown;
  readonly #connection: KubeClient;
  readonly #quiet: QuietClient;
  readonly done: Promise<void>;

  constructor(server: Awaited<ReturnType<typeof leaseServer>>, endWorkAfterMs = 0) {
    const { clock } = this;
    this.#connection = createKubeClient(server.target, { clock, log: silentLog });
    this.#quiet = quietClient(this.#connection, clock);
    const { client } = this.#quiet;
    this.done = leadWhilePossible(
      { client, clock, log: silentLog, namespace: 'pcg', name: 'leader', identity: 'me', random: () => 0 },
      this.stop.signal,
      async (leading) => {
        this.log.push('starts');
        await new Promise<void>((resolve) =>
          leading.addEventListener('abort', () => resolve(), { once: true }),
        );
        this.reason = leading.reason;
        if (endWorkAfterMs > 0) await clock.sleep(endWorkAfterMs);
        this.log.push(`ends ${server.spec()?.holderIdentity}`);
      },
    );
  }

  async pass(ms: number): Promise<void> {
    await this.#quiet.pass(ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await this.#quiet.pass(25_000);
    await this.done;
    await this.#connection[Symbol.asyncDispose]();
  }
}

describe('leader election', () => {
  it('takes a free lease at once and renews it', async () => {
    await using server = await leaseServer();
    await using run = new Run(server);
    await run.pass(0);
    expect(run.log).toEqual(['starts']);
    const first = server.spec();
    expect(first).toMatchObject({ holderIdentity: 'me', leaseDurationSeconds: 15, leaseTransitions: 0 });
    expect(first?.renewTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    await run.pass(5_000);
    expect(server.spec()?.renewTime).not.toBe(first?.renewTime);
    expect(server.spec()?.acquireTime).toBe(first?.acquireTime);
  });

  it('waits a whole lease on its own clock, however old the times in the record look', async () => {
    const stale = {
      holderIdentity: 'other',
      leaseDurationSeconds: 15,
      renewTime: '2001-01-01T00:00:00.000000Z',
      leaseTransitions: 4,
    };
    await using server = await leaseServer(stale);
    await using run = new Run(server);
    await run.pass(14_000);
    expect(run.log).toEqual([]);
    await run.pass(4_000);
    expect(run.log).toEqual(['starts']);
    expect(server.spec()).toMatchObject({ holderIdentity: 'me', leaseTransitions: 5 });
  });

  it('waits on while the other one renews', async () => {
    await using server = await leaseServer({
      holderIdentity: 'other',
      leaseDurationSeconds: 15,
      renewTime: 'a',
    });
    await using run = new Run(server);
    for (let round = 0; round < 6; round += 1) {
      await run.pass(10_000);
      server.steal('other', `renewal ${round}`);
    }
    expect(run.log).toEqual([]);
  });

  it('stops its work before others may start, when it cannot renew', async () => {
    await using server = await leaseServer();
    await using run = new Run(server);
    await run.pass(0);
    server.setDown(true);
    await run.pass(9_000);
    expect(run.log).toEqual(['starts']);
    await run.pass(3_000); // 12 s at most: others wait 15 s
    expect(run.log).toHaveLength(2);
    expect(run.reason).toBeInstanceOf(LeadershipLost);
    server.setDown(false);
    await run.pass(6_000);
    expect(run.log).toHaveLength(3); // its own lease is taken up again
  });

  it('stops at once when somebody else holds the lease', async () => {
    await using server = await leaseServer();
    await using run = new Run(server);
    await run.pass(0);
    server.steal('thief', 'now');
    await run.pass(3_000);
    expect(run.log).toEqual(['starts', 'ends thief']);
    expect(server.spec()?.holderIdentity).toBe('thief'); // not given away in another's name
  });

  it('gives the lease back only after all work has stopped', async () => {
    await using server = await leaseServer();
    await using run = new Run(server, 5_000);
    await run.pass(0);
    run.stop.abort();
    await run.pass(4_000);
    expect(server.spec()?.holderIdentity).toBe('me');
    await run.pass(2_000);
    await run.done;
    expect(run.log).toEqual(['starts', 'ends me']);
    expect(server.spec()).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
  });

  it('refuses times under which two could lead', async () => {
    const options = { clock: new ManualClock(), log: silentLog, namespace: 'a', name: 'b', identity: 'c' };
    const timings = { leaseMs: 10_000, renewDeadlineMs: 10_000, retryMs: 2_000 };
    await expect(
      leadWhilePossible(
        { ...options, timings, client: {} as KubeClient },
        new AbortController().signal,
        async () => {},
      ),
    ).rejects.toThrow('renew deadline');
  });

  it('passes on what the work throws', async () => {
    await using server = await leaseServer();
    const clock = new ManualClock();
    await using client = createKubeClient(server.target, { clock, log: silentLog });
    const work = async () => {
      throw new PcgError('INTERNAL', 'broken');
    };
    const options = { client, clock, log: silentLog, namespace: 'pcg', name: 'leader', identity: 'me' };
    await expect(leadWhilePossible(options, new AbortController().signal, work)).rejects.toThrow('broken');
    expect(server.spec()?.holderIdentity).toBe('');
  });
});
