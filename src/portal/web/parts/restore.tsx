/** The newest backups of a cluster; what was lost comes back from any that is whole. */
import { useSignal } from '@preact/signals';
import type { Cluster, ClusterStatus } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { openCluster } from '../state.ts';
import { ConfirmDialog } from './confirm-dialog.tsx';
import { words } from './draft.ts';
import { TextField } from './fields.tsx';
import { Icon } from './icons.tsx';

/** Phases of Velero from which it restores. */
const RESTORABLE: ReadonlySet<unknown> = new Set(['Completed', 'PartiallyFailed']);

/** Names of the backups that a result lists, newest first; a backup that failed lists those before it. */
export function backupsOf(result: ClusterStatus['policies'][number] | undefined): string[] {
  const listed = result?.summary['backups'] ?? result?.error?.details?.['backups'];
  return (Array.isArray(listed) ? (listed as unknown[]) : []).flatMap((entry) => {
    const { name, phase } = (entry ?? {}) as { name?: unknown; phase?: unknown };
    return typeof name === 'string' && RESTORABLE.has(phase) ? [name] : [];
  });
}

export function Restore({ cluster, backups }: { cluster: Cluster; backups: readonly string[] }) {
  const chosen = useSignal<string | undefined>(undefined);
  const namespaces = useSignal('');
  const backup = chosen.value;
  return (
    <>
      <ul class="findings">
        {backups.map((name) => (
          <li key={name}>
            <code>{name}</code>{' '}
            <button
              type="button"
              class="button small"
              aria-label={`Restore ${name}`}
              onClick={() => {
                chosen.value = name;
              }}
            >
              <Icon name="retry" /> Restore
            </button>
          </li>
        ))}
      </ul>
      {backup === undefined ? null : (
        <ConfirmDialog
          title={`Restore ${backup}`}
          verb="Restore"
          calm
          onClose={() => {
            chosen.value = undefined;
          }}
          onConfirm={async () => {
            openCluster.value = await api<Cluster>('POST', `/clusters/${cluster.id}/actions`, {
              kind: 'restore-backup',
              backup,
              namespaces: words(namespaces.value),
            });
          }}
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
      )}
    </>
  );
}
