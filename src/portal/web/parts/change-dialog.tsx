/** The frame of every change of a living cluster: saved against the generation that was looked at. */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import type { Cluster } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { show } from '../state.ts';
import { Dialog, Loading, ProblemBox } from './basics.tsx';
import { useTask } from './task.ts';

export interface ChangeProps {
  /** As it was when the dialog opened. */
  cluster: Cluster;
  onClose: () => void;
  /** Opens the dialog again on the newest generation. */
  onReload: () => Promise<void>;
}

export function ChangeDialog({
  title,
  verb,
  wide = false,
  missing,
  wanted,
  children,
  cluster,
  onClose,
  onReload,
}: ChangeProps & {
  title: string;
  verb: string;
  wide?: boolean;
  /** What is still to be given, or undefined. */
  missing?: string | undefined;
  /** The whole specification, as a request may give it. */
  wanted: () => object;
  children: (errorOf: (field: string) => string | undefined) => ComponentChildren;
}) {
  const { busy, problem, run, errorOf } = useTask();
  const submit = async (event: Event) => {
    event.preventDefault();
    if (missing !== undefined) return;
    const saved = await run(async () => {
      await show(
        api<Cluster>('PUT', `/clusters/${cluster.id}/spec`, {
          generation: cluster.generation,
          spec: wanted(),
        }),
      );
    });
    if (saved) onClose();
  };
  const reloading = useSignal(false);
  const reload = async () => {
    reloading.value = true;
    await run(onReload);
    reloading.value = false;
  };
  const overtaken = problem.value?.code === 'CONFLICT' && problem.value.field === 'generation';
  return (
    <Dialog title={title} onClose={onClose} wide={wide}>
      <form onSubmit={submit}>
        {/* what is typed into the old form would be lost with it */}
        {reloading.value ? <Loading /> : children(errorOf)}
        {problem.value ? (
          <ProblemBox
            problem={problem.value}
            title={overtaken ? 'Somebody else changed the cluster meanwhile' : 'Nothing was changed'}
          />
        ) : null}
        <div class="actions end">
          {missing ? <span class="sub">{missing}</span> : null}
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          {overtaken ? (
            <button type="button" class="button primary" disabled={busy.value} onClick={reload}>
              Start again from the newest
            </button>
          ) : (
            <button type="submit" class="button primary" disabled={busy.value || missing !== undefined}>
              {busy.value ? 'Saving…' : verb}
            </button>
          )}
        </div>
      </form>
    </Dialog>
  );
}
