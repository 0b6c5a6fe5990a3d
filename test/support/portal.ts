/** A portal on a free port with an administrator signed in, and builders of what its API takes. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/base/clock.ts';
import { steadyClock } from './steady-clock.ts';
import { type Log, Secret, silentLog } from '../../src/base/log.ts';
import type { ClusterSpecInput, ClusterStatus } from '../../src/contract/cluster.ts';
import type { Event } from '../../src/contract/events.ts';
import { type PortalOptions, startPortal } from '../../src/portal/server.ts';
import { generateIdentity, type Identity } from '../../src/tunnel/identity.ts';
import { type Paired, pairWithPortal } from '../../src/tunnel/pair-client.ts';
import { ownPort } from './own-port.ts';

export const ADMIN = { email: 'admin@example.test', password: 'correct horse battery' };

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint: tests look into bodies freely
  readonly body: any;
}

export interface TestPortal extends AsyncDisposable {
  readonly url: string;
  readonly tunnelUrl: string;
  readonly directory: string;
  readonly token: string;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  signIn(email: string, password: string): Promise<string>;
  /** Makes a code and pairs a new gateway with it. */
  pair(name: string, identity?: Identity): Promise<{ identity: Identity; paired: Paired }>;
}

export async function testPortal(
  options: Partial<Omit<PortalOptions, 'admin'>> & { clock?: Clock; log?: Log; directory?: string } = {},
): Promise<TestPortal> {
  await using stack = new AsyncDisposableStack();
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'pcg-portal-')));
  if (options.directory === undefined) stack.defer(() => rm(directory, { recursive: true, force: true }));
  const clock = options.clock ?? steadyClock;
  const portal = stack.use(
    await startPortal({
      host: '127.0.0.1',
      port: await ownPort(), // a test may end this portal and start the next one on the same
      store: { kind: 'sqlite', path: join(directory, 'portal.db') },
      log: silentLog,
      page: false,
      ...options,
      limits: { passwordCost: 2 ** 10, ...options.limits },
      clock,
      admin: { email: ADMIN.email, password: new Secret(ADMIN.password) },
    }),
  );
  const state = { token: '' };
  const call: TestPortal['call'] = async (method, path, body, headers = {}) => {
    const response = await fetch(`${portal.url}${path}`, {
      method,
      headers: {
        ...(state.token === '' ? {} : { authorization: `Bearer ${state.token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: 'manual',
    });
    const text = await response.text();
    const json = response.headers.get('content-type')?.includes('json') === true;
    return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text };
  };
  const signIn = async (email: string, password: string) =>
    (await call('POST', '/api/v1/session', { email, password })).body.token as string;
  state.token = await signIn(ADMIN.email, ADMIN.password);
  const running = stack.move();
  return {
    url: portal.url,
    tunnelUrl: portal.tunnelUrl,
    directory,
    token: state.token,
    call,
    signIn,
    async pair(name, identity = generateIdentity()) {
      const made = await call('POST', '/api/v1/pairing-codes', { gatewayName: name });
      const paired = await pairWithPortal({ portalUrl: portal.url, code: made.body.code, identity, clock });
      return { identity, paired };
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

export function clusterSpec(cloudAccount: string, changes: Partial<ClusterSpecInput> = {}): ClusterSpecInput {
  return {
    name: 'prod',
    cloudAccount,
    profile: 'profile-ubuntu-flannel',
    pools: [
      { role: 'control-plane', name: 'cp', size: 1 },
      { role: 'worker', name: 'workers', size: 2 },
    ],
    ...changes,
  };
}

const AT = '2026-01-01T00:00:00.000Z';

export function clusterStatus(changes: Partial<ClusterStatus> = {}): ClusterStatus {
  return {
    phase: 'Provisioning',
    observedGeneration: 1,
    observedAt: AT,
    conditions: [],
    nodes: [],
    tasks: [],
    progress: { done: 0, total: 3 },
    policies: [],
    leftovers: [],
    ...changes,
  };
}

export function gatewayStatus(account = 'ca-site1') {
  return {
    version: '0.1.0',
    startedAt: AT,
    observedAt: AT,
    hostname: 'gw1',
    nodeVersion: 'v26',
    accounts: [{ id: account, endpoint: 'http://10.0.0.1:5240/MAAS', state: 'ready', message: '' }],
    nodes: [],
    clusters: 0,
  };
}

export function event(seq: number, changes: Partial<Event> = {}): Event {
  return { seq, time: AT, severity: 'info', reason: 'MachineAllocated', message: `event ${seq}`, ...changes };
}
