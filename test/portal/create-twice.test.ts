/** Equal requests at the same moment under one Idempotency-Key, on both stores. */
import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { describeWith } from '../support/needs.ts';
import { create, EXPLAIN, FEASIBLE, portalSite, type PortalSite } from '../support/portal-site.ts';
import { startPostgres } from '../support/postgres.ts';

const ROUNDS = 12;
const NOTHING_LEFT = {
  feasible: false,
  pools: [],
  problems: [
    {
      code: 'NOT_ENOUGH_MACHINES',
      message: 'no machine is left',
      fix: 'Add one.',
      retryable: true,
      userFixable: true,
      field: 'pools[0]',
    },
  ],
};

/** Twins of which each may be anywhere between its first look and its last write. */
async function raceTwins({ portal }: PortalSite): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const twins = Array.from({ length: 10 }, () =>
      create(portal, { name: `race-${round}` }, { 'idempotency-key': `race-${round}` }),
    );
    const answers = await Promise.all(twins);
    expect(answers.map(({ status }) => status).sort((a, b) => b - a)).toEqual([201, ...Array(9).fill(200)]);
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  }
}

describe('ten equal requests at once', () => {
  it('make one cluster, round after round', async () => {
    await using site = await portalSite();
    await raceTwins(site);
  });
});

describeWith(['postgres'], 'ten equal requests at once on PostgreSQL', () => {
  it('make one cluster, round after round', async () => {
    await using postgres = await startPostgres();
    await using site = await portalSite({ store: { kind: 'postgres', url: postgres.database() } });
    await raceTwins(site);
  });
});

describe('a request that is refused for what its twin took', () => {
  it('is answered with the cluster of the twin', async () => {
    await using site = await portalSite();
    const { portal, gateway } = site;
    const known = gateway.documents.size;
    let asked = 0;
    gateway.answerBy(EXPLAIN, async () => {
      asked += 1;
      const first = asked === 1;
      await eventually(() => (first ? asked === 2 : gateway.documents.size > known));
      return { status: 200, body: first ? FEASIBLE : NOTHING_LEFT };
    });
    const key = { 'idempotency-key': 'twins' };
    const answers = await Promise.all([create(portal, {}, key), create(portal, {}, key)]);
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 201]);
    expect(answers[0]?.body.id).toBe(answers[1]?.body.id);
  });
});
