/**
 * An API server for tests of the Kubernetes client: the simulator's, or with KUBEBUILDER_ASSETS set the real
 * kube-apiserver and etcd found there (the envtest convention). No controllers run behind either.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import type { KubeClient, KubeTarget } from '../../src/kube/client.ts';
import { createKubeClient } from '../../src/kube/http.ts';
import { issueServerCertificate } from '../../src/kube/pki.ts';
import { ApiCore } from '../../src/simulator/kubernetes/api/core.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import { ApiFront } from '../../src/simulator/kubernetes/api/serve.ts';
import { createDefaults } from '../../src/simulator/kubernetes/node/default-rbac.ts';
import { ownPort } from './own-port.ts';
import { patientClock } from './patient-clock.ts';
import { clientPair, testPki } from './tls-server.ts';

const HOUR_MS = 3_600_000;
/** A real kube-apiserver starts within some seconds; this ends the wait for one that never will. */
const START_TIMEOUT_MS = 180_000;

export interface TestApiServer extends AsyncDisposable {
  /** As cluster administrator. */
  readonly client: KubeClient;
  readonly target: KubeTarget;
  /** Another client of the same server. */
  connect(changes: Partial<KubeTarget>): KubeClient;
}

async function servingCertificate() {
  const pki = await testPki();
  const pair = await issueServerCertificate(pki.ca, {
    commonName: 'kube-apiserver',
    dnsNames: ['localhost', 'kubernetes'],
    ipAddresses: ['127.0.0.1'],
    nowMs: Date.now(),
    validityMs: HOUR_MS,
  });
  return { pki, pair };
}

async function describeServer(port: number) {
  const { ca } = await testPki();
  const admin = await clientPair(ca);
  const target: KubeTarget = {
    server: `https://127.0.0.1:${port}`,
    caPem: ca.certPem,
    certPem: admin.certPem,
    keyPem: admin.keyPem,
  };
  const clients: KubeClient[] = [];
  const connect = (changes: Partial<KubeTarget>) => {
    const client = createKubeClient({ ...target, ...changes }, { clock: patientClock, log: silentLog });
    clients.push(client);
    return client;
  };
  const close = () => Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
  return { target, client: connect({}), connect, close };
}

/** The simulator's API server on a port of this machine. */
export async function startApiDouble(): Promise<TestApiServer & { readonly core: ApiCore; cut(): void }> {
  const { pki, pair } = await servingCertificate();
  const core = new ApiCore({ clock: systemClock, log: silentLog, version: 'v1.36.1' });
  createDefaults(core);
  // What controllers do that kube-apiserver has built in, or that pods cannot be created without.
  core.ensure(R.serviceaccounts, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'default', namespace: 'default' },
  });
  core.store.subscribe(R.crds, ({ type, object }) => {
    if (type !== 'ADDED') return;
    core.edit(R.crds, { name: object.metadata.name }, (draft) => {
      draft.status = {
        ...draft.status,
        conditions: ['NamesAccepted', 'Established'].map((name) => ({ type: name, status: 'True' })),
      };
    });
  });
  const front = new ApiFront(core, {
    certPem: pair.certPem,
    keyPem: pair.keyPem,
    clientCaPem: pki.ca.certPem,
  });
  const listener = createServer((socket: Socket) => front.accept(socket));
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { close, ...server } = await describeServer((listener.address() as AddressInfo).port);
  return {
    ...server,
    core,
    cut: () => front.cut(),
    [Symbol.asyncDispose]: async () => {
      await close();
      await front[Symbol.asyncDispose]();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

/** What a program said last, for the error when it does not start. */
const KEPT_OUTPUT = 4_000;

interface Program {
  readonly child: ChildProcess;
  /** How it ended, or why it could not be started; undefined while it runs. */
  ended(): string | undefined;
  output(): string;
}

function runProgram(path: string, args: string[]): Program {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let failed: string | undefined;
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      if (process.env['PCG_TEST_VERBOSE']) process.stderr.write(chunk);
      output = `${output}${chunk.toString('utf8')}`.slice(-KEPT_OUTPUT);
    });
  // A program that is missing or not executable never emits `exit`.
  child.on('error', (error) => (failed = error.message));
  return {
    child,
    output: () => output,
    ended: () => {
      if (failed !== undefined) return failed;
      const { exitCode, signalCode } = child;
      return exitCode === null && signalCode === null ? undefined : `ended with ${exitCode ?? signalCode}`;
    },
  };
}

