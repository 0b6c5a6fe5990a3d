/** The typed confirmation before something is given up. */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { asProblem } from '../api.ts';
import { Dialog, ProblemBox, TextField } from './basics.tsx';
import { Icon } from './icons.tsx';

export function ConfirmDialog({
  title,
  name,
  verb,
  children,
  onConfirm,
  onClose,
}: {
  title: string;
  /** To be typed; undefined: a click is enough. */
  name?: string;
  verb: string;
  children: ComponentChildren;
  onConfirm: () => Promise<void>;
  onClose: () => void;
}) {
  const typed = useSignal('');
  const busy = useSignal(false);
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  const matches = name === undefined || typed.value === name;
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!matches || busy.value) return;
    busy.value = true;
    problem.value = undefined;
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      busy.value = false;
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="prose">{children}</div>
        {name === undefined ? null : (
          <TextField
            label={`Type ${name} to confirm`}
            value={typed.value}
            onInput={(value) => {
              typed.value = value;
            }}
            autofocus
          />
        )}
        {problem.value ? <ProblemBox problem={problem.value} /> : null}
        <div class="actions end">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button danger" disabled={!matches || busy.value}>
            <Icon name="trash" />
            {busy.value ? 'Working…' : verb}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
