/** Questions of `pcg clusters` to a person at a terminal: a real one, made by `script` of Debian's bsdutils. */
import { spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { describeWith } from '../support/needs.ts';
import { create, portalSite, type PortalSite } from '../support/portal-site.ts';
import { bareEnvironment, ENTRY } from '../support/program.ts';

const CTRL_C = '\u0003';
const CTRL_D = '\u0004';

/** Runs a command at a terminal and presses keys once the question is there. `shown`: all that the terminal showed. */
async function typing(
  environment: Record<string, string>,
  command: string,
  question: string,
  keys: string,
): Promise<{ code: number | null; shown: string }> {
  const child = spawn('script', ['-qec', `${process.execPath} ${ENTRY} ${command}`, '/dev/null'], {
    env: { ...bareEnvironment(), TERM: 'xterm', ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let shown = '';
  const asked = Promise.withResolvers<void>();
  child.stdout.on('data', (chunk) => {
    shown += String(chunk);
    if (shown.includes(question)) asked.resolve();
  });
  const ended = new Promise<number | null>((resolve) => void child.once('close', resolve));
  await Promise.race([asked.promise, ended]);
  child.stdin.write(keys);
  return { code: await ended, shown };
}

describeWith(['script'], 'questions at the terminal', () => {
  async function site() {
    await using stack = new AsyncDisposableStack();
    const s: PortalSite = stack.use(await portalSite());
    const { token } = (await s.portal.call('POST', '/api/v1/tokens', { name: 'cli' })).body;
    const id = (await create(s.portal)).body.id as string;
    const environment = { PCG_PORTAL_URL: s.portal.url, PCG_PORTAL_TOKEN: token as string };
    const running = stack.move();
    return {
      generation: async () =>
        (await s.portal.call('GET', `/api/v1/clusters/${id}`)).body.generation as number,
      at: (command: string, question: string, keys: string) => typing(environment, command, question, keys),
      [Symbol.asyncDispose]: () => running.disposeAsync(),
    };
  }

  it('a yes changes the cluster; a no, Ctrl-D and Ctrl-C change nothing and end with 3, 3 and 130', async () => {
    await using s = await site();
    const scale = (keys: string) =>
      s.at('clusters scale prod workers=1', 'release 1 machine(s) of prod? [y/N]', keys);
    for (const [keys, code] of [
      ['n\r', 3],
      ['\r', 3],
      [CTRL_D, 3],
      [CTRL_C, 130],
    ] as const) {
      const ended = await scale(keys);
      expect(ended).toMatchObject({ code, shown: expect.not.stringContaining('INTERNAL') });
      if (code === 3) expect(ended.shown).toContain('nothing was changed');
    }
    expect(await s.generation()).toBe(1);
    expect((await scale('Yes\r')).code).toBe(0);
    expect(await s.generation()).toBe(2);
  });

  it('aborts only at a yes, and deletes only when the name is typed', async () => {
    await using s = await site();
    const abort = (keys: string) => s.at('clusters abort prod', 'release its machines? [y/N]', keys);
    expect((await abort('q\r')).code).toBe(3);
    expect(await s.at('clusters delete prod', 'Type prod to confirm:', 'prop\r')).toMatchObject({
      code: 3,
      shown: expect.stringContaining('the name does not match'),
    });
    // Typed right, it is the portal that refuses: what is not provisioned is aborted.
    expect(await s.at('clusters delete prod', 'Type prod to confirm:', 'prod\r')).toMatchObject({
      code: 9,
      shown: expect.stringContaining('CLUSTER_NOT_DELETABLE'),
    });
    expect(await s.generation()).toBe(1);
    expect((await abort('y\r')).code).toBe(0);
    expect(await s.generation()).toBe(2);
  });

  it('never asks with --no-input or in CI, even at a terminal', async () => {
    await using s = await site();
    expect(await s.at('clusters scale prod workers=1 --no-input', 'Add --yes.', '')).toMatchObject({
      code: 2,
    });
    expect(await s.at('clusters delete prod --no-input', 'Add --confirm prod.', '')).toMatchObject({
      code: 2,
    });
  });
});
