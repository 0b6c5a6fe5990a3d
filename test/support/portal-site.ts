/** A portal with one gateway on a real tunnel whose agent answers as told: where clusters are wanted and reported. */
import { connectGateway, type FakeGateway } from './fake-gateway.ts';
import { eventually } from './eventually.ts';
import { clusterSpec, clusterStatus, testPortal, type TestPortal } from './portal.ts';

export const ACCOUNT = 'ca-site1';
export const FEASIBLE = { feasible: true, pools: [], problems: [] };
export const EXPLAIN = `POST /v1/accounts/${ACCOUNT}/explain`;

export interface PortalSite extends AsyncDisposable {
  readonly portal: TestPortal;
  readonly gateway: FakeGateway;
}

export async function portalSite(options: Parameters<typeof testPortal>[0] = {}): Promise<PortalSite> {
  await using stack = new AsyncDisposableStack();
  const portal = stack.use(await testPortal(options));
  const { identity, paired } = await portal.pair('dc1');
  const gateway = stack.use(await connectGateway(identity, paired));
  gateway.answer(EXPLAIN, 200, FEASIBLE);
  await eventually(async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1);
  const running = stack.move();
  return { portal, gateway, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

export const create = (portal: TestPortal, changes = {}, headers = {}) =>
  portal.call('POST', '/api/v1/clusters', { spec: clusterSpec(ACCOUNT, changes) }, headers);

/** The gateway reports, and the portal has stored it. */
export async function report(
  { portal, gateway }: Pick<PortalSite, 'portal' | 'gateway'>,
  id: string,
  status: Parameters<typeof clusterStatus>[0],
): Promise<void> {
  const told = clusterStatus(status);
  gateway.report('cluster', id, told);
  await eventually(async () => {
    const { body } = await portal.call('GET', `/api/v1/clusters/${id}`);
    return (
      body.lastKnownPhase === told.phase &&
      body.status.rollout?.plan === told.rollout?.plan &&
      (body.status.observedGeneration === told.observedGeneration || told.phase === 'Deleted')
    );
  });
}
