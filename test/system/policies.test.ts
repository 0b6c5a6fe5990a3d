/**
 * Policies and certificates of one cluster through the whole product: portal, tunnel, agent and simulated site as
 * processes, while MAAS fails, the portal is away and the agent is killed.
 */
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../src/contract/cluster.ts';
import type { Moment } from '../../src/simulator/kubernetes/chronicle.ts';
import { DayTwo } from '../support/day-two.ts';
import { Site } from '../support/site.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const RUNS = ['cis', 'vulnerabilities', 'conformance', 'patching'] as const;
const CONTROL_PLANE = 3;
const WORKERS = 1;

const daysLeft = ({ status }: Cluster) =>
  (Date.parse(status?.certificatesExpireAt ?? '') - Date.now()) / DAY_MS;
const machines = ({ status }: Cluster, pool?: string) =>
  (status?.nodes ?? [])
    .flatMap((node) => (pool === undefined || node.pool === pool ? (node.systemId ?? []) : []))
    .sort();

describe('a cluster with everything going wrong by chance', () => {
  it('renews certificates in place, scans, patches, and rotates certificates by replacement', async () => {
    await using site = await Site.start({ speed: 100, machines: 20 });
    const day = new DayTwo(site);
    // Leafs of all control-plane nodes end in three weeks.
    const expiring = `certificates-expire:${CONTROL_PLANE}`;
    await day.fault(expiring);
    const made = await day.running(site.spec({ name: 'old', controlPlane: CONTROL_PLANE, workers: WORKERS }));
    await day.mend(expiring);
    await day.disturb();
    const renewed = await day.until(
      made.id,
      'new certificates',
      (cluster) => daysLeft(cluster) > 300 && cluster.status?.phase === 'Running',
    );
    expect(machines(renewed)).toEqual(machines(made));
    expect(await day.departures('old')).toEqual([]);
    const moments = await day.simulator<Moment[]>('GET', 'moments');
    const born = moments.findIndex(({ quorum }) => quorum);
    expect(moments.slice(born).filter(({ quorum }) => !quorum)).toEqual([]);
    // Nodes were renewed one after the other; a kill between record and timeline may cost one line of it.
    // Events come by themselves, also after the state that they led to.
    await site.until('the renewals told', async () => {
      const events = await site.events(made.id);
      const told = events.flatMap(({ reason, node }) =>
        reason === 'CertificatesRenewed' ? (node ?? []) : [],
      );
      return new Set(told).size >= CONTROL_PLANE - 1;
    });

    for (const policy of RUNS) await day.act(made.id, { kind: 'run-policy', policy });
    await day.disturb();
    const reported = await day.until(made.id, 'all have run', ({ status }) =>
      RUNS.every((policy) => status?.policies.some((one) => one.policy === policy && one.lastRunAt)),
    );
    const results = Object.fromEntries(
      (reported.status?.policies ?? []).map(({ policy, state, summary }) => [policy, { state, summary }]),
    );
    expect(results).toMatchObject({
      cis: { state: 'succeeded', summary: { worker: { failed: [{ id: '4.1.1' }] } } },
      vulnerabilities: { state: 'succeeded', summary: { critical: 1, unscanned: 0 } },
      conformance: { state: 'succeeded', summary: { passed: 411, failed: 0 } },
      patching: { state: 'succeeded', summary: { postponed: [] } },
    });
    const reboots = await day.departures('old');
    expect(reboots).toHaveLength(CONTROL_PLANE + WORKERS);
    for (const reboot of reboots)
      expect(reboot).toMatchObject({ cordoned: true, workloads: [], quorumAfter: true });
    expect(machines(reported)).toEqual(machines(made));

    await day.act(made.id, { kind: 'rotate-certificates' });
    await day.disturb();
    // A machine that has been given back may carry another one of the new nodes.
    const old = (made.status?.nodes ?? []).flatMap(({ name, pool }) => (pool === 'control' ? name : []));
    const rotated = await day.until(
      made.id,
      'another control plane',
      ({ status }) =>
        status?.phase === 'Running' &&
        status.nodes.length === CONTROL_PLANE + WORKERS &&
        status.nodes.every(({ phase, name }) => phase === 'Ready' && !old.includes(name)),
    );
    expect(machines(rotated, 'workers')).toEqual(machines(made, 'workers'));
    expect(daysLeft(rotated)).toBeGreaterThan(300);
    await expect.poll(() => day.leftNodes(rotated)).toEqual([]);
    await day.gone(rotated);
    const { leaked, doublyAllocated, leakedAddresses } = await site.ledger();
    expect({ leaked, doublyAllocated, leakedAddresses }).toEqual({
      leaked: [],
      doublyAllocated: [],
      leakedAddresses: [],
    });
  });
});
