/** A real kubectl works on a simulated cluster: the independent judge of the API double. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { request } from 'undici';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { GIVE_UP_MS } from '../../support/eventually.ts';
import { joinUserData, KubeSite, VIP } from '../../support/kube-site.ts';
import { describeWith, findProgram } from '../../support/needs.ts';

const run = promisify(execFile);
const WEB = [
  {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'web', image: 'nginx:1.27', ports: [{ containerPort: 80 }] }] },
      },
    },
  },
  {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'box' },
    spec: {
      containers: [
        { name: 'box', image: 'busybox', command: ['sh', '-c', 'while true; do echo tick; sleep 60; done'] },
      ],
    },
  },
];

describeWith(['kubectl'], 'kubectl on a simulated cluster', () => {
  let site: KubeSite;
  let bridge: Server;
  let directory: string;
  const program = findProgram('kubectl') ?? 'kubectl';
  const file = (name: string) => join(directory, name);
  const environment = () => ({ ...process.env, KUBECONFIG: file('config'), HOME: directory });

  async function kubectl(...args: string[]): Promise<string> {
    const { stdout } = await run(program, args, { env: environment(), timeout: 2 * GIVE_UP_MS });
    return stdout;
  }
  const failure = (...args: string[]): Promise<{ code: number; stderr: string }> =>
    kubectl(...args).then(
      () => ({ code: 0, stderr: '' }),
      (error: { code: number; stderr: string }) => error,
    );

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kubectl-'));
    site = await KubeSite.create(300, true);
    await site.firstNode();
    for (const host of ['w-1', 'w-2']) site.boot(host, joinUserData(site.files, 'worker'));
    await site.applyCni();
    for (const host of ['w-1', 'w-2'])
      await site.until(
        `${host} is Ready`,
        () => site.runtime.clusters()[0]?.nodes.find((node) => node.name === host)?.ready,
      );
    bridge = createServer(async (socket) => {
      const wire = await site.network.connect(VIP, 6443);
      for (const end of [socket, wire]) end.on('error', () => {});
      socket.pipe(wire).pipe(socket);
      socket.on('close', () => wire.destroy());
    });
    await new Promise<void>((resolve) => bridge.listen(0, '127.0.0.1', resolve));
    const { port } = bridge.address() as AddressInfo;
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    writeFileSync(
      file('config'),
      stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [
          {
            name: 'c',
            cluster: {
              server: `https://127.0.0.1:${port}`,
              'certificate-authority-data': base64(site.pki.ca.certPem),
            },
          },
        ],
        users: [
          {
            name: 'u',
            user: {
              'client-certificate-data': base64(site.admin.certPem),
              'client-key-data': base64(site.admin.keyPem),
            },
          },
        ],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
        'current-context': 'x',
      }),
    );
    writeFileSync(file('web.yaml'), WEB.map((document) => stringify(document)).join('---\n'));
    await kubectl('apply', '-f', file('web.yaml'));
    await kubectl('wait', '--for=condition=Ready', 'pod/box', '--timeout=60s');
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=60s');
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    bridge.close();
    rmSync(directory, { recursive: true });
  });

  const firstWeb = async () =>
    (await kubectl('get', 'pod', '-l', 'app=web', '-o', 'jsonpath={.items[0].metadata.name}')).trim();

  it('gets, describes and applies; a second apply changes nothing, a misspelt field is refused', async () => {
    expect(await kubectl('get', 'nodes')).toMatch(/^cp-1\s+Ready\s+control-plane/m);
    expect(await kubectl('get', 'pods', '-A', '-o', 'wide')).toMatch(
      /kube-system\s+etcd-cp-1\s+1\/1\s+Running/,
    );
    expect(await kubectl('apply', '-f', file('web.yaml'))).toMatch(
      /deployment.apps\/web unchanged\npod\/box unchanged/,
    );
    expect(await kubectl('apply', '--server-side', '--force-conflicts', '-f', file('web.yaml'))).toMatch(
      /deployment.apps\/web serverside-applied/,
    );
    expect(await kubectl('describe', 'pod', await firstWeb())).toMatch(/Image:\s+nginx:1.27/);
    writeFileSync(
      file('bad.yaml'),
      stringify({ ...WEB[1], metadata: { name: 'bad' }, spec: { containrs: [] } }),
    );
    const refused = await failure('apply', '-f', file('bad.yaml'));
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/unknown field|containers/);
  });

  it('tells what happened to nodes and pods', async () => {
    const name = await firstWeb();
    const described = await kubectl('describe', 'pod', name);
    expect(described).toMatch(
      /Normal\s+Scheduled\s.*default-scheduler\s+Successfully assigned default\/web-/,
    );
    expect(described).toMatch(/Normal\s+Started\s.*kubelet\s+Started container web/);
    expect(await kubectl('describe', 'node', 'w-1')).toMatch(
      /NodeReady.*kubelet.*w-1 status is now: NodeReady/,
    );
    const events = await kubectl('get', 'events', '--sort-by=.lastTimestamp');
    expect(events).toMatch(new RegExp(`Normal\\s+Started\\s+pod/${name}\\s+Started container web`));
    expect(events).toMatch(/SuccessfulCreate\s+replicaset\/web-\w+\s+Created pod: web-/);
    expect(await kubectl('events', '--for', `pod/${name}`)).toMatch(/Pulled\s+Pod\/web-/);
    await kubectl('run', 'nowhere', '--image=busybox', '--overrides={"spec":{"nodeSelector":{"a":"b"}}}');
    await site.until('a warning', async () => /FailedScheduling/.test(await kubectl('get', 'events')));
    await kubectl('delete', 'pod', 'nowhere', '--now');
  });

  it('takes what kubectl creates by itself, and prints it as people know it', async () => {
    const field = (what: string, path: string) =>
      kubectl('get', ...what.split(' '), '-o', `jsonpath={${path}}`).then(JSON.parse);
    await kubectl('create', 'cronjob', 'hello', '--image=busybox', '--schedule=*/5 * * * *', '--', 'date');
    expect(await kubectl('get', 'cronjobs')).toMatch(
      /^hello\s+\*\/5 \* \* \* \*\s+<none>\s+False\s+0\s+<none>/m,
    );
    await kubectl('create', 'job', 'now', '--from=cronjob/hello');
    expect(await field('job now', '.metadata.ownerReferences')).toMatchObject([
      { kind: 'CronJob', name: 'hello', controller: true },
    ]);
    await kubectl('autoscale', 'deployment', 'web', '--min=1', '--max=5', '--cpu-percent=50');
    expect(await kubectl('get', 'hpa')).toMatch(/^web\s+Deployment\/web\s+cpu: <unknown>\/50%\s+1\s+5\s+0/m);
    expect(
      await kubectl(
        'get',
        'horizontalpodautoscalers.v1.autoscaling',
        'web',
        '-o',
        'jsonpath={.spec.targetCPUUtilizationPercentage}',
      ),
    ).toBe('50');
    await kubectl('expose', 'deployment', 'web', '--port=80');
    await site.until('endpoints', async () =>
      /^web-1\s+IPv4\s+80\s+192\.168\.\S+,192\.168\.\S+/m.test(await kubectl('get', 'endpointslices')),
    );
    await kubectl('create', 'ingress', 'front', '--class=nginx', '--rule=a.example/c=web:80,tls=sec');
    expect(await kubectl('get', 'ingress')).toMatch(/^front\s+nginx\s+a\.example\s+80, 443/m);
    await kubectl('create', 'service', 'clusterip', 'plain', '--tcp=81:8081');
    expect(await field('service plain', '.spec.ports[0]')).toMatchObject({ port: 81, targetPort: 8081 });
    await kubectl('create', 'pdb', 'half', '--selector=app=web', '--min-available=50%');
    expect(await field('pdb half', '.spec')).toMatchObject({
      minAvailable: '50%',
      selector: { matchLabels: { app: 'web' } },
    });
    await kubectl('create', 'quota', 'small', '--hard=pods=30,cpu=2');
    expect(await field('quota small', '.spec.hard')).toEqual({ pods: '30', cpu: '2' });
    await kubectl('create', 'priorityclass', 'high', '--value=10');
    expect(await field('priorityclass high', '.value')).toBe(10);
    await kubectl('create', 'role', 'reader', '--verb=get', '--resource=pods');
    await kubectl('create', 'rolebinding', 'joe', '--role=reader', '--user=joe');
    expect(await kubectl('auth', 'can-i', 'get', 'pods', '--as=joe')).toBe('yes\n');
    await kubectl('create', 'clusterrolebinding', 'jane', '--clusterrole=cluster-admin', '--user=jane');
    expect(await kubectl('auth', 'can-i', 'delete', 'nodes', '--as=jane')).toBe('yes\n');
    await kubectl('debug', 'node/w-1', '--image=busybox', '--profile=general');
    const pods = JSON.parse(await kubectl('get', 'pods', '-o', 'json')).items as {
      metadata: { name: string };
      spec: object;
    }[];
    expect(pods.find(({ metadata }) => metadata.name.startsWith('node-debugger-w-1'))?.spec).toMatchObject({
      nodeName: 'w-1',
      hostPID: true,
      volumes: [{ name: 'host-root', hostPath: { path: '/' } }],
      containers: [{ stdin: false, volumeMounts: [{ mountPath: '/host', name: 'host-root' }] }],
    });
  });

  it('reads logs, and follows them', async () => {
    expect(await kubectl('logs', 'box', '--tail=1')).toBe('tick\n');
    const follow = spawn(program, ['logs', '-f', 'box', '--tail=1'], { env: environment() });
    let lines = 0;
    for await (const chunk of follow.stdout) {
      lines += String(chunk).split('tick\n').length - 1;
      if (lines >= 4) break;
    }
    follow.kill();
    expect(lines).toBeGreaterThanOrEqual(4);
  });

  it('executes commands with their exit code, and echoes stdin byte by byte', async () => {
    expect(await kubectl('exec', 'box', '--', 'sh', '-c', 'echo out > /tmp/f; cat /tmp/f')).toBe('out\n');
    expect((await failure('exec', 'box', '--', 'sh', '-c', 'exit 7')).code).toBe(7);
    expect((await failure('exec', 'box', '--', 'no-such-program')).stderr).toMatch(
      /executable file not found/,
    );
    const echo = spawn(program, ['exec', '-i', 'box', '--', 'cat'], { env: environment() });
    const sent = Buffer.alloc(300_000, 'abcdefghij');
    echo.stdin.end(sent);
    const chunks: Buffer[] = [];
    for await (const chunk of echo.stdout) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(sent)).toBe(true);
  });

  it('copies files in and out', async () => {
    const content = Buffer.alloc(100_000, 'copy me ');
    writeFileSync(file('in'), content);
    await kubectl('cp', file('in'), 'box:/tmp/copied');
    await kubectl('cp', 'box:/tmp/copied', file('out'));
    expect(readFileSync(file('out')).equals(content)).toBe(true);
  });

  it('forwards ports', async () => {
    const pod = await firstWeb();
    const forward = spawn(program, ['port-forward', `pod/${pod}`, ':80'], { env: environment() });
    const [line] = (await once(forward.stdout, 'data')) as [Buffer];
    const port = /127\.0\.0\.1:(\d+)/.exec(String(line))?.[1];
    for (const _again of [1, 2]) {
      const reply = await request(`http://127.0.0.1:${port}/`);
      expect(await reply.body.text()).toBe(`hello from ${pod}\n`);
    }
    forward.kill();
  });

  it('drains a node: pods move, daemons stay', async () => {
    const node = (await kubectl('get', 'pod', 'box', '-o', 'jsonpath={.spec.nodeName}')).trim();
    await kubectl('drain', node, '--ignore-daemonsets', '--force', '--delete-emptydir-data', '--timeout=60s');
    expect(await kubectl('get', 'node', node)).toMatch(/Ready,SchedulingDisabled/);
    const left = await kubectl(
      'get',
      'pods',
      '-A',
      '--field-selector',
      `spec.nodeName=${node}`,
      '-o',
      'jsonpath={.items[*].metadata.ownerReferences[0].kind}',
    );
    expect(new Set(left.trim().split(' '))).toEqual(new Set(['DaemonSet']));
    await kubectl('uncordon', node);
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=60s');
  });

  it('creates, watches and deletes namespaces with their contents', async () => {
    await kubectl('create', 'namespace', 'team');
    await kubectl('-n', 'team', 'create', 'configmap', 'settings', '--from-literal=a=b');
    const watching = spawn(program, ['-n', 'team', 'get', 'configmaps', '-w', '--no-headers'], {
      env: environment(),
    });
    const seen: string[] = [];
    const changed = (async () => {
      for await (const chunk of watching.stdout) {
        seen.push(String(chunk));
        if (seen.join('').includes('later')) break;
      }
    })();
    await kubectl('-n', 'team', 'create', 'configmap', 'later', '--from-literal=a=b');
    await changed;
    watching.kill();
    await kubectl('delete', 'namespace', 'team', '--timeout=60s');
    expect((await failure('get', 'namespace', 'team')).stderr).toMatch(/NotFound/);
  });
});
