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
    const { stdout } = await run(program, args, { env: environment(), timeout: 20_000 });
    return stdout;
  }
  const failure = (...args: string[]): Promise<{ code: number; stderr: string }> =>
    kubectl(...args).then(
      () => ({ code: 0, stderr: '' }),
      (error: { code: number; stderr: string }) => error,
    );

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kubectl-'));
    site = await KubeSite.create(300);
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
    await kubectl('wait', '--for=condition=Ready', 'pod/box', '--timeout=15s');
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=15s');
  }, 60_000);

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    bridge.close();
    rmSync(directory, { recursive: true });
  });

  const firstWeb = async () =>
    (await kubectl('get', 'pod', '-l', 'app=web', '-o', 'jsonpath={.items[0].metadata.name}')).trim();

  it('gets, describes and applies; a second apply changes nothing, a misspelt field is refused', {
    timeout: 30_000,
  }, async () => {
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

  it('reads logs, and follows them', { timeout: 30_000 }, async () => {
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

  it('executes commands with their exit code, and echoes stdin byte by byte', {
    timeout: 30_000,
  }, async () => {
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

  it('copies files in and out', { timeout: 30_000 }, async () => {
    const content = Buffer.alloc(100_000, 'copy me ');
    writeFileSync(file('in'), content);
    await kubectl('cp', file('in'), 'box:/tmp/copied');
    await kubectl('cp', 'box:/tmp/copied', file('out'));
    expect(readFileSync(file('out')).equals(content)).toBe(true);
  });

  it('forwards ports', { timeout: 30_000 }, async () => {
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

  it('drains a node: pods move, daemons stay', { timeout: 40_000 }, async () => {
    const node = (await kubectl('get', 'pod', 'box', '-o', 'jsonpath={.spec.nodeName}')).trim();
    await kubectl('drain', node, '--ignore-daemonsets', '--force', '--delete-emptydir-data', '--timeout=15s');
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
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=15s');
  });

  it('creates, watches and deletes namespaces with their contents', { timeout: 30_000 }, async () => {
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
    await kubectl('delete', 'namespace', 'team', '--timeout=15s');
    expect((await failure('get', 'namespace', 'team')).stderr).toMatch(/NotFound/);
  });
});
