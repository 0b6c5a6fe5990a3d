import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { send, type TlsIdentity } from '../../src/kube/dispatcher.ts';
import {
  connectEtcd,
  createEtcdClient,
  type EtcdClient,
  type EtcdMemberHealth,
} from '../../src/kube/etcd.ts';
import type { EtcdAlarm } from '../../src/kube/etcd-alarms.ts';
import { membersWithoutMachine } from '../../src/kube/quorum.ts';
import { createEtcdNodes, type EtcdNode } from '../support/etcd.ts';
import { describeWith } from '../support/needs.ts';
import { patientClock } from '../support/patient-clock.ts';
import { startConnectProxy } from '../support/tls-server.ts';

const signal = new AbortController().signal;
const options = { clock: patientClock };

/** Asks until the picture is as wanted; real processes elect leaders in their own time. */
async function until(
  client: EtcdClient,
  wanted: (members: EtcdMemberHealth[]) => boolean,
): Promise<EtcdMemberHealth[]> {
  let last: unknown;
  for (let attempt = 0; attempt < 600; attempt += 1) {
    try {
      const members = await client.health(signal);
      if (wanted(members)) return members;
      last = members;
    } catch (error) {
      last = error;
    }
    await systemClock.sleep(100);
  }
  return expect.fail(`etcd did not get there: ${JSON.stringify(last)}`);
}

const encode = (text: string) => Buffer.from(text, 'utf8').toString('base64');

/** Calls of a person with etcdctl, which the client itself never makes. */
function rawCalls(identity: TlsIdentity, node: EtcdNode) {
  const dispatcher = connectEtcd(identity);
  onTestFinished(() => dispatcher.destroy());
  return async (path: string, body: unknown): Promise<{ status: number }> => {
    const response = await send(dispatcher, {
      origin: node.clientUrl,
      path,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
    });
    await response.body.dump();
    return { status: response.statusCode };
  };
}

/**
 * etcd takes no membership change within 5 s of a new connection between members, and none while it elects a leader, which
 * it does whenever one is not given the processor for half a second: callers try again.
 */
async function patiently<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await change();
    } catch (error) {
      if (!(error instanceof PcgError && isOfTheMoment(error)) || attempt > 600) throw error;
    }
    await systemClock.sleep(100);
  }
}

function isOfTheMoment({ code, retryable, details, message }: PcgError): boolean {
  if (code === 'ETCD_QUORUM_AT_RISK') return String(details?.['reason']).startsWith('quorum-');
  return retryable && (details?.['grpcCode'] === 14 || message.startsWith('no healthy member'));
}

/** The refusal for this reason; one that comes of an election passes. */
async function refusedFor(reason: string, change: () => Promise<unknown>): Promise<PcgError> {
  return await patiently(async () => {
    const refused = await refusal(change());
    if (refused.details?.['reason'] !== reason) throw refused;
    return refused;
  });
}

const allHealthy = (count: number) => (members: EtcdMemberHealth[]) =>
  members.length === count &&
  members.every((member) => member.healthy) &&
  members.some((member) => member.leader);

async function threeNodes(cluster: Awaited<ReturnType<typeof createEtcdNodes>>) {
  const nodes = [await cluster.node('cp-1'), await cluster.node('cp-2'), await cluster.node('cp-3')] as const;
  for (const node of nodes) node.start('new', nodes);
  return nodes;
}

function idOf(members: readonly EtcdMemberHealth[], name: string): string {
  return members.find((member) => member.name === name)?.id ?? expect.fail(`no member ${name}`);
}

