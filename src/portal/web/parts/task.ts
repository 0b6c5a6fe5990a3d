/** One request at a time and the problem that it ended with: what every form and button needs. */
import { type Signal, useSignal } from '@preact/signals';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { asProblem } from '../api.ts';

export interface Task {
  readonly busy: Signal<boolean>;
  readonly problem: Signal<ProblemDetails | undefined>;
  /** True when it succeeded. A second call while one runs does nothing. */
  readonly run: (work: () => Promise<unknown>) => Promise<boolean>;
  /** What is wrong with a field, when the problem names it. */
  readonly errorOf: (field: string) => string | undefined;
}

export function useTask(): Task {
  const busy = useSignal(false);
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  return {
    busy,
    problem,
    run: async (work) => {
      if (busy.value) return false;
      busy.value = true;
      problem.value = undefined;
      try {
        await work();
        return true;
      } catch (error) {
        problem.value = asProblem(error);
        // The first wrong field, once it is drawn as such.
        requestAnimationFrame(() => document.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
        return false;
      } finally {
        busy.value = false;
      }
    },
    errorOf: (field) => fieldError(problem.value, field),
  };
}

/** The portal names the first field and lists all of them as evidence. */
export function fieldError(problem: ProblemDetails | undefined, field: string): string | undefined {
  if (!problem) return undefined;
  const issues = problem.details?.['issues'];
  const listed = Array.isArray(issues)
    ? issues.find((issue: { field?: string; message?: string }) => issue.field === field)
    : undefined;
  const message = listed?.message ?? (problem.field === field ? problem.message : undefined);
  return typeof message === 'string' ? message.replace(`${field}: `, '') : undefined;
}
