/** The newest backups of a cluster: what was lost comes back from any that is whole, and any that has ended can go. */
import { useSignal } from '@preact/signals';
import type { Cluster, ClusterStatus } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { show } from '../state.ts';
import { ConfirmDialog } from './confirm-dialog.tsx';
import { words } from './draft.ts';
import { TextField } from './fields.tsx';
import { Icon } from './icons.tsx';

/** Phases of Velero from which it restores. */
const RESTORABLE: ReadonlySet<string> = new Set(['Completed', 'PartiallyFailed']);
/** Those in which it deletes: one that is being made has to end first. `Deleting` is also what stays when it could not. */
const DELETABLE: ReadonlySet<string> = new Set([...RESTORABLE, 'Failed', 'FailedValidation', 'Deleting']);

interface Backup {
  readonly name: string;
  readonly phase: string;
  /** Why Velero could not delete it. */
  readonly deletion: string;
}

/** The backups that a result lists, newest first; a result that failed lists them in its error. */
export function backupsOf(result: ClusterStatus['policies'][number] | undefined): Backup[] {
  const listed = result?.summary['backups'] ?? result?.error?.details?.['backups'];
  return (Array.isArray(listed) ? (listed as unknown[]) : []).flatMap((entry) => {
    const { name, phase, deletion } = (entry ?? {}) as Record<string, unknown>;
    if (typeof name !== 'string' || typeof phase !== 'string') return [];
    return [{ name, phase, deletion: typeof deletion === 'string' ? deletion : '' }];
  });
}

type Question = { readonly kind: 'restore' | 'delete'; readonly backup: string };

export function Backups({ cluster, backups }: { cluster: Cluster; backups: readonly Backup[] }) {
  const asked = useSignal<Question | undefined>(undefined);
  const question = asked.value;
  const close = () => {
    asked.value = undefined;
  };
  const ask = (kind: Question['kind'], backup: string) => () => {
    asked.value = { kind, backup };
  };
  return (
    <>
      <ul class="findings">
        {backups.map(({ name, phase, deletion }) => (
          <li key={name} data-backup={name}>
            <code>{name}</code> <span class="sub">{phase}</span>{' '}
            {RESTORABLE.has(phase) ? (
              <button
                type="button"
                class="button small"
                aria-label={`Restore ${name}`}
                onClick={ask('restore', name)}
              >
                <Icon name="retry" /> Restore
              </button>
            ) : null}{' '}
            {DELETABLE.has(phase) ? (
              <button
                type="button"
                class="button small"
                aria-label={`Delete ${name}`}
                onClick={ask('delete', name)}
              >
                <Icon name="trash" /> Delete
              </button>
            ) : null}
            {deletion === '' ? null : <span class="fix">Not deleted: {deletion}</span>}
          </li>
        ))}
      </ul>
      {question?.kind === 'restore' ? (
        <RestoreDialog cluster={cluster} backup={question.backup} onClose={close} />
      ) : null}
      {question?.kind === 'delete' ? (
        <DeleteDialog cluster={cluster} backup={question.backup} onClose={close} />
      ) : null}
    </>
  );
}

interface DialogProps {
  cluster: Cluster;
  backup: string;
  onClose: () => void;
}

async function act(cluster: Cluster, action: Record<string, unknown>): Promise<void> {
  await show(api<Cluster>('POST', `/clusters/${cluster.id}/actions`, action));
}

function RestoreDialog({ cluster, backup, onClose }: DialogProps) {
  const namespaces = useSignal('');
  return (
    <ConfirmDialog
      title={`Restore ${backup}`}
      verb="Restore"
      calm
      onClose={onClose}
      onConfirm={() => act(cluster, { kind: 'restore-backup', backup, namespaces: words(namespaces.value) })}
    >
      <p>What is missing in {cluster.spec.name} comes back; objects that exist stay as they are.</p>
      <TextField
        label="Namespaces"
        hint="Separated by commas; empty: all that the backup holds"
        value={namespaces.value}
        onInput={(value) => {
          namespaces.value = value;
        }}
      />
    </ConfirmDialog>
  );
}

function DeleteDialog({ cluster, backup, onClose }: DialogProps) {
  return (
    <ConfirmDialog
      title={`Delete ${backup}`}
      verb="Delete for good"
      onClose={onClose}
      onConfirm={() => act(cluster, { kind: 'delete-backup', backup })}
    >
      <p>
        Velero removes it from the bucket, with the volumes that were copied for it. There is no way back; the
        cluster itself is not touched.
      </p>
    </ConfirmDialog>
  );
}
