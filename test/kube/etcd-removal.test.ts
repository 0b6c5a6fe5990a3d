/** With which calls a member leaves etcd: who is asked for what, in which order. */
import { expect, it } from 'vitest';
import { createEtcdClient } from '../../src/kube/etcd.ts';
import { patientClock } from '../support/patient-clock.ts';
import {
  clientPair,
  readBody,
  sendJson,
  startTlsServer,
  testPki,
  type TlsServer,
} from '../support/tls-server.ts';

const IDS = ['11', '12', '13'];
const CHANGES = /transfer-leadership|member\/remove/;

it('a leader hands over first, and is not the one that is asked to remove itself', async () => {
  await using stack = new AsyncDisposableStack();
  const servers: TlsServer[] = [];
  const changes: { member: string; path: string; body: unknown }[] = [];
  let leader = IDS[0];
  const answers: Record<string, (body: Record<string, unknown>) => unknown> = {
    '/v3/cluster/member/list': () => ({
      members: IDS.map((ID, index) => ({
        ID,
        name: `cp-${index + 1}`,
        peerURLs: [`https://10.20.0.${ID}:2380`],
        clientURLs: [servers[index]?.target.server],
      })),
    }),
    '/v3/maintenance/status': () => ({ leader, version: '3.6.6', dbSize: '4096' }),
    '/v3/maintenance/transfer-leadership': ({ targetID }) => {
      leader = String(targetID);
      return {};
    },
  };
  for (const member of IDS)
    servers.push(
      stack.use(
        await startTlsServer(async (request, response) => {
          const body = JSON.parse(await readBody(request));
          const path = String(request.url);
          if (CHANGES.test(path)) changes.push({ member, path, body });
          sendJson(response, 200, answers[path]?.(body) ?? {});
        }),
      ),
    );
  const { ca } = await testPki();
  const admin = await clientPair(ca);
  const endpoints = servers.map(({ target }) => target.server);
  const client = stack.use(
    createEtcdClient(endpoints, { caPem: ca.certPem, ...admin }, { clock: patientClock }),
  );
  expect(await client.remove('11', new AbortController().signal)).toBe('removed');
  const [handover, removal, ...more] = changes;
  expect(handover).toMatchObject({ member: '11', path: '/v3/maintenance/transfer-leadership' });
  expect(['12', '13']).toContain(leader);
  expect(removal).toMatchObject({ path: '/v3/cluster/member/remove', body: { ID: '11' } });
  expect(removal?.member).not.toBe('11');
  expect(more).toEqual([]);

  changes.length = 0;
  const follower = leader === '12' ? '13' : '12';
  await client.remove(follower, new AbortController().signal);
  expect(changes.map(({ path }) => path)).toEqual(['/v3/cluster/member/remove']);
});
