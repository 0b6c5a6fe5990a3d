/** What can be done with a cluster as a whole. A button that cannot be pressed says what it waits for. */
import { useSignal } from '@preact/signals';
import type { Cluster } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { duration, plural, relative } from '../format.ts';
import { canWrite, now, show } from '../state.ts';
import { ProblemBox } from './basics.tsx';
import { ConfirmDialog } from './confirm-dialog.tsx';
import { Icon } from './icons.tsx';
import { useTask } from './task.ts';

/** The dialogs that change a specification. */
export type Change = 'pools' | 'profile' | 'policies' | 'details';

export function ClusterActions({
  cluster,
  onChange,
}: {
  cluster: Cluster;
  onChange: (what: Change) => void;
}) {
  const dialog = useSignal<'delete' | 'abort' | 'force' | undefined>(undefined);
  const retry = useTask();
  const { spec } = cluster;
  const close = () => {
    dialog.value = undefined;
  };
  const act = (path: string, body: unknown) => async () => {
    await show(api<Cluster>('POST', `/clusters/${cluster.id}/${path}`, body));
  };
  if (cluster.deletedAt !== undefined)
    return <span class="sub">deleted {relative(cluster.deletedAt, now.value)}</span>;
  const reachable =
    cluster.provisioned ||
    cluster.status?.conditions.some((c) => c.type === 'ControlPlaneInitialized' && c.status === 'True');
  const leaving = cluster.intent.kind !== 'present';
  return (
    <>
      {reachable ? (
        <a
          class="button"
          href={`/api/v1/clusters/${cluster.id}/kubeconfig`}
          download={`${spec.name}.kubeconfig`}
        >
          <Icon name="download" /> kubeconfig
        </a>
      ) : (
        <button type="button" class="button" disabled title="Once the control plane answers">
          <Icon name="download" /> kubeconfig (once the API answers)
        </button>
      )}
      {canWrite.value && !leaving && cluster.status?.phase === 'Failed' ? (
        <button
          type="button"
          class="button"
          disabled={retry.busy.value}
          onClick={() => retry.run(act('actions', { kind: 'retry' }))}
        >
          <Icon name="retry" /> Retry
        </button>
      ) : null}
      {canWrite.value && !leaving ? (
        <>
          <button type="button" class="button" onClick={() => onChange('pools')}>
            <Icon name="scale" /> Scale
          </button>
          <button type="button" class="button" onClick={() => onChange('profile')}>
            <Icon name="up" /> Upgrade
          </button>
        </>
      ) : null}
      {!canWrite.value ? null : leaving ? (
        <ForceButton
          cluster={cluster}
          onClick={() => {
            dialog.value = 'force';
          }}
        />
      ) : (
        <button
          type="button"
          class="button danger"
          onClick={() => {
            dialog.value = cluster.provisioned ? 'delete' : 'abort';
          }}
        >
          <Icon name="trash" /> {cluster.provisioned ? 'Delete' : 'Abort'}
        </button>
      )}
      {retry.problem.value ? <ProblemBox problem={retry.problem.value} /> : null}
      {dialog.value === 'delete' ? (
        <ConfirmDialog
          title={`Delete cluster ${spec.name}`}
          name={spec.name}
          verb="Delete cluster"
          onClose={close}
          onConfirm={act('delete', { confirm: spec.name })}
        >
          <p>
            Everything that runs on it is lost. Its{' '}
            {plural(
              spec.pools.reduce((sum, pool) => sum + pool.size, 0),
              'machine',
            )}{' '}
            and addresses go back to MAAS.
          </p>
        </ConfirmDialog>
      ) : null}
      {dialog.value === 'abort' ? (
        <ConfirmDialog
          title={`Abort provisioning of ${spec.name}`}
          verb="Abort and release"
          onClose={close}
          onConfirm={act('abort', {})}
        >
          <p>Provisioning stops; every machine and address that was taken for it goes back to MAAS.</p>
        </ConfirmDialog>
      ) : null}
      {dialog.value === 'force' ? (
        <ConfirmDialog
          title={`Force delete ${spec.name}`}
          name={spec.name}
          verb="Force delete"
          onClose={close}
          onConfirm={act('force-delete', { confirm: spec.name })}
        >
          <p>
            The cluster is forgotten without waiting for MAAS. Machines that were not released are listed as
            left behind.
          </p>
        </ConfirmDialog>
      ) : null}
    </>
  );
}

/** R124: opens 15 minutes after Delete; before that it says when. */
function ForceButton({ cluster, onClick }: { cluster: Cluster; onClick: () => void }) {
  if (cluster.intent.kind === 'force-delete') return <span class="sub">force delete is on its way</span>;
  const leftMs = cluster.forceDeleteAt ? Date.parse(cluster.forceDeleteAt) - now.value : 0;
  return (
    <button type="button" class="button danger" disabled={leftMs > 0} onClick={onClick}>
      <Icon name="trash" />
      {leftMs > 0 ? `Force delete in ${duration(leftMs)}` : 'Force delete'}
    </button>
  );
}
