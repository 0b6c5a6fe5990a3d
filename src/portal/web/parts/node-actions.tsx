/** What can be done with one node: keep it empty for a while, or replace it. */
import { useSignal } from '@preact/signals';
import type { Cluster, NodeStatus } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { canWrite, show } from '../state.ts';
import { ConfirmDialog } from './confirm-dialog.tsx';
import { Icon } from './icons.tsx';

export function NodeActions({ cluster, node }: { cluster: Cluster; node: NodeStatus }) {
  const asked = useSignal<'replace' | 'maintain' | 'resume' | undefined>(undefined);
  if (!canWrite.value || cluster.intent.kind !== 'present' || !cluster.provisioned) return null;
  const act = (action: object) => async () => {
    await show(api<Cluster>('POST', `/clusters/${cluster.id}/actions`, { ...action, machine: node.name }));
  };
  const close = () => {
    asked.value = undefined;
  };
  const ask = (what: NonNullable<typeof asked.value>) => () => {
    asked.value = what;
  };
  return (
    <div class="actions">
      <button type="button" class="button small" onClick={ask(node.maintenance ? 'resume' : 'maintain')}>
        <Icon name={node.maintenance ? 'play' : 'skip'} />
        {node.maintenance ? 'End maintenance' : 'Maintain'}
      </button>
      <button type="button" class="button small danger" onClick={ask('replace')}>
        <Icon name="retry" /> Replace
      </button>
      {asked.value === 'replace' ? (
        <ConfirmDialog
          title={`Replace ${node.name}`}
          verb="Replace node"
          onClose={close}
          onConfirm={act({ kind: 'replace-node' })}
        >
          <p>
            Its workloads move away, its machine goes back to MAAS, and another one takes its place. Its local
            disks are lost.
          </p>
        </ConfirmDialog>
      ) : null}
      {asked.value === 'maintain' || asked.value === 'resume' ? (
        <ConfirmDialog
          title={asked.value === 'resume' ? `End maintenance of ${node.name}` : `Maintain ${node.name}`}
          verb={asked.value === 'resume' ? 'End maintenance' : 'Drain and keep empty'}
          calm
          onClose={close}
          onConfirm={act({ kind: 'maintenance', on: asked.value === 'maintain' })}
        >
          <p>
            {asked.value === 'resume'
              ? 'The node takes workloads again.'
              : 'Its workloads move away and none comes back until you end the maintenance. The machine stays.'}
          </p>
        </ConfirmDialog>
      ) : null}
    </div>
  );
}
