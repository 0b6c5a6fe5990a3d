/** The live feed over real HTTP: every event once and in order, over reconnects and restarts; slow browsers harm nobody. */
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { steadyClock } from '../support/steady-clock.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { clusterSpec, clusterStatus, testPortal, type TestPortal } from '../support/portal.ts';

interface Message {
  readonly id: string;
  readonly type: string;
  // biome-ignore lint: tests look into messages freely
  readonly data: any;
}

interface Reader extends AsyncDisposable {
  readonly messages: Message[];
  readonly status: number;
  events(): number[];
  readonly request: http.ClientRequest;
  readonly response: http.IncomingMessage;
}

function read(portal: TestPortal, query: string, headers: Record<string, string> = {}): Promise<Reader> {
  return new Promise((resolve, reject) => {
    const request = http.get(
      `${portal.url}/api/v1/feed${query}`,
      { headers: { authorization: `Bearer ${portal.token}`, ...headers }, agent: false },
      (response) => {
        const messages: Message[] = [];
        let buffer = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          buffer += text;
          for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n')) {
            const lines = buffer.slice(0, end).split('\n');
            buffer = buffer.slice(end + 2);
            const field = (name: string) =>
              lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
            const data = field('data');
            if (data !== undefined)
              messages.push({ id: field('id') ?? '', type: field('event') ?? '', data: JSON.parse(data) });
          }
        });
        response.on('error', () => {});
        resolve({
          messages,
          status: response.statusCode ?? 0,
          request,
          response,
          events: () => messages.filter(({ type }) => type === 'event').map(({ data }) => data.seq),
          [Symbol.asyncDispose]: async () => void request.destroy(),
        });
      },
    );
    request.once('error', reject);
  });
}

const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1);

