import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { WatchEvent } from '../../src/kube/client.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import { IDLE_LIMIT_MS, readLines } from '../../src/kube/watch.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sendJson, startTlsServer, type TlsServer } from '../support/tls-server.ts';

const signal = new AbortController().signal;

async function watchServer(
  stream: (response: ServerResponse, query: URLSearchParams) => void,
): Promise<TlsServer> {
  return await startTlsServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    stream(response, new URL(String(request.url), 'https://x').searchParams);
  });
}

const line = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`;
const pod = (name: string, resourceVersion = '5') => ({ kind: 'Pod', metadata: { name, resourceVersion } });

async function collect(events: AsyncIterable<WatchEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of events)
    seen.push(
      event.type === 'BOOKMARK'
        ? `BOOKMARK ${event.resourceVersion}`
        : `${event.type} ${event.object.metadata.name}`,
    );
  return seen;
}

async function failure(promise: Promise<unknown>): Promise<PcgError> {
  const error = await promise.then(
    () => expect.fail('should have failed'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(PcgError);
  return error as PcgError;
}

describe('a watch', () => {
  it('asks for bookmarks and a limited time from the given version on, and ends when the server ends it', async () => {
    let query = new URLSearchParams();
    await using server = await watchServer((response, asked) => {
      query = asked;
      response.end(
        line('ADDED', pod('a')) +
          line('BOOKMARK', { metadata: { resourceVersion: '99' } }) +
          line('FUTURE', {}),
      );
    });
    await using client = createKubeClient(server.target, { clock: new ManualClock(), log: silentLog });
    expect(await collect(client.watch('/api/v1/pods?labelSelector=a', '77', signal))).toEqual([
      'ADDED a',
      'BOOKMARK 99',
    ]);
    expect(Object.fromEntries(query)).toMatchObject({
      labelSelector: 'a',
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: '77',
    });
    expect(Number(query.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300);
  });

  it('puts events together from pieces of any size, through the middle of characters, up to megabytes', async () => {
    const text = line('ADDED', { ...pod('ünï-😀'), big: 'ä'.repeat(1_500_000) }) + line('DELETED', pod('b'));
    const bytes = Buffer.from(text, 'utf8');
    async function* pieces() {
      for (let start = 0; start < bytes.length; start += 65_537) yield bytes.subarray(start, start + 65_537);
    }
    const lines: string[] = [];
    for await (const read of readLines(pieces())) lines.push(read);
    expect(lines.map((read) => JSON.parse(read).type)).toEqual(['ADDED', 'DELETED']);
    expect(JSON.parse(lines[0] ?? '').object.metadata.name).toBe('ünï-😀');
  });

  it.each([
    ['in the stream', 200],
    ['at connect', 410],
  ])('reports an expired version %s as 410, for a new list', async (_where, status) => {
    const gone = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
    await using server = await startTlsServer((_request, response) => {
      if (status === 410) sendJson(response, 410, gone);
      else response.writeHead(200).end(line('ERROR', gone));
    });
    await using client = createKubeClient(server.target, { clock: new ManualClock(), log: silentLog });
    const error = await failure(collect(client.watch('/api/v1/pods', '1', signal)));
    expect([error.code, error.details?.['status']]).toEqual(['KUBE_CONFLICT', 410]);
  });

  it('notices a half-open connection by silence; bookmarks keep it alive', async () => {
    let stream: ServerResponse | undefined;
    await using server = await watchServer((response) => {
      stream = response;
      response.write(line('ADDED', pod('a')));
    });
    const clock = new ManualClock();
    await using client = createKubeClient(server.target, { clock, log: silentLog });
    const events = client.watch('/api/v1/pods', '1', signal)[Symbol.asyncIterator]();
    expect(await events.next()).toMatchObject({ value: { type: 'ADDED' } });
    await clock.advance(IDLE_LIMIT_MS - 1000);
    stream?.write(line('BOOKMARK', { metadata: { resourceVersion: '8' } }));
    expect(await events.next()).toMatchObject({ value: { type: 'BOOKMARK' } });
    const next = failure(Promise.resolve(events.next()));
    await clock.advance(IDLE_LIMIT_MS - 1000);
    await clock.advance(1001);
    const error = await next;
    expect([error.code, error.details?.['reason']]).toEqual(['KUBE_UNREACHABLE', 'idle']);
    expect(clock.pending).toBe(0);
  });

  it('closes its connection when the reader leaves or aborts, and reports a cut one', async () => {
    let open = 0;
    await using server = await watchServer((response) => {
      open += 1;
      response.on('close', () => {
        open -= 1;
      });
      response.write(line('ADDED', pod('a')) + line('ADDED', pod('b')));
    });
    const clock = new ManualClock();
    await using client = createKubeClient(server.target, { clock, log: silentLog });
    for await (const event of client.watch('/api/v1/pods', '1', signal)) if (event.type === 'ADDED') break;
    await eventually(() => open === 0);
    const stop = new AbortController();
    const events = client.watch('/api/v1/pods', '1', stop.signal)[Symbol.asyncIterator]();
    await events.next();
    await events.next();
    const pending = events.next();
    stop.abort(new Error('enough'));
    await expect(pending).rejects.toThrow('enough');
    const third = client.watch('/api/v1/pods', '1', signal)[Symbol.asyncIterator]();
    await third.next();
    await third.next();
    const cut = failure(Promise.resolve(third.next()));
    server.cut();
    expect((await cut).details?.['reason']).toBe('closed');
  });

  it('refuses events that are no JSON or have no end', async () => {
    await using liar = await watchServer((response) => response.end('{"type":\n'));
    await using client = createKubeClient(liar.target, { clock: new ManualClock(), log: silentLog });
    expect((await failure(collect(client.watch('/api/v1/pods', '1', signal)))).details?.['reason']).toBe(
      'protocol',
    );
    async function* endless() {
      while (true) yield Buffer.alloc(1024 * 1024, 'x');
    }
    await expect(readLines(endless()).next()).rejects.toThrow('too large');
  });
});
