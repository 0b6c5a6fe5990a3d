/** All clusters; the filters live in the URL, so that a view can be shared. */
import { useEffect } from 'preact/hooks';
import type { Cluster } from '../../../contract/cluster.ts';
import { plural } from '../format.ts';
import { Empty, Loading, PageHead, When } from '../parts/basics.tsx';
import { Icon } from '../parts/icons.tsx';
import { PHASE_NAMES, PhaseBadge, phaseOf } from '../parts/state.tsx';
import { route, setQuery } from '../router.ts';
import { accounts, canWrite, clusters, deletedClusters, gateways, loadDeleted } from '../state.ts';

export function ClustersPage() {
  const { query } = route.value;
  const showDeleted = query.get('deleted') === '72h';
  useEffect(() => {
    if (showDeleted) void loadDeleted();
  }, [showDeleted]);
  const all = showDeleted ? deletedClusters.value : clusters.value;
  const shown = all?.filter((cluster) => matches(cluster, query));
  const noAccount = accounts.value?.every(({ enabled }) => !enabled) ?? false;
  return (
    <>
      <PageHead title="Clusters" lead="Kubernetes on bare metal, behind your gateways.">
        {canWrite.value ? (
          noAccount ? (
            <button
              type="button"
              class="button primary"
              disabled
              title="Needs a paired gateway with a cloud account"
            >
              <Icon name="plus" /> Create cluster (needs a gateway first)
            </button>
          ) : (
            <a class="button primary" href="/clusters/new">
              <Icon name="plus" /> Create cluster
            </a>
          )
        ) : null}
      </PageHead>
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <label class="grow">
          <span class="visually-hidden">Name or tag</span>
          <input
            type="search"
            placeholder="Name or tag"
            value={query.get('q') ?? ''}
            onInput={(event) => setQuery({ q: event.currentTarget.value })}
          />
        </label>
        <label>
          <span class="visually-hidden">State</span>
          <select
            value={query.get('phase') ?? ''}
            onChange={(event) => setQuery({ phase: event.currentTarget.value })}
          >
            <option value="">Any state</option>
            {PHASE_NAMES.map((phase) => (
              <option key={phase} value={phase}>
                {phase}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span class="visually-hidden">Gateway</span>
          <select
            value={query.get('gateway') ?? ''}
            onChange={(event) => setQuery({ gateway: event.currentTarget.value })}
          >
            <option value="">Any gateway</option>
            {gateways.value?.map((gateway) => (
              <option key={gateway.id} value={gateway.id}>
                {gateway.name}
              </option>
            ))}
          </select>
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={showDeleted}
            onChange={(event) => setQuery({ deleted: event.currentTarget.checked ? '72h' : undefined })}
          />
          Deleted in the last 72 h
        </label>
      </form>
      {shown === undefined ? (
        <Loading />
      ) : shown.length === 0 ? (
        <Empty
          icon="cluster"
          title={
            all?.length
              ? 'No cluster matches the filters'
              : showDeleted
                ? 'Nothing was deleted in the last 72 h'
                : 'No cluster yet'
          }
        >
          {all?.length || showDeleted ? null : noAccount ? (
            <p>
              First <a href="/gateways/new">create a private cloud gateway</a>; its MAAS appears here by
              itself.
            </p>
          ) : (
            <p>Machines are allocated, installed and joined while you watch.</p>
          )}
        </Empty>
      ) : (
        <ul class="cards">
          {shown.map((cluster) => (
            <ClusterCard key={cluster.id} cluster={cluster} />
          ))}
        </ul>
      )}
    </>
  );
}

function matches(cluster: Cluster, query: URLSearchParams): boolean {
  const text = query.get('q')?.toLowerCase() ?? '';
  const phase = query.get('phase') ?? '';
  const gateway = query.get('gateway') ?? '';
  const words = [cluster.spec.name, ...cluster.spec.tags];
  return (
    (text === '' || words.some((word) => word.toLowerCase().includes(text))) &&
    (phase === '' || phaseOf(cluster) === phase) &&
    (gateway === '' || cluster.gateway === gateway)
  );
}

function ClusterCard({ cluster }: { cluster: Cluster }) {
  const { spec, status } = cluster;
  const gateway = gateways.value?.find(({ id }) => id === cluster.gateway);
  const wanted = spec.pools.reduce((sum, pool) => sum + pool.size, 0);
  const ready = status?.nodes.filter((node) => node.phase === 'Ready').length ?? 0;
  return (
    <li class="card link">
      <div class="card-head">
        <h2>
          <a href={`/clusters/${cluster.id}`}>{spec.name}</a>
        </h2>
        <PhaseBadge cluster={cluster} />
      </div>
      <p class="sub">
        {spec.description || `on ${gateway?.name ?? 'a removed gateway'}`}
        {spec.tags.map((tag) => (
          <span key={tag} class="tag">
            {tag}
          </span>
        ))}
      </p>
      {status && cluster.deletedAt === undefined ? (
        <Progress
          done={status.progress.done}
          total={status.progress.total}
          calm={phaseOf(cluster) === 'Running'}
        />
      ) : null}
      <dl class="facts">
        <div>
          <dt>Nodes ready</dt>
          <dd>
            {cluster.stale ? '?' : ready} of {wanted}
          </dd>
        </div>
        <div>
          <dt>Kubernetes</dt>
          <dd>{status?.kubernetesVersion ?? '–'}</dd>
        </div>
        <div>
          <dt>Gateway</dt>
          <dd>{gateway?.name ?? '–'}</dd>
        </div>
        <div>
          <dt>{cluster.deletedAt ? 'Deleted' : cluster.stale ? 'As of' : 'Created'}</dt>
          <dd>
            <When
              at={
                cluster.deletedAt ??
                (cluster.stale ? (cluster.statusReceivedAt ?? cluster.createdAt) : cluster.createdAt)
              }
            />
          </dd>
        </div>
      </dl>
      {cluster.status?.leftovers.length ? (
        <p class="sub warn-text">
          <Icon name="warn" /> {plural(cluster.status.leftovers.length, 'thing')} left behind
        </p>
      ) : null}
    </li>
  );
}

export function Progress({ done, total, calm }: { done: number; total: number; calm: boolean }) {
  return (
    <progress
      class={calm ? 'calm' : ''}
      value={done}
      max={Math.max(1, total)}
      aria-label={`${done} of ${total} steps`}
    >
      {done} of {total}
    </progress>
  );
}
