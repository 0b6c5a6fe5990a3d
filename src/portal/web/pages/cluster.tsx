/** One cluster, live: what is done and by which machine, what is waited for, what happened, and what can be done. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Cluster } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { duration, fullTime, plural, relative } from '../format.ts';
import { Empty, Loading, Notice, PageHead, ProblemBox, When } from '../parts/basics.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { EventList } from '../parts/event-list.tsx';
import { Icon, type IconName } from '../parts/icons.tsx';
import { Badge, PhaseBadge, phaseOf, type Tone } from '../parts/state.tsx';
import { Timeline } from '../parts/timeline.tsx';
import { canWrite, clusterEvents, follow, gateways, now, openCluster } from '../state.ts';
import { Progress } from './clusters.tsx';

export function ClusterPage({ id }: { id: string }) {
  const missing = useSignal(false);
  useEffect(() => {
    openCluster.value = undefined;
    clusterEvents.value = [];
    let stop = () => {};
    api<Cluster>('GET', `/clusters/${id}`)
      .then((cluster) => {
        openCluster.value = cluster;
        stop = follow(id);
      })
      .catch(() => {
        missing.value = true;
      });
    return () => stop();
  }, [id, missing]);
  const cluster = openCluster.value;
  if (missing.value)
    return (
      <Empty icon="cluster" title="This cluster does not exist">
        <p>
          <a href="/clusters">All clusters</a>
        </p>
      </Empty>
    );
  return cluster?.id === id ? <Known cluster={cluster} /> : <Loading />;
}

function Known({ cluster }: { cluster: Cluster }) {
  const { spec, status } = cluster;
  const phase = phaseOf(cluster);
  const gateway = gateways.value?.find(({ id }) => id === cluster.gateway);
  const moving = phase === 'Provisioning' || phase === 'Updating' || phase === 'Deleting';
  return (
    <>
      <PageHead
        title={spec.name}
        lead={
          <>
            <PhaseBadge cluster={cluster} />{' '}
            <span class="sub">
              {status ? (
                <>
                  as of <When at={cluster.statusReceivedAt ?? status.observedAt} />
                </>
              ) : (
                'no report from the gateway yet'
              )}
            </span>
          </>
        }
      >
        <Actions cluster={cluster} />
      </PageHead>
      {cluster.stale ? (
        <Notice tone="warn" icon="unknown">
          <strong>The gateway {gateway?.name ?? ''} is not connected</strong>, so the state is unknown since{' '}
          {cluster.statusReceivedAt ? fullTime(cluster.statusReceivedAt) : 'the beginning'}. The gateway goes
          on with its work meanwhile; what happened is shown when it is back.
        </Notice>
      ) : null}
      {status?.error ? (
        <ProblemBox
          problem={status.error}
          title={phase === 'Failed' ? 'The cluster failed' : (undefined as never)}
        />
      ) : null}
      {status?.queue ? (
        <Notice tone="info" icon="wait">
          <strong>Position {status.queue.position} in the queue.</strong> {status.queue.reason}
        </Notice>
      ) : null}
      {status &&
      cluster.deletedAt === undefined &&
      (moving || status.progress.done < status.progress.total) ? (
        <div class="progress-line">
          <Progress done={status.progress.done} total={status.progress.total} calm={false} />
          <span>
            {status.progress.done} of {plural(status.progress.total, 'step')}
            {status.progress.etaAt && !cluster.stale
              ? ` · done ${relative(status.progress.etaAt, now.value)}`
              : ''}
          </span>
        </div>
      ) : null}
      {status?.leftovers.length ? (
        <Notice tone="warn" icon="warn">
          <strong>Left behind:</strong>
          <ul>
            {status.leftovers.map((item) => (
              <li key={`${item.kind}${item.id}`}>
                {item.kind} {item.name} (<code>{item.id}</code>): {item.reason}
              </li>
            ))}
          </ul>
        </Notice>
      ) : null}
      <section aria-labelledby="machines">
        <h2 id="machines">Machines</h2>
        {status && status.nodes.length > 0 ? (
          <Timeline cluster={cluster} status={status} />
        ) : (
          <p class="card sub">{cluster.deletedAt ? 'All released.' : 'The gateway has not begun yet.'}</p>
        )}
      </section>
      <div class="columns">
        <section class="card" aria-labelledby="conditions">
          <h2 id="conditions">Conditions</h2>
          {status && status.conditions.length > 0 ? (
            <ul class="plain conditions">
              {status.conditions.map((condition) => {
                const look = CONDITIONS[cluster.stale ? 'Unknown' : condition.status];
                return (
                  <li key={condition.type}>
                    <Badge {...look} text={condition.type} />
                    <span class="sub">
                      {condition.reason}
                      {condition.message ? `: ${condition.message}` : ''} ·{' '}
                      <When at={condition.lastTransitionTime} />
                    </span>
                  </li>
                );
              })}
            </ul>
          ) : (
            <p class="sub">None reported yet.</p>
          )}
        </section>
        <section class="card" aria-labelledby="specification">
          <h2 id="specification">Specification</h2>
          <dl class="rows">
            <Row term="Gateway">
              {gateway ? <a href={`/gateways/${gateway.id}`}>{gateway.name}</a> : 'removed'}
            </Row>
            <Row term="Kubernetes">{status?.kubernetesVersion ?? '–'}</Row>
            <Row term="API endpoint">
              {status?.endpoint ? <code>{status.endpoint}</code> : 'not reserved yet'}
            </Row>
            <Row term="Domain">{spec.domain}</Row>
            <Row term="Pods / services">
              <code>{spec.network.podCidr}</code> / <code>{spec.network.serviceCidr}</code>
            </Row>
            {spec.pools.map((pool) => (
              <Row key={pool.name} term={`Pool ${pool.name}`}>
                {pool.size} × {pool.role}, {pool.placement.resourcePool}
                {pool.placement.zones.length > 0 ? ` in ${pool.placement.zones.join(', ')}` : ''}, ≥{' '}
                {pool.placement.minCpu} CPU, {pool.placement.minMemoryMiB} MiB, {pool.placement.minDiskGb} GB
              </Row>
            ))}
            <Row term="Created">
              <When at={cluster.createdAt} />, generation {cluster.generation}
            </Row>
          </dl>
        </section>
      </div>
      <section class="card" aria-labelledby="events">
        <h2 id="events">Events</h2>
        <EventList events={clusterEvents.value} />
      </section>
    </>
  );
}

const CONDITIONS: Record<'True' | 'False' | 'Unknown', { tone: Tone; icon: IconName }> = {
  True: { tone: 'good', icon: 'ok' },
  False: { tone: 'calm', icon: 'wait' },
  Unknown: { tone: 'warn', icon: 'unknown' },
};

function Row({ term, children }: { term: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Actions({ cluster }: { cluster: Cluster }) {
  const dialog = useSignal<'delete' | 'abort' | 'force' | undefined>(undefined);
  const { spec } = cluster;
  const close = () => {
    dialog.value = undefined;
  };
  const act = (path: string, body: unknown) => async () => {
    openCluster.value = await api<Cluster>('POST', `/clusters/${cluster.id}/${path}`, body);
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
        <button type="button" class="button" onClick={() => void act('actions', { kind: 'retry' })()}>
          <Icon name="retry" /> Retry
        </button>
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
