/** One question to several servers: silence, failures and refusals of some of them, in a time of its own. */
import { describe, expect, it } from 'vitest';
import { firstAnswer } from '../../src/kube/first-answer.ts';
import { LeapingClock } from '../support/leaping-clock.ts';

class Refusal extends Error {}

type Server = 'silent' | 'dead' | 'refuses' | string;

function question(servers: readonly Server[], signal = new AbortController().signal) {
  const clock = new LeapingClock();
  const asked: string[] = [];
  const ended: string[] = [];
  const ask = async (server: Server, limited: AbortSignal): Promise<string> => {
    asked.push(`${server} at ${Math.round((clock.monotonic() - start) / 1000)} s`);
    if (server === 'dead') throw new Error('connection refused');
    if (server === 'refuses') throw new Refusal('not allowed');
    if (server !== 'silent') return server;
    return await new Promise((_resolve, reject) =>
      limited.addEventListener('abort', () => {
        ended.push(server);
        reject(limited.reason as Error);
      }),
    );
  };
  const start = clock.monotonic();
  const answer = firstAnswer(servers, ask, {
    patienceMs: 1000,
    isFinal: (error) => error instanceof Refusal,
    clock,
    signal,
  });
  return { answer, asked, ended, clock };
}

describe('the first of several servers that answers', () => {
  it('is the only one that is asked when it answers', async () => {
    const { answer, asked, clock } = question(['one', 'two']);
    using _clock = clock;
    expect(await answer).toBe('one');
    expect(asked).toEqual(['one at 0 s']);
  });

  it('is found behind others that are silent or dead, and nobody is kept waiting', async () => {
    const { answer, asked, ended, clock } = question(['silent', 'dead', 'silent', 'four', 'five']);
    using _clock = clock;
    expect(await answer).toBe('four');
    expect(asked).toEqual(['silent at 0 s', 'dead at 1 s', 'silent at 1 s', 'four at 2 s']);
    expect(ended).toEqual(['silent', 'silent']);
  });

  it('may have answered that it will not: nobody else is asked', async () => {
    const { answer, asked, clock } = question(['dead', 'refuses', 'three']);
    using _clock = clock;
    await expect(answer).rejects.toBeInstanceOf(Refusal);
    expect(asked).toHaveLength(2);
  });

  it('is nobody: the last failure is the error', async () => {
    const { answer, clock } = question(['dead', 'dead']);
    using _clock = clock;
    await expect(answer).rejects.toThrow('connection refused');
  });

  it('is waited for until the caller gives up', async () => {
    const caller = new AbortController();
    const { answer, ended, clock } = question(['silent', 'silent'], caller.signal);
    using _clock = clock;
    void clock.sleep(5000).then(() => caller.abort(new Error('deadline')));
    await expect(answer).rejects.toThrow('deadline');
    expect(ended).toHaveLength(2);
  });
});
