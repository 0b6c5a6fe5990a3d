/** All gateways: state, last heartbeat, version, nodes. */
import type { Gateway } from '../../../contract/gateway.ts';
import { plural } from '../format.ts';
import { Empty, Loading, PageHead, When } from '../parts/basics.tsx';
import { Icon } from '../parts/icons.tsx';
import { Badge, ConnectionBadge } from '../parts/state.tsx';
import { clusters, gateways, isTenantAdmin } from '../state.ts';

export function GatewaysPage() {
  const list = gateways.value;
  return (
    <>
      <PageHead title="Gateways" lead="One agent next to each MAAS. It dials out; nothing dials in.">
        {isTenantAdmin.value ? (
          <a class="button primary" href="/gateways/new">
            <Icon name="plus" /> Create private cloud gateway
          </a>
        ) : null}
      </PageHead>
      {list === undefined ? (
        <Loading />
      ) : list.length === 0 ? (
        <Empty icon="gateway" title="No gateway yet">
          <p>Create one to get a pairing code and the command to install it next to your MAAS.</p>
        </Empty>
      ) : (
        <ul class="cards">
          {list.map((gateway) => (
            <GatewayCard key={gateway.id} gateway={gateway} />
          ))}
        </ul>
      )}
    </>
  );
}

function GatewayCard({ gateway }: { gateway: Gateway }) {
  const mine = clusters.value?.filter((cluster) => cluster.gateway === gateway.id).length ?? 0;
  const { connection, status } = gateway;
  return (
    <li class="card link">
      <div class="card-head">
        <h2>
          <a href={`/gateways/${gateway.id}`}>{gateway.name}</a>
        </h2>
        {gateway.clone ? <Badge tone="bad" icon="warn" text="Two agents" /> : null}
        <ConnectionBadge gateway={gateway} />
      </div>
      <p class="sub">
        {connection.state === 'connected' ? (
          <>
            since <When at={connection.since} /> from {connection.remoteAddress}
          </>
        ) : connection.state === 'disconnected' ? (
          <>
            lost <When at={connection.since} />: {connection.reason}
          </>
        ) : (
          'waits for its first connection'
        )}
      </p>
      <dl class="facts">
        <div>
          <dt>Last heartbeat</dt>
          <dd>{gateway.lastHeartbeatAt ? <When at={gateway.lastHeartbeatAt} /> : 'never'}</dd>
        </div>
        <div>
          <dt>Version</dt>
          <dd>{status?.version ?? 'unknown'}</dd>
        </div>
        <div>
          <dt>Nodes</dt>
          <dd>{status ? plural(Math.max(1, status.nodes.length), 'node') : 'unknown'}</dd>
        </div>
        <div>
          <dt>Clusters</dt>
          <dd>{mine}</dd>
        </div>
      </dl>
    </li>
  );
}
