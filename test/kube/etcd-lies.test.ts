/** An etcd that answers nonsense: whatever is in its fields, looks at it end, and what they tell can be shown. */
import { describe, expect, it } from 'vitest';
import { computeConditions } from '../../src/cluster/conditions.ts';
import { plan } from '../../src/cluster/plan.ts';
import { memberHex } from '../../src/cluster/stray-members.ts';
import { createEtcdClient } from '../../src/kube/etcd.ts';
import { describeAlarms } from '../../src/kube/etcd-alarms.ts';
import { patientClock } from '../support/patient-clock.ts';
import { NOW, scene } from '../support/scenes.ts';
import { sendJson, startTlsServer } from '../support/tls-server.ts';

const signal = new AbortController().signal;

async function asked(answers: Record<string, unknown>) {
  const server = await startTlsServer((request, response) => {
    const body = answers[request.url ?? ''];
    if (typeof body === 'string') response.writeHead(200).end(body);
    else sendJson(response, 200, body ?? null);
  });
  const { server: url, ...identity } = server.target;
  const client = createEtcdClient([url], identity, { clock: patientClock });
  return {
    client,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

const LISTS: readonly (readonly [string, unknown])[] = [
  ['nothing', null],
  ['a list', []],
  ['a word', '"etcd"'],
  ['members that are a number', { members: 7 }],
  ['members that are none', { members: [null, 'x', 3, []] }],
  [
    'fields of other kinds',
    {
      members: [
        { ID: 7, name: 5, peerURLs: 'x', clientURLs: [1, null], isLearner: 'yes' },
        { ID: 'cafe', name: 'gone', peerURLs: ['::'], clientURLs: ['not an address'], isLearner: true },
        { ID: '-1', name: '', peerURLs: [{}], isLearner: true },
        { ID: '9'.repeat(400), name: 'long', isLearner: false },
      ],
    },
  ],
];

describe('an etcd whose member list is', () => {
  it.each(LISTS)(
    '%s is looked at to the end, and what it says can be planned with and shown',
    async (_what, list) => {
      await using s = await asked({
        '/v3/cluster/member/list': list,
        '/v3/maintenance/status': { errors: 'x', dbSize: {} },
      });
      const members = await s.client.health(signal);
      for (const { id } of members) expect(memberHex(id)).toMatch(/^[0-9a-f]+$/);
      const etcd = { members: members.map((member) => ({ ...member, restlessSince: NOW - 3_600_000 })) };
      const input = scene(
        { 'cp-1': { shape: 'ready' }, 'cp-2': { shape: 'ready' }, 'cp-3': { shape: 'ready' } },
        { observed: { etcd } },
      );
      expect(computeConditions(input, [])).not.toEqual([]);
      // Never so much as one healthy voter: nothing is taken out of such an etcd.
      expect(plan(input).map(({ kind }) => kind)).not.toContain('remove-stray-member');
    },
  );
});

describe('alarms that are', () => {
  it.each([
    ['a word', { alarms: 'NOSPACE' }, []],
    ['nobody', { alarms: [null, 3, { alarm: 1 }, { memberID: '7' }, { alarm: 'NONE', memberID: '7' }] }, []],
    ['of a member that is none', { alarms: [{ memberID: 'abc', alarm: 'NOSPACE' }] }, ['NOSPACE']],
  ])('%s are told as far as they are any', async (_what, answer, raised) => {
    await using s = await asked({
      '/v3/maintenance/alarm': answer,
      '/v3/cluster/member/list': { members: [null] },
    });
    const alarms = await s.client.alarms(signal);
    expect(alarms.map(({ alarm }) => alarm)).toEqual(raised);
    expect(describeAlarms(alarms)).toEqual(
      raised.length === 0 ? undefined : expect.stringContaining('NOSPACE'),
    );
  });

  it('no JSON are no answer', async () => {
    await using s = await asked({ '/v3/maintenance/alarm': '<html>' });
    await expect(s.client.alarms(signal)).rejects.toMatchObject({ code: 'KUBE_UNREACHABLE' });
  });
});
