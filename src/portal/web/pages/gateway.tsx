/** One gateway: who it is, how it is connected, what it reaches, its nodes, and how to remove it. */
import { useSignal } from '@preact/signals';
import type { Gateway } from '../../../contract/gateway.ts';
import { api } from '../api.ts';
import { fullTime, plural } from '../format.ts';
import { Empty, Loading, Notice, PageHead, Row, When } from '../parts/basics.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { Doctor } from '../parts/doctor.tsx';
import { Icon, type IconName } from '../parts/icons.tsx';
import { SiteMachines } from '../parts/site-machines.tsx';
import { Badge, ConnectionBadge, PhaseBadge, type Tone } from '../parts/state.tsx';
import { go } from '../router.ts';
import { clusters, gateways, isTenantAdmin } from '../state.ts';

export function GatewayPage({ id }: { id: string }) {
  const gateway = gateways.value?.find((candidate) => candidate.id === id);
  if (!gateways.value) return <Loading />;
  if (!gateway)
    return (
      <Empty icon="gateway" title="This gateway does not exist (any more)">
        <p>
          <a href="/gateways">All gateways</a>
        </p>
      </Empty>
    );
  return <Known gateway={gateway} />;
}

function Known({ gateway }: { gateway: Gateway }) {
  const removing = useSignal(false);
  const mine = clusters.value?.filter((cluster) => cluster.gateway === gateway.id) ?? [];
  const { connection, status, clone } = gateway;
  const online = connection.state === 'connected';
  return (
    <>
      <PageHead title={gateway.name} lead={<ConnectionBadge gateway={gateway} />}>
        {isTenantAdmin.value ? (
          <button
            type="button"
            class="button danger"
            disabled={mine.length > 0 && online}
            title={mine.length > 0 && online ? 'Delete its clusters first' : undefined}
            onClick={() => {
              removing.value = true;
            }}
          >
            <Icon name="trash" />
            {mine.length > 0 && online ? `Delete (${plural(mine.length, 'cluster')} first)` : 'Delete'}
          </button>
        ) : null}
      </PageHead>
      {clone ? (
        <Notice tone="warn" icon="warn">
          <p>
            <strong>Two agents use this gateway&#39;s identity</strong>, most likely a machine and its clone.
            One of them is connected; the other was refused <When at={clone.refusedAt} />. They came from{' '}
            {[...new Set(clone.remoteAddresses)].join(' and ')}.
          </p>
          <p>
            Only one of them may act on these clusters. Stop the agent that is not wanted with{' '}
            <code>systemctl stop pcg</code>, and pair it with a code of its own if it shall stay.
          </p>
        </Notice>
      ) : null}
      {online ? null : (
        <Notice tone="warn" icon="warn">
          <p>
            <strong>
              {gateway.lastHeartbeatAt ? (
                <>
                  Unknown since <When at={gateway.lastHeartbeatAt} />
                </>
              ) : (
                'It has never connected'
              )}
            </strong>
            {connection.state === 'disconnected' && connection.reason ? `: ${connection.reason}` : ''}.{' '}
            {gateway.lastHeartbeatAt ? `What is shown is as of ${fullTime(gateway.lastHeartbeatAt)}.` : ''}{' '}
            The gateway goes on with its work and reports when it is back.
          </p>
          <p>
            On the gateway, <code>systemctl status pcg</code> says whether it runs, <code>pcg status</code>{' '}
            why it does not connect, and <code>pcg doctor</code> tests each step on the way with a fix.
          </p>
        </Notice>
      )}
      <div class="columns">
        <section class="card" aria-labelledby="identity">
          <h2 id="identity">Identity and connection</h2>
          <dl class="rows">
            <Row term="Comparison words">
              <strong class="words">{gateway.words}</strong>
            </Row>
            <Row term="Key fingerprint">
              <code>{gateway.keyFingerprint}</code>
            </Row>
            <Row term="Id">
              <code>{gateway.id}</code>
            </Row>
            <Row term="Connection">
              {connection.state === 'connected' ? (
                <>
                  since <When at={connection.since} /> from {connection.remoteAddress}
                  {connection.rttMs === undefined ? '' : `, ${connection.rttMs} ms round trip`}
                </>
              ) : connection.state === 'disconnected' ? (
                <>
                  lost <When at={connection.since} />: {connection.reason}
                </>
              ) : (
                'never'
              )}
            </Row>
            <Row term="Version">{status ? `${status.version} on Node ${status.nodeVersion}` : 'unknown'}</Row>
            <Row term="Host">{status?.hostname ?? 'unknown'}</Row>
            <Row term="Paired">
              <When at={gateway.createdAt} />
            </Row>
          </dl>
        </section>
        <section class="card" aria-labelledby="maas">
          <h2 id="maas">MAAS</h2>
          {status && status.accounts.length > 0 ? (
            <ul class="plain">
              {status.accounts.map((account) => (
                <li key={account.id} class="line">
                  <Badge
                    {...ACCOUNT_LOOKS[online ? account.state : 'unknown']}
                    text={online ? account.state : 'unknown'}
                  />
                  <span>
                    <code>{account.endpoint}</code>
                    {account.maasVersion ? ` · MAAS ${account.maasVersion}` : ''}
                    {account.message ? <span class="sub"> {account.message}</span> : null}
                    {account.problem ? (
                      <span class="fix">
                        {account.problem.message} · {account.problem.fix} <code>{account.problem.code}</code>
                      </span>
                    ) : null}
                  </span>
                </li>
              ))}
            </ul>
          ) : (
            <p class="sub">The gateway has not reported an account yet.</p>
          )}
          <h3>Nodes</h3>
          {status && status.nodes.length > 0 ? (
            <ul class="plain">
              {status.nodes.map((node) => (
                <li key={node.name} class="line">
                  <Badge
                    tone={node.ready ? 'good' : 'bad'}
                    icon={node.ready ? 'ok' : 'bad'}
                    text={node.ready ? 'Ready' : 'NotReady'}
                  />
                  {node.name} <span class="sub">{node.version}</span>
                </li>
              ))}
            </ul>
          ) : (
            <p class="sub">One node, as a service on {status?.hostname ?? 'its host'}.</p>
          )}
        </section>
      </div>
      <section class="card" aria-labelledby="its-clusters">
        <h2 id="its-clusters">Clusters</h2>
        {mine.length === 0 ? (
          <p class="sub">None.</p>
        ) : (
          <ul class="plain">
            {mine.map((cluster) => (
              <li key={cluster.id} class="line">
                <PhaseBadge cluster={cluster} />
                <a href={`/clusters/${cluster.id}`}>{cluster.spec.name}</a>
              </li>
            ))}
          </ul>
        )}
      </section>
      <Doctor gateway={gateway} online={online} />
      <SiteMachines gateway={gateway} online={online} />
      {removing.value ? (
        <ConfirmDialog
          title={`Delete gateway ${gateway.name}`}
          verb="Delete gateway"
          {...(online ? {} : { name: gateway.name })}
          onClose={() => {
            removing.value = false;
          }}
          onConfirm={async () => {
            await api('DELETE', `/gateways/${gateway.id}`, online ? {} : { confirm: gateway.name });
            gateways.value = gateways.value?.filter(({ id }) => id !== gateway.id);
            go('/gateways');
          }}
        >
          <p>The portal forgets the gateway and refuses its key from now on.</p>
          {online ? null : (
            <p>
              The gateway is offline, so it cannot clean up. These stay behind: its service and its own
              machines
              {mine.length > 0
                ? `, and the clusters ${mine.map(({ spec }) => spec.name).join(', ')} with their machines`
                : ''}
              .
            </p>
          )}
        </ConfirmDialog>
      ) : null}
    </>
  );
}

const ACCOUNT_LOOKS: Record<'ready' | 'failed' | 'unknown', { tone: Tone; icon: IconName }> = {
  ready: { tone: 'good', icon: 'ok' },
  failed: { tone: 'bad', icon: 'bad' },
  unknown: { tone: 'warn', icon: 'unknown' },
};
