/** What was asked for, and what it became. */
import type { Cluster } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { canWrite, gateways, profiles, show } from '../state.ts';
import { ProblemBox, Row, When } from './basics.tsx';
import type { Change } from './cluster-actions.tsx';
import { Icon } from './icons.tsx';
import { useTask } from './task.ts';

export function Specification({ cluster, onChange }: { cluster: Cluster; onChange: (what: Change) => void }) {
  const { spec, status } = cluster;
  const gateway = gateways.value?.find(({ id }) => id === cluster.gateway);
  const profile = profiles.value?.find(({ id }) => id === spec.profile);
  const may = canWrite.value && cluster.intent.kind === 'present' && cluster.deletedAt === undefined;
  return (
    <section class="card" aria-labelledby="specification">
      <div class="card-head">
        <h2 id="specification">Specification</h2>
        {may ? (
          <button type="button" class="button small" onClick={() => onChange('details')}>
            <Icon name="edit" /> Change details
          </button>
        ) : null}
      </div>
      <dl class="rows">
        {spec.description ? <Row term="Description">{spec.description}</Row> : null}
        {spec.tags.length > 0 ? (
          <Row term="Tags">
            {spec.tags.map((tag) => (
              <span key={tag} class="tag">
                {tag}
              </span>
            ))}
          </Row>
        ) : null}
        <Row term="Gateway">
          {gateway ? <a href={`/gateways/${gateway.id}`}>{gateway.name}</a> : 'removed'}
        </Row>
        <Row term="Profile">
          {profile ? <a href={`/profiles/${profile.id}`}>{profile.name}</a> : 'removed'}
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
        {status?.certificatesExpireAt ? (
          <Row term="Certificates">
            expire <When at={status.certificatesExpireAt} /> {may ? <Renew cluster={cluster} /> : null}
          </Row>
        ) : null}
        <Row term="Created">
          <When at={cluster.createdAt} />, generation {cluster.generation}
        </Row>
      </dl>
    </section>
  );
}

function Renew({ cluster }: { cluster: Cluster }) {
  const { busy, problem, run } = useTask();
  return (
    <>
      <button
        type="button"
        class="button small"
        disabled={busy.value}
        title="Control-plane nodes are replaced one by one"
        onClick={() =>
          run(async () => {
            await show(
              api<Cluster>('POST', `/clusters/${cluster.id}/actions`, { kind: 'rotate-certificates' }),
            );
          })
        }
      >
        Renew now
      </button>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
    </>
  );
}