describe('the feed', () => {
  it('carries every event once and in order, from where the browser was', async () => {
    await using portal = await testPortal();
    const { identity, paired } = await portal.pair('dc1');
    await using gateway = await connectGateway(identity, paired);
    for (const _ of upTo(30)) gateway.emit({});
    await using first = await read(portal, '?after=0');
    await eventually(() => first.events().length === 30);
    const last = first.messages.findLast(({ type }) => type === 'event')?.id ?? '';
    first.request.destroy();
    for (const _ of upTo(20)) gateway.emit({});
    await using second = await read(portal, '?after=0', { 'last-event-id': last });
    await eventually(() => second.events().length === 20);
    expect([...first.events(), ...second.events()]).toEqual(upTo(50));
    await using onlyNew = await read(portal, '');
    await eventually(() => onlyNew.messages.length > 0);
    gateway.emit({ message: 'fresh' });
    await eventually(() => onlyNew.events().length > 0);
    expect(onlyNew.events()).toEqual([51]);
  });

  it('loses and doubles nothing while the portal is away and comes back (X11)', async () => {
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'pcg-feed-'));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const first = await testPortal({ directory });
    const { identity, paired } = await first.pair('dc1');
    const gateway = stack.use(await connectGateway(identity, paired));
    for (const _ of upTo(10)) gateway.emit({});
    const before = await read(first, '?after=0');
    await eventually(() => before.events().length === 10);
    const cursor = before.messages.findLast(({ type }) => type === 'event')?.id ?? '';
    await first[Symbol.asyncDispose]();
    for (const _ of upTo(10)) gateway.emit({});
    const again = stack.use(await testPortal({ directory, port: Number(new URL(first.url).port) }));
    await using after = await read(again, '', { 'last-event-id': cursor });
    await eventually(() => after.events().length >= 10);
    expect([...before.events(), ...after.events()]).toEqual(upTo(20));
    const stored = await again.call('GET', '/api/v1/gateways');
    expect(stored.body.items[0].connection.state).toBe('connected');
  });

  it('shows one cluster only when asked, with all of its tasks', async () => {
    await using portal = await testPortal();
    const { identity, paired } = await portal.pair('dc1');
    await using gateway = await connectGateway(identity, paired);
    await eventually(
      async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1,
    );
    const make = async (name: string) =>
      (
        await portal.call('POST', '/api/v1/clusters?preflight=skip', {
          spec: clusterSpec('ca-site1', { name }),
        })
      ).body.id as string;
    const [one, two] = [await make('one'), await make('two')];
    await using all = await read(portal, '?after=0');
    await using mine = await read(portal, `?cluster=${one}&after=0`);
    gateway.emit({ cluster: one });
    gateway.emit({ cluster: two });
    gateway.emit({ cluster: one });
    const task = { name: 'deploy', state: 'running' as const, attempt: 1 };
    gateway.report('cluster', one, clusterStatus({ tasks: [task] }));
    gateway.report('cluster', two, clusterStatus({ tasks: [task] }));
    const clusterMessages = (reader: Reader) => reader.messages.filter(({ type }) => type === 'cluster');
    const reported = (reader: Reader, id: string) =>
      clusterMessages(reader).findLast(({ data }) => data.id === id && data.status)?.data;
    await eventually(() => mine.events().length === 2 && reported(mine, one) !== undefined);
    await eventually(() => all.events().length === 3 && reported(all, two) !== undefined);
    expect(mine.events()).toEqual([1, 3]);
    expect(reported(mine, one).status.tasks).toHaveLength(1);
    expect(reported(all, one).status.tasks).toEqual([]);
    expect(clusterMessages(mine).every(({ data }) => data.id === one)).toBe(true);
  });

  it('lets a browser that reads nothing neither hold the tunnel nor other browsers (failure 19)', async () => {
    // Who is stalled is seen by the test, and not by how long the machine takes.
    const STALL_MS = 12_345;
    const stalls = new Set<() => void>();
    const clock: Clock = {
      ...steadyClock,
      timer(ms, run) {
        if (ms !== STALL_MS) return steadyClock.timer(ms, run);
        stalls.add(run);
        return { [Symbol.dispose]: () => void stalls.delete(run) };
      },
    };
    await using portal = await testPortal({ clock, limits: { feedStallMs: STALL_MS } });
    const { identity, paired } = await portal.pair('dc1');
    await using gateway = await connectGateway(identity, paired);
    await using stuck = await read(portal, '?after=0');
    stuck.response.pause();
    let cut = false;
    stuck.response.once('close', () => {
      cut = true;
    });
    await using quick = await read(portal, '?after=0');
    const count = 600;
    // Far more than all buffers between two ends of a connection.
    for (const _ of upTo(count)) gateway.emit({ data: { blob: 'x'.repeat(20_000) } });
    await eventually(() => quick.events().length === count);
    expect(quick.events()).toEqual(upTo(count));
    await eventually(() => stalls.size === 1);
    for (const run of stalls) run();
    await eventually(async () => {
      const { body } = await portal.call('GET', '/metrics');
      return /pcg_portal_feed_stalled_total 1/.test(body);
    });
    stuck.response.resume();
    await eventually(() => cut);
    const seen = stuck.events();
    expect(seen).toEqual(upTo(seen.length));
    const lastId = stuck.messages.findLast(({ type }) => type === 'event')?.id ?? '0';
    await using resumed = await read(portal, '', { 'last-event-id': lastId });
    await eventually(() => resumed.events().length === count - seen.length);
    expect([...seen, ...resumed.events()]).toEqual(upTo(count));
  });

  it('bounds open streams per user and frees their places', async () => {
    await using portal = await testPortal({ limits: { feedClientsPerUser: 2 } });
    const one = await read(portal, '');
    await using _two = await read(portal, '');
    expect((await read(portal, '')).status).toBe(429);
    one.request.destroy();
    await eventually(async () => {
      await using again = await read(portal, '');
      return again.status === 200;
    });
  });
});
