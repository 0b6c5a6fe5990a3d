/** Cutting arrays at every possible place must give the same elements as parsing them whole. */
import { array, assert, constantFrom, dictionary, integer, jsonValue, property, string } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createElementCutter } from '../../src/maas/json-elements.ts';

/** All elements of `text`, fed in pieces of `size` bytes; undefined when it is not complete. */
function cut(text: string, size: number): unknown[] | undefined {
  const bytes = Buffer.from(text);
  const cutter = createElementCutter();
  const found: unknown[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    for (const element of cutter.feed(bytes.subarray(at, at + size))) found.push(JSON.parse(element));
  }
  return cutter.complete ? found : undefined;
}

describe('element cutter', () => {
  it('finds what JSON.parse finds, wherever the chunks end', () => {
    const objects = array(dictionary(string({ unit: 'binary' }), jsonValue()));
    assert(
      property(objects, integer({ min: 1, max: 9 }), constantFrom(undefined, 4), (value, size, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(cut(text, size)).toEqual(JSON.parse(text));
      }),
      { numRuns: 300 },
    );
  });

  it.each(['', '[', '[{"a": 1}', '[{"a": "]}'])('%j is not complete', (text) => {
    expect(cut(text, 1)).toBeUndefined();
  });

  it.each(['{"a": 1}', '"text"', '[1]', '["a"]', '[] []', '<html>', 'null', '[{}]x'])(
    '%j is refused',
    (text) => {
      expect(() => cut(text, 1)).toThrow(SyntaxError);
    },
  );
});
