import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { MAX_WAITING_BYTES } from '../../src/base/log-destination.ts';

it('77: what nobody reads waits within a bound, and what was dropped is counted when it flows again', async () => {
  const got: string[] = [];
  let release: (() => void) | undefined;
  let stuck = true;
  const pipe = new Writable({
    decodeStrings: false,
    write(line: string, _encoding, done) {
      got.push(line);
      if (stuck) release = done;
      else done();
    },
  });
  const log = createLog({ name: 'x', destination: pipe });
  for (let n = 0; n < 20_000; n += 1) log.info({ n, filler: 'x'.repeat(1000) }, 'line');
  expect(pipe.writableLength).toBeGreaterThan(MAX_WAITING_BYTES / 2);
  expect(pipe.writableLength).toBeLessThan(MAX_WAITING_BYTES + 4096);
  stuck = false;
  release?.();
  await setImmediate();
  log.info('after');
  const lines = got.map((line) => JSON.parse(line) as { msg: string; dropped?: number });
  const note = lines.at(-2);
  expect(note?.msg).toContain('dropped');
  expect(lines.filter(({ msg }) => msg === 'line').length + (note?.dropped ?? 0)).toBe(20_000);
  expect(lines.at(-1)?.msg).toBe('after');
});

it('77: a reader that is gone ends nothing', async () => {
  const pipe = new Writable({
    write: (_line, _encoding, done) => done(Object.assign(new Error('EPIPE'), { code: 'EPIPE' })),
  });
  const log = createLog({ name: 'x', destination: pipe });
  log.info('one');
  await new Promise((resolve) => pipe.once('close', resolve));
  log.info('two');
  expect(pipe.destroyed).toBe(true);
});
