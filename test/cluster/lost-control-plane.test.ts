/** The last machine of the control plane takes etcd with it: nothing brings the cluster back, and that is said. */
import { describe, expect, it } from 'vitest';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';
import { clusterSpec } from '../support/node-input.ts';

const ONE_AND_ONE = document({
  spec: clusterSpec({
    pools: [
      { role: 'control-plane', name: 'cp', size: 1 },
      { role: 'worker', name: 'workers', size: 1 },
    ],
  }),
});
const DELETE = { kind: 'delete', requestedAt: '2026-01-01T00:00:00Z', reason: 'delete' } as const;

/** Its machine. */
async function controlPlane(harness: EngineHarness): Promise<string> {
  const { nodes } = await harness.until('a control plane', (status) =>
    status.conditions.some(
      ({ type, status: state }) => type === 'ControlPlaneInitialized' && state === 'True',
    ),
  );
  return nodes.find(({ role }) => role === 'control-plane')?.systemId ?? '';
}

describe('a control plane whose only machine', () => {
  it.each([
    ['is gone before the cluster runs', false],
    ['is gone while it runs', true],
  ])('%s fails the cluster with its cause, and it can be deleted', async (_when, runs) => {
    const site = new FakeSite(6, runs ? {} : { times: { bootMs: 200 } });
    await using harness = new EngineHarness(site);
    await harness.want(ONE_AND_ONE);
    if (runs) await harness.phase('Running');
    site.steal(await controlPlane(harness));
    const failed = await harness.phase('Failed');
    expect(failed.error).toMatchObject({ code: 'CONTROL_PLANE_LOST', retryable: false, userFixable: true });
    await harness.want({ ...ONE_AND_ONE, intent: DELETE });
    await harness.phase('Deleted');
    expect(site.owned()).toEqual([]);
    expect(site.violations).toEqual([]);
  });

  it('does not answer any more while the cluster comes up fails it as well', async () => {
    const site = new FakeSite(6);
    site.faults.deployStuck = (id) => site.boxes.get(id)?.machine.annotations['pcg-role'] === 'worker';
    await using harness = new EngineHarness(site, { initDeadlineMs: 600, deployDeadlineMs: 60_000 });
    await harness.want(ONE_AND_ONE);
    await controlPlane(harness);
    for (const api of site.apis.values()) api.members.clear();
    const failed = await harness.phase('Failed');
    expect(failed.error).toMatchObject({ code: 'KUBE_UNREACHABLE', retryable: false });
    await harness.want({ ...ONE_AND_ONE, intent: DELETE });
    await harness.phase('Deleted');
    expect(site.owned()).toEqual([]);
  });
});
