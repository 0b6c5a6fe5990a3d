import { describe, expect, it } from 'vitest';
import { Faults, FaultSyntaxError, faultCatalogue, parseFault } from '../../../src/simulator/maas/faults.ts';

describe('fault grammar', () => {
  it.each([
    ['lost-reply', { name: 'lost-reply', value: undefined, left: Number.POSITIVE_INFINITY, filter: '' }],
    ['lost-reply:0.05', { when: { kind: 'chance', p: 0.05 } }],
    ['deploy-stuck:2', { when: { kind: 'count' }, left: 2 }],
    ['slow=2000:0.1@machines', { value: 2000, when: { kind: 'chance', p: 0.1 }, filter: 'machines' }],
    ['power-failure:1@rack-a', { when: { kind: 'count' }, left: 1, filter: 'rack-a' }],
    ['clock-skew=-600', { value: -600, when: { kind: 'always' } }],
    ['http-503:1.0', { when: { kind: 'chance', p: 1 } }],
    ['wrong-machine@gw.cluster:1', { filter: 'gw.cluster:1' }],
  ])('reads %s', (text, expected) => {
    expect(parseFault(text)).toMatchObject(expected);
  });

  it.each([
    ['lost-replay', 'did you mean lost-reply?'],
    ['', 'known: lost-reply'],
    ['slow=fast', 'the value after "=" must be a number'],
    ['lost-reply:1.5', 'a probability (0.05) or a count (2)'],
    ['lost-reply:-1', 'a probability (0.05) or a count (2)'],
    ['lost-reply:', 'a probability (0.05) or a count (2)'],
    ['deploy-stuck@', 'the filter after "@" is empty'],
  ])('refuses %j and says why', (text, why) => {
    expect(() => parseFault(text)).toThrow(FaultSyntaxError);
    expect(() => parseFault(text)).toThrow(why);
  });

  it('explains every fault that it knows', () => {
    for (const { name, what } of faultCatalogue()) {
      expect(parseFault(name).name).toBe(name);
      expect(what.length).toBeGreaterThan(10);
    }
  });
});

describe('faults at work', () => {
  const strikes = (seed: number, text: string, times: number, subject = 'x'): boolean[] => {
    const faults = new Faults(seed, [parseFault(text)]);
    return Array.from({ length: times }, () => faults.strikes('lost-reply', subject) !== undefined);
  };

  it('strike the same way for the same seed and otherwise for another', () => {
    expect(strikes(1, 'lost-reply:0.3', 200)).toEqual(strikes(1, 'lost-reply:0.3', 200));
    expect(strikes(1, 'lost-reply:0.3', 200)).not.toEqual(strikes(2, 'lost-reply:0.3', 200));
  });

  it('strike about as often as asked', () => {
    const share = strikes(7, 'lost-reply:0.3', 2000).filter(Boolean).length / 2000;
    expect(share).toBeGreaterThan(0.25);
    expect(share).toBeLessThan(0.35);
  });

  it('run out when counted, and only count what the filter lets through', () => {
    expect(strikes(1, 'lost-reply:2', 4)).toEqual([true, true, false, false]);
    expect(strikes(1, 'lost-reply:2@deploy', 3, 'GET zones')).toEqual([false, false, false]);
    expect(strikes(1, 'lost-reply:1@DEPLOY', 2, 'POST machine deploy')).toEqual([true, false]);
  });

  it('draw independently, so that adding a rule moves no other', () => {
    const alone = new Faults(3, [parseFault('lost-reply:0.5')]);
    const both = new Faults(3, [parseFault('slow:0.5'), parseFault('lost-reply:0.5')]);
    const draw = (faults: Faults) =>
      Array.from({ length: 50 }, () => {
        faults.strikes('slow', 'x');
        return faults.strikes('lost-reply', 'x') !== undefined;
      });
    expect(draw(both)).toEqual(draw(alone));
  });
});
