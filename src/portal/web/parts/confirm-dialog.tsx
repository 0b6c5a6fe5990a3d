/** The typed confirmation before something is given up. */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { Dialog, ProblemBox } from './basics.tsx';
import { TextField } from './fields.tsx';
import { Icon } from './icons.tsx';
import { useTask } from './task.ts';

export function ConfirmDialog({
  title,
  name,
  verb,
  calm = false,
  children,
  onConfirm,
  onClose,
}: {
  title: string;
  /** To be typed; undefined: a click is enough. */
  name?: string;
  verb: string;
  /** Nothing is lost by it. */
  calm?: boolean;
  children: ComponentChildren;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
}) {
  const typed = useSignal('');
  const { busy, problem, run } = useTask();
  const matches = name === undefined || typed.value === name;
  const submit = async (event: Event) => {
    event.preventDefault();
    if (matches && (await run(onConfirm))) onClose();
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
          <button
            type="submit"
            class={calm ? 'button primary' : 'button danger'}
            disabled={!matches || busy.value}
          >
            <Icon name={calm ? 'ok' : 'trash'} />
            {busy.value ? 'Working…' : verb}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