async function refusal(promise: Promise<unknown>): Promise<PcgError> {
  const error = await promise.then(
    () => expect.fail('should have been refused'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(PcgError);
  return error as PcgError;
}

describeWith(['etcd'], 'three real etcd members over mTLS', () => {
  it('are seen with names, health, leader and size, also through the machine network proxy', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using proxy = await startConnectProxy((target) => Number(target.split(':')[1]));
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      { ...cluster.identity, proxyUrl: proxy.url },
      options,
    );
    const members = await until(client, allHealthy(3));
    expect(members.map((member) => member.name).sort()).toEqual(['cp-1', 'cp-2', 'cp-3']);
    expect(members.filter((member) => member.leader)).toHaveLength(1);
    expect(members.every((member) => /^\d{1,20}$/.test(member.id) && (member.dbSizeBytes ?? 0) > 0)).toBe(
      true,
    );
    expect(await patiently(() => client.alarms(signal))).toEqual([]);
    expect(proxy.asked.length).toBeGreaterThan(0);
  });

  it('are asked again and again by clients that come and go, on the same few connections', async () => {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await createEtcdNodes());
    const nodes = await threeNodes(cluster);
    const proxy = stack.use(await startConnectProxy((target) => Number(target.split(':')[1])));
    const connections = connectEtcd({ ...cluster.identity, proxyUrl: proxy.url });
    stack.defer(() => connections.destroy());
    const endpoints = nodes.map((node) => node.clientUrl);
    const client = stack.use(createEtcdClient(endpoints, cluster.identity, options));
    await until(client, allHealthy(3));
    for (let look = 0; look < 10; look += 1) {
      await using brief = createEtcdClient(endpoints, connections, options);
      expect(await brief.health(signal)).toHaveLength(3);
    }
    // At most four to each member; without any that are kept it would be three at each look.
    expect(proxy.asked.length).toBeLessThanOrEqual(12);
  });

  it('move leadership, also when asked for who leads already', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    const members = await until(client, allHealthy(3));
    const follower = members.find((member) => !member.leader) ?? expect.fail('no follower');
    await patiently(() => client.transferLeadership(follower.id, signal));
    await until(client, (now) => now.find((member) => member.leader)?.id === follower.id);
    await patiently(() => client.transferLeadership(follower.id, signal));
  });

  it('give up their leader in an orderly way, once: removing again is no error', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    const leader =
      (await until(client, allHealthy(3))).find((member) => member.leader) ?? expect.fail('no leader');
    expect(await patiently(() => client.remove(leader.id, signal))).toBe('removed');
    await nodes.find((node) => node.name === leader.name)?.ended(); // its process notices and exits
    expect(await client.remove(leader.id, signal)).toBe('absent');
    const left = await until(client, allHealthy(2));
    expect(left.map((member) => member.name)).not.toContain(leader.name);
  });

  it('let a dead member be removed, but no living one while it is dead', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    const members = await until(client, allHealthy(3));
    await nodes[2].kill();
    await until(
      client,
      (now) => now.filter((member) => member.healthy).length === 2 && now.some((m) => m.leader),
    );
    const refused = await refusedFor('quorum-at-risk', () => client.remove(idOf(members, 'cp-1'), signal));
    expect(refused.code).toBe('ETCD_QUORUM_AT_RISK');
    expect(await patiently(() => client.remove(idOf(members, 'cp-3'), signal))).toBe('removed');
    await until(client, allHealthy(2));
  });

  it('take no change after quorum is lost', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    const members = await until(client, allHealthy(3));
    await Promise.all([nodes[1].kill(), nodes[2].kill()]);
    const refused = await refusal(client.remove(idOf(members, 'cp-3'), signal));
    expect(['ETCD_QUORUM_AT_RISK', 'KUBE_UNREACHABLE']).toContain(refused.code);
  });

  it('show a learner that a failed join left behind: found by address, removed, then others can join', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    const ghost = await cluster.node('cp-4'); // never started
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    const members = await until(client, allHealthy(3));
    const id = await patiently(() => client.addLearner(ghost.peerUrl, signal));
    const seen = await until(client, (now) => now.some((member) => member.id === id));
    expect(seen.find((member) => member.id === id)).toMatchObject({
      name: '',
      learner: true,
      healthy: false,
    });
    const machines = nodes.map((node) => ({ name: node.name, addresses: ['10.0.0.1'] }));
    expect(membersWithoutMachine(seen, machines).map((member) => member.id)).toEqual([id]);
    await refusedFor('learner-present', () => client.remove(idOf(members, 'cp-1'), signal));
    expect(await patiently(() => client.promote(id, signal))).toBe('behind');
    expect(await patiently(() => client.remove(id, signal))).toBe('removed');
    await until(client, allHealthy(3));
  });

  it('grow from one by learner and promotion, as kubeadm joins do', async () => {
    await using cluster = await createEtcdNodes();
    const first = await cluster.node('cp-1');
    first.start('new', []);
    await using client = createEtcdClient([first.clientUrl], cluster.identity, options);
    await until(client, allHealthy(1));
    const second = await cluster.node('cp-2');
    const id = await patiently(() => client.addLearner(second.peerUrl, signal));
    second.start('existing', [first]);
    await until(client, (members) => members.some((member) => member.id === id && member.healthy));
    const promote = () => patiently(() => client.promote(id, signal));
    for (let attempt = 0; (await promote()) === 'behind'; attempt += 1) {
      if (attempt > 600) expect.fail('the learner never caught up');
      await systemClock.sleep(100);
    }
    expect(await promote()).toBe('promoted');
    await until(client, allHealthy(2));
  });

  it('stream a snapshot that is a whole database with a valid checksum', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    await until(client, allHealthy(3));
    const whole = Buffer.concat(await patiently(() => Array.fromAsync(client.snapshot(signal))));
    // etcd appends the SHA-256 of the database, which itself is a multiple of 512 bytes.
    const database = whole.subarray(0, whole.length - 32);
    expect(whole.length % 512).toBe(32);
    expect(createHash('sha256').update(database).digest('hex')).toBe(whole.subarray(-32).toString('hex'));
  });

  it('that are full take no membership change until the alarm is disarmed by hand', async () => {
    await using cluster = await createEtcdNodes();
    const only = await cluster.node('cp-1');
    only.start('new', [], ['--quota-backend-bytes', String(1024 * 1024)]);
    await using client = createEtcdClient([only.clientUrl], cluster.identity, options);
    const [member] = await until(client, allHealthy(1));
    const id = member?.id ?? expect.fail('no member');
    expect(await patiently(() => client.alarms(signal))).toEqual([]);
    const call = rawCalls(cluster.identity, only);
    const value = Buffer.alloc(128 * 1024, 'x').toString('base64');
    let status = 200;
    let raised: EtcdAlarm[] = [];
    for (let key = 0; raised.length === 0 && key < 40; key += 1) {
      ({ status } = await call('/v3/kv/put', { key: encode(`k${key}`), value }));
      raised = await patiently(() => client.alarms(signal));
    }
    expect(status).not.toBe(200);
    expect(raised).toEqual([{ memberId: id, member: 'cp-1', alarm: 'NOSPACE' }]);
    const refused = await refusal(client.remove(id, signal));
    expect([refused.code, refused.details?.['reason']]).toEqual(['ETCD_QUORUM_AT_RISK', 'alarm']);
    expect(refused.message).toContain('etcd alarm NOSPACE on cp-1');
    expect(refused.fix).toContain('--quota-backend-bytes');
    const disarmed = await call('/v3/maintenance/alarm', {
      action: 'DEACTIVATE',
      memberID: id,
      alarm: 'NOSPACE',
    });
    expect(disarmed.status).toBe(200);
    expect(await patiently(() => client.alarms(signal))).toEqual([]);
    expect((await refusal(client.remove(id, signal))).details?.['reason']).toBe('last-member');
  });

  it('whose data differ are known by their alarm, which stays', async () => {
    await using cluster = await createEtcdNodes();
    const nodes = await threeNodes(cluster);
    await using client = createEtcdClient(
      nodes.map((node) => node.clientUrl),
      cluster.identity,
      options,
    );
    const id = idOf(await until(client, allHealthy(3)), 'cp-2');
    const call = rawCalls(cluster.identity, nodes[0]);
    const activation = { action: 'ACTIVATE', memberID: id, alarm: 'CORRUPT' };
    await expect.poll(() => call('/v3/maintenance/alarm', activation)).toEqual({ status: 200 });
    const raised = [{ memberId: id, member: 'cp-2', alarm: 'CORRUPT' }];
    expect(await patiently(() => client.alarms(signal))).toEqual(raised);
    const refused = await refusal(client.remove(id, signal));
    expect(refused.code).toBe('ETCD_QUORUM_AT_RISK');
    expect(refused.details?.['reason']).toBe('alarm');
    expect(await client.members(signal)).toHaveLength(3);
    expect(await patiently(() => client.alarms(signal))).toEqual(raised);
  });

  it('are read past a machine that swallows what is sent to it, without waiting for it', async () => {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await createEtcdNodes());
    const only = await cluster.node('cp-1');
    only.start('new', []);
    const order: string[] = [];
    const hole = createServer((socket) => {
      order.push('dialled');
      socket.on('error', () => {}).once('close', () => order.push('given up'));
    }).listen(0, '127.0.0.1');
    await once(hole, 'listening');
    stack.defer(() => void hole.close());
    const url = `https://127.0.0.1:${(hole.address() as AddressInfo).port}`;
    await until(stack.use(createEtcdClient([only.clientUrl], cluster.identity, options)), allHealthy(1));
    const client = stack.use(createEtcdClient([url, only.clientUrl], cluster.identity, options));
    expect(await patiently(() => client.alarms(signal))).toEqual([]);
    order.push('alarms');
    expect(await client.members(signal)).toHaveLength(1);
    expect(order.slice(0, 2)).toEqual(['dialled', 'alarms']);
  });

  it('refuse a stranger without a certificate of their CA', async () => {
    await using cluster = await createEtcdNodes();
    const only: EtcdNode = await cluster.node('cp-1');
    only.start('new', []);
    await using client = createEtcdClient([only.clientUrl], cluster.identity, options);
    await until(client, allHealthy(1));
    await using stranger = createEtcdClient([only.clientUrl], { caPem: cluster.identity.caPem }, options);
    expect((await refusal(stranger.members(signal))).code).toBe('KUBE_UNREACHABLE');
  });
});
