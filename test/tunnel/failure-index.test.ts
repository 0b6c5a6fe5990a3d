/** The table of failures in docs/tunnel-protocol.md names tests that exist, for every number. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const FAILURES = 78;
const root = new URL('../../', import.meta.url);
const rows = [
  ...readFileSync(new URL('docs/tunnel-protocol.md', root), 'utf8').matchAll(
    /^\| (\d+) \| (-|test\/\S+) \| (.+) \|$/gm,
  ),
].map(([, number, file, words]) => ({
  number: Number(number),
  file: file as string,
  words: words as string,
}));

it('every failure is in the table', () => {
  const numbers = new Set(rows.map(({ number }) => number));
  expect(Array.from({ length: FAILURES }, (_, at) => at + 1).filter((one) => !numbers.has(one))).toEqual([]);
});

it.each(rows)('$number: $words', ({ file, words }) => {
  if (file === '-') {
    expect(words).toMatch(/^does not apply: .{20}/);
    return;
  }
  const titles = readFileSync(new URL(file, root), 'utf8')
    .split('\n')
    .filter((line, at, all) =>
      /\b(it|test|describe|describeWith)\b.*\(/.test(`${all[at - 1] ?? ''} ${line}`),
    );
  expect(
    titles.some((line) => line.includes(words)),
    `${file} has no test "${words}"`,
  ).toBe(true);
});
