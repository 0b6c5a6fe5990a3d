/** One cluster, live: what is done and by which machine, what is waited for, what happened, and what can be done. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Cluster } from '../../../contract/cluster.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { api, asProblem } from '../api.ts';
import { fullTime, plural, relative } from '../format.ts';
import { Attention } from '../parts/attention.tsx';
import { Empty, Loading, Notice, PageHead, ProblemBox, When } from '../parts/basics.tsx';
import type { ChangeProps } from '../parts/change-dialog.tsx';
import { type Change, ClusterActions } from '../parts/cluster-actions.tsx';
import { Conditions } from '../parts/conditions.tsx';
import { DetailsDialog } from '../parts/details-dialog.tsx';
import { EventList } from '../parts/event-list.tsx';
import { PoliciesDialog } from '../parts/policies-dialog.tsx';
import { Policies } from '../parts/policies.tsx';
import { PoolsDialog } from '../parts/pools-dialog.tsx';
import { ProfileDialog } from '../parts/profile-dialog.tsx';
import { Rollout } from '../parts/rollout.tsx';
import { Specification } from '../parts/specification.tsx';
import { PhaseBadge, phaseOf } from '../parts/state.tsx';
import { Timeline } from '../parts/timeline.tsx';
import { clusterEvents, follow, gateways, now, openCluster, show } from '../state.ts';
import { Progress } from './clusters.tsx';

export function ClusterPage({ id }: { id: string }) {
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  useEffect(() => {
    openCluster.value = undefined;
    clusterEvents.value = [];
    problem.value = undefined;
    let left = false;
    let stop = () => {};
    api<Cluster>('GET', `/clusters/${id}`)
      .then((cluster) => {
        if (left) return;
        openCluster.value = cluster;
        stop = follow(id);
      })
      .catch((error: unknown) => {
        if (!left) problem.value = asProblem(error);
      });
    return () => {
      left = true;
      stop();
    };
  }, [id, problem]);
  const cluster = openCluster.value;
  if (problem.value && problem.value.code !== 'NOT_FOUND')
    return (
      <>
        <PageHead title="Cluster" />
        <ProblemBox problem={problem.value} title="The cluster cannot be shown now" />
      </>
    );
  if (problem.value)
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
  const changing = useSignal<{ what: Change; cluster: Cluster } | undefined>(undefined);
  const open = (what: Change) => {
    changing.value = { what, cluster };
  };
  const close = () => {
    changing.value = undefined;
  };
  const reload = async () => {
    const what = changing.value?.what;
    const newest = await show(api<Cluster>('GET', `/clusters/${cluster.id}`));
    if (what) changing.value = { what, cluster: newest };
  };
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
        <ClusterActions cluster={cluster} onChange={open} />
      </PageHead>
      {cluster.stale ? (
        <Notice tone="warn" icon="unknown">
          <strong>The gateway {gateway?.name ?? ''} is not connected</strong>, so the state is unknown since{' '}
          {cluster.statusReceivedAt ? fullTime(cluster.statusReceivedAt) : 'the beginning'}. The gateway goes
          on with its work meanwhile; what happened is shown when it is back.
        </Notice>
      ) : null}
      <Attention cluster={cluster} />
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
      <Rollout cluster={cluster} />
      <section aria-labelledby="machines">
        <h2 id="machines">Machines</h2>
        {status && status.nodes.length > 0 ? (
          <Timeline cluster={cluster} status={status} />
        ) : (
          <p class="card sub">{cluster.deletedAt ? 'All released.' : 'The gateway has not begun yet.'}</p>
        )}
      </section>
      <div class="columns">
        <Conditions cluster={cluster} />
        <Specification cluster={cluster} onChange={open} />
      </div>
      <Policies cluster={cluster} onChange={() => open('policies')} />
      <section class="card" aria-labelledby="events">
        <h2 id="events">Events</h2>
        <EventList events={clusterEvents.value} />
      </section>
      {changing.value ? <ChangeOf {...changing.value} onClose={close} onReload={reload} /> : null}
    </>
  );
}

const DIALOGS = {
  pools: PoolsDialog,
  profile: ProfileDialog,
  policies: PoliciesDialog,
  details: DetailsDialog,
};

function ChangeOf({ what, ...props }: { what: Change } & ChangeProps) {
  const Chosen = DIALOGS[what];
  // On a newer generation it is another dialog.
  return <Chosen key={`${what}${props.cluster.generation}`} {...props} />;
}