/** kube-apiserver and etcd from `assets`. */
export async function startRealApiServer(assets: string): Promise<TestApiServer> {
  for (const program of ['etcd', 'kube-apiserver'])
    if (!existsSync(join(assets, program)))
      throw new Error(`KUBEBUILDER_ASSETS: there is no ${program} in ${assets}`);
  const { pki, pair } = await servingCertificate();
  const directory = mkdtempSync(join(tmpdir(), 'kube-apiserver-'));
  const write = (name: string, content: string) => {
    writeFileSync(join(directory, name), content, { mode: 0o600 });
    return join(directory, name);
  };
  const [client, peer, secure] = [await ownPort(), await ownPort(), await ownPort()];
  const programs: Program[] = [];
  const run = (program: string, args: string[]) => programs.push(runProgram(join(assets, program), args));
  run('etcd', [
    `--data-dir=${join(directory, 'etcd')}`,
    `--listen-client-urls=http://127.0.0.1:${client}`,
    `--advertise-client-urls=http://127.0.0.1:${client}`,
    `--listen-peer-urls=http://127.0.0.1:${peer}`,
  ]);
  run('kube-apiserver', [
    `--etcd-servers=http://127.0.0.1:${client}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    `--secure-port=${secure}`,
    `--cert-dir=${directory}`, // its default belongs to root
    `--tls-cert-file=${write('tls.crt', pair.certPem)}`,
    `--tls-private-key-file=${write('tls.key', pair.keyPem)}`,
    `--client-ca-file=${write('ca.crt', pki.ca.certPem)}`,
    `--service-account-key-file=${write('sa.pub', pki.serviceAccount.publicPem)}`,
    `--service-account-signing-key-file=${write('sa.key', pki.serviceAccount.privatePem)}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    '--service-cluster-ip-range=10.96.0.0/16',
    '--authorization-mode=Node,RBAC',
    '--enable-bootstrap-token-auth',
    '--allow-privileged=true',
    // No controller makes the default accounts that it would put into every pod.
    '--disable-admission-plugins=ServiceAccount',
  ]);
  const { close, ...server } = await describeServer(secure);
  const stop = async () => {
    await close();
    for (const { child, ended } of programs.reverse()) {
      if (ended() !== undefined) continue;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
    rmSync(directory, { recursive: true, force: true });
  };
  const deadline = systemClock.monotonic() + START_TIMEOUT_MS;
  while (!(await isUsable(server.client))) {
    const dead = programs.find(({ ended }) => ended() !== undefined);
    if (systemClock.monotonic() > deadline || dead) {
      await stop();
      const said = (dead ?? programs.at(-1))?.output() ?? '';
      throw new Error(
        `kube-apiserver of ${assets} did not become ready (${dead?.ended() ?? 'no answer in time'}):\n${said}`,
      );
    }
    await systemClock.sleep(200);
  }
  return { ...server, [Symbol.asyncDispose]: stop };
}

/** Ready, and with the namespaces that it makes for itself a moment later. */
async function isUsable(client: KubeClient): Promise<boolean> {
  const { signal } = new AbortController();
  if (!(await client.ready(signal))) return false;
  const { items } = await client.list('/api/v1/namespaces', signal);
  const made = items.map(({ metadata }) => metadata.name);
  return ['default', 'kube-system'].every((name) => made.includes(name));
}
