/** A machine that changed hands behind our back is never installed. */
import { describe, expect, it } from 'vitest';
import { document as wanted } from '../support/engine.ts';
import { clusterSpec } from '../support/node-input.ts';
import { SimulatedSite } from '../support/simulated-site.ts';

const placement = { resourcePool: 'kubernetes' };
const ONE_NODE = wanted({
  spec: clusterSpec({ pools: [{ role: 'control-plane', name: 'cp', size: 1, placement }] }),
});

describe('a machine that somebody else took meanwhile', () => {
  it('is not deployed, and its node gets another one', async () => {
    // MAAS refuses the first deployment without a trace on the machine; until the second one it changes hands, while the observer waits for a slow answer.
    await using site = await SimulatedSite.start({
      speed: 200,
      faults: ['image-missing:1', 'slow=4000@&id=', 'slow=4000@?id='],
      timings: { blockedRetryMs: 2_000, retryBaseMs: 2_000 },
    });
    const { ledger, region } = site.simulator;
    await site.want(ONE_NODE);
    const refused = await site.until('a refused deployment', ({ nodes }) =>
      nodes.some(({ tasks }) => tasks.some(({ name, error }) => name === 'deploy' && error !== undefined)),
    );
    const first = refused.nodes[0]?.systemId ?? '';
    const machine = region.machines.get(first);
    if (!machine) throw new Error('the ledger names a machine that is not there');
    machine.owner = 'operator';
    machine.agentName = '';
    machine.ownerData.clear();

    const running = await site.phase('Running');
    expect(running.nodes.map(({ systemId }) => systemId)).not.toContain(first);
    const deployed = ledger.entries().filter(({ action }) => action === 'deploy');
    expect(deployed.map(({ systemId }) => systemId)).not.toContain(first);
    expect(machine).toMatchObject({ owner: 'operator', status: 'allocated' });
  });
});
