/** Questions to the site behind a cloud account, asked again when what they are about changes. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Inventory, PlacementReport } from '../../../contract/api.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { api, asProblem } from '../api.ts';
import { sessionEnded } from '../state.ts';

/** After the last keystroke; the question goes to the site and back. */
const EXPLAIN_DELAY_MS = 400;

export interface Answer<T> {
  readonly value: T | undefined;
  readonly problem: ProblemDetails | undefined;
}

/** Zones, pools, domains, subnets. No account: no question. */
export function useInventory(account: string): Answer<Inventory> {
  const answer = useSignal<Answer<Inventory>>(NOTHING);
  useEffect(() => {
    answer.value = NOTHING;
    if (account === '' || sessionEnded.value) return;
    const stop = new AbortController();
    api<Inventory>('GET', `/cloud-accounts/${account}/inventory`, undefined, { signal: stop.signal })
      .then((value) => {
        answer.value = { value, problem: undefined };
      })
      .catch((error: unknown) => {
        if (!stop.signal.aborted) answer.value = { value: undefined, problem: asProblem(error) };
      });
    return () => stop.abort();
  }, [account, sessionEnded.value]);
  return answer.value;
}

/** X4: would these pools find machines now? The last answer stays until the next one; undefined asks nothing. */
export function usePlacement(account: string, wanted: object | undefined): Answer<PlacementReport> {
  const answer = useSignal<Answer<PlacementReport>>(NOTHING);
  const question = wanted === undefined || account === '' ? undefined : JSON.stringify(wanted);
  useEffect(() => {
    if (question === undefined || sessionEnded.value) {
      answer.value = NOTHING;
      return;
    }
    const stop = new AbortController();
    const timer = setTimeout(() => {
      api<PlacementReport>('POST', `/cloud-accounts/${account}/explain`, JSON.parse(question), {
        signal: stop.signal,
      })
        .then((value) => {
          answer.value = { value, problem: undefined };
        })
        .catch((error: unknown) => {
          if (!stop.signal.aborted) answer.value = { value: undefined, problem: asProblem(error) };
        });
    }, EXPLAIN_DELAY_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [question, account, sessionEnded.value]);
  return answer.value;
}

const NOTHING = { value: undefined, problem: undefined };
