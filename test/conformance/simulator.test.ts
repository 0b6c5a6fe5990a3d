/** Every recorded exchange with a real MAAS 3.5, repeated against the simulator. */
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../support/maas-recordings.ts';
import { compare } from './compare.ts';
import { DEVIATIONS, NOT_EXCHANGES } from './deviations.ts';
import { drive, exchanges, type Finding, isExchange } from './drive.ts';

const FILES = ['01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11'];

const aspectsOf = ({ differences }: Finding): string[] => [
  ...new Set(
    differences.map(({ aspect }) =>
      /^(missing|extra|type) /.test(aspect) ? 'fields' : (aspect.split(' ')[0] ?? ''),
    ),
  ),
];

const line = (name: string, aspects: readonly string[]): string =>
  `${name}: ${[...aspects].sort().join(', ')}`;

describe.each(FILES)('recordings %s', (file) => {
  it('are answered alike, save for the listed deviations', async () => {
    const findings = await drive(file);
    const recorded = exchanges.filter((exchange) => exchange.file.startsWith(file));
    expect(findings.length + (NOT_EXCHANGES[file]?.count ?? 0)).toBe(recorded.length);
    const differing = findings.filter((finding) => finding.differences.length > 0);
    const expected = DEVIATIONS.filter((deviation) => deviation.file.startsWith(file));
    expect(
      differing.map((finding) => line(finding.name, aspectsOf(finding))).sort(),
      JSON.stringify(differing, null, 1).slice(0, 4000),
    ).toEqual(expected.map((deviation) => line(deviation.name, deviation.aspects)).sort());
  });
});

describe('the comparison', () => {
  const find = (name: string): Exchange => {
    const exchange = exchanges.find((one) => one.name === name);
    if (!exchange) throw new Error(`no recording named ${name}`);
    return exchange;
  };
  const answer = (exchange: Exchange, change: { status?: number; body?: string; drop?: string } = {}) => ({
    status: change.status ?? exchange.response.status ?? 0,
    headers: new Map(
      exchange.response.headers
        .map(([name, value]): [string, string] => [name.toLowerCase(), value])
        .filter(([name]) => name !== change.drop),
    ),
    body: Buffer.from(change.body ?? exchange.response.body ?? ''),
  });

  it('finds nothing in the recorded answers themselves', () => {
    const differing = exchanges
      .filter(
        (exchange) =>
          isExchange(exchange) && exchange.response.body !== null && exchange.response.status !== 100,
      )
      .filter((exchange) => compare(exchange, answer(exchange)).length > 0);
    expect(differing.map((exchange) => exchange.name)).toEqual([]);
  });

  it('notices another status, a lost Retry-After, a lost field, another type and other words', () => {
    const conflict = find('user create duplicate');
    const zone = find('zone read');
    const refusal = find('allocate mem=99999999');
    const lostField = JSON.stringify({ ...JSON.parse(zone.response.body ?? ''), id: undefined });
    const otherType = JSON.stringify({ ...JSON.parse(zone.response.body ?? ''), id: '2' });
    expect(compare(zone, answer(zone, { status: 201 }))[0]?.aspect).toBe('status');
    expect(compare(conflict, answer(conflict, { drop: 'retry-after' }))[0]?.aspect).toBe(
      'header retry-after',
    );
    expect(compare(zone, answer(zone, { body: lostField }))[0]?.aspect).toBe('missing $.id');
    expect(compare(zone, answer(zone, { body: otherType }))[0]?.aspect).toBe('type $.id');
    expect(compare(refusal, answer(refusal, { body: 'No machine available.' }))[0]?.aspect).toBe('text');
  });

  it('counts what it leaves out', () => {
    for (const file of FILES) {
      const left = exchanges.filter((one) => one.file.startsWith(file) && !isExchange(one)).length;
      expect([file, left]).toEqual([file, NOT_EXCHANGES[file]?.count ?? 0]);
    }
  });
});
