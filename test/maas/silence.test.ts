/** For how long a region has said nothing although it was asked. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Silence } from '../../src/maas/silence.ts';

describe('the silence of a region', () => {
  it('begins with the first question that gets no answer, and ends with any answer', () => {
    const silence = new Silence();
    expect(silence.lasts(1_000)).toBe(0);
    silence.asked(1_000);
    silence.asked(5_000);
    expect(silence.lasts(11_000)).toBe(10_000);
    // one of two is answered: the other is open from here on
    silence.answered(12_000);
    silence.over(false);
    expect(silence.lasts(15_000)).toBe(3_000);
    silence.answered(16_000);
    silence.over(false);
    expect(silence.lasts(1e9)).toBe(0);
  });

  it('lasts when what was asked is lost, and not when it was withdrawn', () => {
    const silence = new Silence();
    silence.asked(1_000);
    silence.over(false);
    expect(silence.lasts(9_000)).toBe(0);
    silence.asked(10_000);
    silence.over(true);
    silence.asked(20_000);
    silence.over(false);
    expect(silence.lasts(30_000)).toBe(20_000);
    silence.asked(30_000);
    silence.answered(31_000);
    silence.over(false);
    expect(silence.lasts(40_000)).toBe(0);
  });

  it('is 0 whenever nothing is open and the newest question was answered', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('ask', 'answer', 'lose', 'withdraw'), { maxLength: 60 }),
        (steps) => {
          const silence = new Silence();
          let now = 0;
          let open = 0;
          for (const step of steps) {
            now += 1;
            if (step === 'ask') {
              open += 1;
              silence.asked(now);
            } else if (open > 0) {
              open -= 1;
              if (step === 'answer') silence.answered(now);
              silence.over(step === 'lose');
            }
            expect(silence.lasts(now)).toBeLessThanOrEqual(now);
          }
          silence.asked(now);
          silence.answered(now);
          for (; open >= 0; open -= 1) silence.over(false);
          expect(silence.lasts(now + 1e6)).toBe(0);
        },
      ),
    );
  });
});
