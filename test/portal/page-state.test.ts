/** What the page knows when answers and streams come in every order. */
import { beforeAll, beforeEach, expect, it, vi } from 'vitest';

type State = typeof import('../../src/portal/web/state.ts');

/** A stream that says what the test says. */
class Stream extends EventTarget {
  static readonly CLOSED = 2;
  static readonly all: Stream[] = [];
  readonly readyState = 1;
  constructor() {
    super();
    Stream.all.push(this);
  }
  say(type: string, data: object): void {
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) }));
  }
  close(): void {}
}

interface Question {
  readonly path: string;
  answer(body: object): void;
}
let questions: Question[] = [];

function ask(path: string): Promise<Response> {
  const reply = Promise.withResolvers<Response>();
  const headers = { 'content-type': 'application/json' };
  questions.push({
    path: path.replace('/api/v1', ''),
    answer: (body) => reply.resolve(new Response(JSON.stringify(body), { headers })),
  });
  return reply.promise;
}

/** Answers the oldest question for this path that waits. */
async function answer(path: string, body: object): Promise<void> {
  const at = questions.findIndex((question) => question.path === path);
  questions.splice(at, 1)[0]?.answer(body);
  await new Promise(setImmediate);
}

async function answerLists(clusters: object[], gateways: object[] = []): Promise<void> {
  for (const path of ['/cloud-accounts', '/profiles']) await answer(path, { items: [] });
  await answer('/gateways', { items: gateways });
  await answer('/clusters', { items: clusters });
}

const cluster = (id: string, said: string, generation = 1) => ({ id, generation, said });

let state: State;
beforeAll(async () => {
  vi.stubGlobal('document', { documentElement: { dataset: {} } });
  vi.stubGlobal('localStorage', { getItem: () => null, setItem: () => {} });
  vi.stubGlobal('EventSource', Stream);
  vi.stubGlobal('fetch', ask);
  state = await import('../../src/portal/web/state.ts');
});
beforeEach(() => {
  questions = [];
  state.clusters.value = undefined;
  state.gateways.value = undefined;
  state.openCluster.value = undefined;
});

function follow(id?: string): Stream {
  state.follow(id);
  return Stream.all.at(-1) as Stream;
}

/** As its page does: what the portal says first, then the stream. */
function open(id: string): Stream {
  state.openCluster.value = cluster(id, 'first') as unknown as State['openCluster']['value'];
  return follow(id);
}

it('keeps what the stream tells before the first lists have come', async () => {
  const stream = follow();
  stream.say('hello', { now: 0 });
  stream.say('cluster', cluster('a', 'new'));
  stream.say('cluster', cluster('c', 'just made'));
  stream.say('gateway', { id: 'g', said: 'new' });
  stream.say('gone', { kind: 'gateway', id: 'h' });
  await answerLists(
    [cluster('a', 'old'), cluster('b', 'as it was')],
    [
      { id: 'g', said: 'old' },
      { id: 'h', said: 'old' },
    ],
  );
  expect(state.clusters.value).toEqual([
    cluster('a', 'new'),
    cluster('b', 'as it was'),
    cluster('c', 'just made'),
  ]);
  expect(state.gateways.value).toEqual([{ id: 'g', said: 'new' }]);
});

it('takes a cluster out of the lists that was deleted while they were asked for', async () => {
  const stream = follow();
  stream.say('hello', { now: 0 });
  stream.say('cluster', { ...cluster('a', 'deleted'), deletedAt: '2026-01-01T00:00:00Z' });
  await answerLists([cluster('a', 'old'), cluster('b', 'as it was')]);
  expect(state.clusters.value).toEqual([cluster('b', 'as it was')]);
});

it('keeps a cluster that is deleted while the deleted ones are asked for', async () => {
  const stream = follow();
  const deleted = { ...cluster('a', 'deleted'), deletedAt: '2026-01-01T00:00:00Z' };
  const loading = state.loadDeleted();
  stream.say('cluster', deleted);
  stream.say('cluster', cluster('b', 'lives'));
  await answer('/clusters?deleted=72h', { items: [] });
  await loading;
  expect(state.deletedClusters.value).toEqual([deleted]);
});

it('an answer about the cluster that is open counts though the stream of the lists has told of it', async () => {
  const lists = follow();
  const stream = open('a');
  stream.say('hello', { now: 0 });
  // What it tells happened before the other stream began, which therefore never tells of it.
  lists.say('cluster', cluster('a', 'summary'));
  await answer('/clusters/a', cluster('a', 'whole'));
  expect(state.openCluster.value).toEqual(cluster('a', 'whole'));
});

it('lists that were asked for count though the stream of the open cluster has told of it', async () => {
  const lists = follow();
  const stream = open('a');
  lists.say('hello', { now: 0 });
  await answerLists([cluster('a', 'first')]);
  lists.say('hello', { now: 0 });
  stream.say('cluster', cluster('a', 'whole'));
  await answerLists([cluster('a', 'summary')]);
  expect(state.clusters.value).toEqual([cluster('a', 'summary')]);
});

it('what the stream has told of the open cluster is newer than an answer, unless that made a generation', async () => {
  const stream = open('a');
  stream.say('hello', { now: 0 });
  stream.say('cluster', cluster('a', 'told'));
  await answer('/clusters/a', cluster('a', 'late'));
  expect(state.openCluster.value).toEqual(cluster('a', 'told'));
  const reply = Promise.withResolvers<never>();
  const shown = state.show(reply.promise);
  stream.say('cluster', cluster('a', 'told again'));
  reply.resolve(cluster('a', 'changed', 2) as never);
  await shown;
  expect(state.openCluster.value).toEqual(cluster('a', 'changed', 2));
});

it('an answer about a cluster whose page was left does not hide the one that is open', async () => {
  open('a');
  const reply = Promise.withResolvers<never>();
  const shown = state.show(reply.promise);
  open('b');
  reply.resolve(cluster('a', 'late') as never);
  await shown;
  expect(state.openCluster.value).toEqual(cluster('b', 'first'));
});
