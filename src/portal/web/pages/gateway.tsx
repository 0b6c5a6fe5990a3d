/** One gateway: who it is, how it is connected, what it reaches, its nodes, and how to remove it. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { CheckReport } from '../../../contract/api.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import type { Gateway } from '../../../contract/gateway.ts';
import { api, asProblem } from '../api.ts';
import { fullTime, plural } from '../format.ts';
import { Empty, Loading, Notice, PageHead, ProblemBox, When } from '../parts/basics.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { Icon, type IconName } from '../parts/icons.tsx';
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
  const { connection, status } = gateway;
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
      {online ? null : (
        <Notice tone="warn" icon="warn">
          <strong>Not connected.</strong> What is shown is as of{' '}
          {gateway.lastHeartbeatAt ? fullTime(gateway.lastHeartbeatAt) : 'never'}. The gateway goes on with
          its work and reports when it is back. On the gateway, <code>pcg status</code> and{' '}
          <code>pcg doctor</code> say why.
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
const CHECK_LOOKS: Record<'pass' | 'warn' | 'fail' | 'skip', { tone: Tone; icon: IconName }> = {
  pass: { tone: 'good', icon: 'ok' },
  warn: { tone: 'warn', icon: 'warn' },
  fail: { tone: 'bad', icon: 'bad' },
  skip: { tone: 'calm', icon: 'skip' },
};

function Doctor({ gateway, online }: { gateway: Gateway; online: boolean }) {
  const report = useSignal<CheckReport | undefined>(undefined);
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  const busy = useSignal(false);
  useEffect(() => {
    report.value = undefined;
  }, [gateway.id, report]);
  const run = async () => {
    busy.value = true;
    problem.value = undefined;
    try {
      report.value = await api<CheckReport>('POST', `/gateways/${gateway.id}/ask/v1/doctor`, {});
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      busy.value = false;
    }
  };
  return (
    <section class="card" aria-labelledby="doctor">
      <div class="card-head">
        <h2 id="doctor">Doctor</h2>
        <button
          type="button"
          class="button"
          disabled={!online || busy.value}
          title={online ? undefined : 'The gateway is not connected'}
          onClick={run}
        >
          {busy.value ? 'Checking…' : online ? 'Check now' : 'Check (needs the gateway)'}
        </button>
      </div>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {report.value ? (
        <ul class="plain">
          {report.value.checks.map((check) => (
            <li key={check.id} class="line">
              <Badge {...CHECK_LOOKS[check.state]} text={check.state} />
              <span>
                <strong>
                  {check.group} · {check.id}
                </strong>
                <span class="sub">
                  {' '}
                  {check.measured} (needs {check.required}){check.fix ? ` · ${check.fix}` : ''}
                </span>
              </span>
            </li>
          ))}
        </ul>
      ) : (
        <p class="sub">Asks the gateway to test DNS, proxy, portal, MAAS and clock from where it stands.</p>
      )}
    </section>
  );
}

function Row({ term, children }: { term: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{children}</dd>
    </div>
  );
}
