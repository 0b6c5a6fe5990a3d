/** The list of all machines of a MAAS user: shared by whoever asks at the same time, never older than the question. */
import { describe, expect, it } from 'vitest';
import { createAskOwned } from '../../src/cluster/owned.ts';
import type { MaasClient, Machine } from '../../src/maas/client.ts';
import { FakeSite, fakeMachine } from '../support/fake-site.ts';

/** Of somebody who does not leave. */
const signal = () => new AbortController().signal;

/** Lists that end when the test says so; each answers with what was there when it began. */
function heldBack() {
  const lists: { readonly begun: number; readonly signal: AbortSignal; end(): void; fail(): void }[] = [];
  let time = 0;
  const maas = {
    ...new FakeSite(0).client(),
    whoami: async () => ({ username: 'gateway', isAdmin: false }),
    machines: {
      list: (_filter: unknown, aborted: AbortSignal) => {
        const begun = (time += 1);
        const answer = Promise.withResolvers<Machine[]>();
        const stamp = { 'pcg-gateway': 'g', 'pcg-cluster': 'c', 'pcg-node': 'n', 'pcg-operation': 'o' };
        const machine = fakeMachine(1, { owner: 'gateway', annotations: stamp, cpuCount: begun });
        aborted.addEventListener('abort', () => answer.reject(aborted.reason));
        lists.push({
          begun,
          signal: aborted,
          end: () => answer.resolve([machine]),
          fail: () => answer.reject(new Error('MAAS is down')),
        });
        return answer.promise;
      },
    },
  } as unknown as MaasClient;
  const settle = () => new Promise(setImmediate);
  return { lists, ask: createAskOwned(maas), now: () => (time += 1), settle };
}

describe('machines of the MAAS user', () => {
  it('costs at most two lists however many ask at once, and no answer is older than its question', async () => {
    const { lists, ask, now, settle } = heldBack();
    const answers: Promise<{ asked: number; begun: number }>[] = [];
    const question = async () => {
      const asked = now();
      const [first] = await ask(signal());
      return { asked, begun: first?.machine.cpuCount ?? 0 };
    };
    for (let index = 0; index < 20; index += 1) answers.push(question());
    await settle();
    expect(lists).toHaveLength(1);
    for (let index = 0; index < 20; index += 1) answers.push(question()); // while the first list runs
    await settle();
    expect(lists).toHaveLength(1);
    lists[0]?.end();
    await settle();
    expect(lists).toHaveLength(2);
    lists[1]?.end();
    for (const { asked, begun } of await Promise.all(answers)) expect(begun).toBeGreaterThan(asked);
    expect(lists).toHaveLength(2);
  });

  it('is listed again for whoever asks when nothing runs: nothing is kept', async () => {
    const { lists, ask, settle } = heldBack();
    for (const round of [1, 2]) {
      const answer = ask(signal());
      await settle();
      expect(lists).toHaveLength(round);
      lists[round - 1]?.end();
      await answer;
    }
  });

  it('goes on for the others when one leaves, ends when all have left, and the next one gets a list of its own', async () => {
    const { lists, ask, settle } = heldBack();
    const [one, two] = [new AbortController(), new AbortController()];
    const answers = Promise.allSettled([ask(one.signal), ask(two.signal)]);
    await settle();
    one.abort();
    await settle();
    expect(lists[0]?.signal.aborted).toBe(false);
    two.abort();
    expect((await answers).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await settle();
    expect(lists[0]?.signal.aborted).toBe(true);
    const third = ask(signal());
    await settle();
    lists[1]?.end();
    expect(await third).toHaveLength(1);
  });

  it('hands a failure to those who waited for it, and to nobody else', async () => {
    const { lists, ask, settle } = heldBack();
    const first = ask(signal());
    await settle();
    const second = ask(signal());
    lists[0]?.fail();
    await expect(first).rejects.toThrow('MAAS is down');
    await settle();
    lists[1]?.end();
    expect(await second).toHaveLength(1);
  });
});
