/** Collects measurements: median, least and largest of several runs, one JSON line each, and what follows from them. */

export interface Measurement {
  readonly case: string;
  /** `pcg`, or the baseline's name. */
  readonly subject: string;
  readonly unit: string;
  readonly values: readonly number[];
}

/** A bar of the product: our value against a baseline of the same run, or against a fixed bound. */
export type Bar =
  | { readonly case: string; readonly kind: 'ratio'; readonly baseline: string; readonly atLeast: number }
  | { readonly case: string; readonly kind: 'at-most'; readonly value: number }
  | { readonly case: string; readonly kind: 'at-least'; readonly value: number };

export class Results {
  readonly #bench: string;
  readonly #json: boolean;
  readonly #medians = new Map<string, number>();
  readonly #bars: Bar[] = [];

  constructor(bench: string, json: boolean) {
    this.#bench = bench;
    this.#json = json;
  }

  /** Records and prints one measurement. */
  add({ case: name, subject, unit, values }: Measurement): void {
    if (values.length === 0) throw new Error(`${name}/${subject}: nothing was measured`);
    const value = median(values);
    this.#medians.set(`${name}/${subject}`, value);
    const line = {
      bench: this.#bench,
      case: name,
      subject,
      value: round(value),
      unit,
      runs: values.length,
      min: round(Math.min(...values)),
      max: round(Math.max(...values)),
    };
    if (this.#json) process.stdout.write(`${JSON.stringify(line)}\n`);
    else
      process.stdout.write(
        `${name.padEnd(36)} ${subject.padEnd(10)} ${String(line.value).padStart(12)} ${unit}  (${line.min} - ${line.max}, ${line.runs} runs)\n`,
      );
  }

  /** A case that cannot be measured here: said loudly, never left out in silence. */
  skip(name: string, subject: string, why: string): void {
    process.stderr.write(`NOT MEASURED ${name} ${subject}: ${why}\n`);
  }

  expect(bar: Bar): void {
    this.#bars.push(bar);
  }

  /** Ratios and verdicts, for people. */
  summarise(): void {
    for (const bar of this.#bars) {
      const ours = this.#medians.get(`${bar.case}/pcg`);
      if (ours === undefined) continue;
      const base = bar.kind === 'ratio' ? this.#medians.get(`${bar.case}/${bar.baseline}`) : bar.value;
      if (base === undefined) continue;
      const shown = bar.kind === 'ratio' ? ours / base : ours;
      const met =
        bar.kind === 'ratio' ? shown >= bar.atLeast : bar.kind === 'at-most' ? ours <= base : ours >= base;
      const wanted =
        bar.kind === 'ratio'
          ? `>= ${bar.atLeast} x ${bar.baseline}`
          : bar.kind === 'at-most'
            ? `<= ${base}`
            : `>= ${base}`;
      process.stderr.write(
        `${met ? 'met   ' : 'MISSED'} ${bar.case.padEnd(36)} ${round(shown)} (${wanted})\n`,
      );
    }
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/** The q-quantile (0..1) by nearest rank. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
