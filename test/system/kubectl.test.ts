/**
 * A real kubectl through everything, as separate processes: kubeconfig from the portal, TLS to the portal, the tunnel
 * (with a proxy on its way that cuts it), the gateway, the machine network, a simulated API server.
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { promisify } from 'node:util';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { systemClock } from '../../src/base/clock.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { describeWith, findProgram } from '../support/needs.ts';
import { EMAIL, PASSWORD, Site } from '../support/site.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
/** What one command may take; the machine may be busy. */
const COMMAND_MS = 180_000;
/** The full size is `PCG_BIG_MIB=1024 PCG_FOLLOWERS=50`; this is what a test may take of everybody's time. */
const BIG_MIB = Number(process.env['PCG_BIG_MIB'] ?? 200);
const FOLLOWERS = Number(process.env['PCG_FOLLOWERS'] ?? 20);
const CUTS = 5;

const WEB = {
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
};
const pod = (name: string, script: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name },
  spec: {
    containers: [{ name, image: 'busybox', stdin: true, command: ['sh', '-c', script] }],
  },
});
/** The simulator runs 200 times faster: a line every quarter of a second. */
const BOX = pod('box', 'while true; do date; sleep 50; done');
const ECHO = pod('echo', 'cat');

describeWith(['kubectl'], 'kubectl through portal, tunnel and gateway', () => {
  const program = findProgram('kubectl') ?? 'kubectl';
  const directory = mkdtempSync(join(tmpdir(), 'pcg-kubectl-'));
  const file = (name: string) => join(directory, name);
  let site: Site;
  let wire: FaultProxy;
  let cluster: string;

  const environment = (user: string, more: Record<string, string> = {}) => ({
    PATH: process.env['PATH'] ?? '',
    HOME: directory,
    KUBECONFIG: file(user),
    ...more,
  });
  const as = async (user: string, args: readonly string[], more: Record<string, string> = {}) =>
    (
      await run(program, [...args], {
        env: environment(user, more),
        timeout: COMMAND_MS,
        maxBuffer: 64 * MIB,
      })
    ).stdout;
  const kubectl = (...args: string[]) => as('admin', args);
  const failing = (user: string, ...args: string[]): Promise<{ code: number; stderr: string }> =>
    as(user, args).then(
      (stdout) => ({ code: 0, stderr: `succeeded: ${stdout}` }),
      (error: { code: number; stderr: string }) => error,
    );
  const start = (args: readonly string[], more: Record<string, string> = {}) =>
    spawn(program, [...args], { env: environment('admin', more) });

  async function signIn(email: string): Promise<string> {
    const answer = await request(`${site.portalUrl}/api/v1/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email, password: PASSWORD }),
    });
    return ((await answer.body.json()) as { token: string }).token;
  }
  async function download(user: string, email: string): Promise<void> {
    const answer = await request(`${site.portalUrl}/api/v1/clusters/${cluster}/kubeconfig`, {
      headers: { authorization: `Bearer ${await signIn(email)}` },
    });
    expect(answer.statusCode).toBe(200);
    writeFileSync(file(user), await answer.body.text());
  }
  async function user(name: string, role: string): Promise<void> {
    const body = { email: `${name}@site.test`, role, password: PASSWORD };
    await site.client.call('POST', '/api/v1/users', body, new AbortController().signal);
    await download(name, body.email);
  }
  /** One that stays: the first in the list may be on its way out after a change. */
  const firstWeb = async () => {
    const { items } = JSON.parse(await kubectl('get', 'pod', '-l', 'app=web', '-o', 'json')) as {
      items: { metadata: { name: string; deletionTimestamp?: string } }[];
    };
    return items.find(({ metadata }) => metadata.deletionTimestamp === undefined)?.metadata.name ?? '';
  };

  beforeAll(async () => {
    site = await Site.withoutAgent();
    wire = await FaultProxy.to(Number(new URL(site.portalUrl).port));
    await site.stopPortal();
    const publicUrl = `http://127.0.0.1:${wire.port}`;
    await site.startPortal(['--public-url', publicUrl]);
    await site.pair(undefined, publicUrl);
    await site.startAgent();
    await site.waitForAccount();
    const created = await site.createCluster(site.spec({ controlPlane: 1, workers: 2 }));
    cluster = created.id;
    await site.waitForPhase(cluster, 'Running');
    await download('admin', EMAIL);
    writeFileSync(file('web.yaml'), [WEB, BOX, ECHO].map((document) => stringify(document)).join('---\n'));
    await kubectl('apply', '-f', file('web.yaml'));
    await kubectl('wait', '--for=condition=Ready', 'pod/box', 'pod/echo', '--timeout=120s');
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
  });

  afterAll(async () => {
    await wire?.[Symbol.asyncDispose]();
    await site?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  it('is somebody: the portal user, by a kubeconfig that trusts the portal and holds no cluster credential', async () => {
    const config = parse(readFileSync(file('admin'), 'utf8'));
    expect(config.clusters[0].cluster.server).toMatch(/^https:\/\/127\.0\.0\.1:\d+\/k8s\/clusters\//);
    expect(config.clusters[0].cluster['certificate-authority-data']).toBeDefined();
    expect(Object.keys(config.users[0].user)).toEqual(['token']);
    const whoami = await kubectl('auth', 'whoami', '-o', 'json');
    const { userInfo } = JSON.parse(whoami).status;
    expect(userInfo.username).toBe(EMAIL);
    expect(userInfo.groups).toContain('pcg:tenant-admin');
    expect(await kubectl('auth', 'can-i', '*', '*')).toBe('yes\n');
  });

  it('gets, describes, compares and applies on both sides', async () => {
    await kubectl('wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=120s');
    expect((await kubectl('get', 'nodes')).match(/ Ready /g)).toHaveLength(3);
    expect(await kubectl('get', 'pods', '-A', '-o', 'wide')).toMatch(/^kube-system\s+\S+\s+1\/1\s+Running/m);
    expect(parse(await kubectl('get', 'deployment', 'web', '-o', 'yaml')).spec.replicas).toBe(2);
    expect(await kubectl('apply', '-f', file('web.yaml'))).toMatch(/web unchanged/);
    const more = { ...WEB, spec: { ...WEB.spec, replicas: 3 } };
    writeFileSync(file('more.yaml'), stringify(more));
    const difference = await as('admin', ['diff', '-f', file('more.yaml')]).catch(
      (error: { code: number; stdout: string }) => (error.code === 1 ? error.stdout : String(error)),
    );
    expect(difference).toMatch(/^\+\s+replicas: 3$/m);
    expect(await kubectl('apply', '--dry-run=server', '-f', file('more.yaml'))).toMatch(/server dry run/);
    expect(parse(await kubectl('get', 'deployment', 'web', '-o', 'yaml')).spec.replicas).toBe(2);
    await kubectl('apply', '--server-side', '--force-conflicts', '-f', file('more.yaml'));
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
    expect(await kubectl('describe', 'pod', await firstWeb())).toMatch(/Image:\s+nginx:1\.27/);
  });

  it('edits, rolls out, rolls back and waits, and fails in the words of Kubernetes', async () => {
    const replicas = () => kubectl('get', 'deployment', 'web', '-o', 'jsonpath={.spec.replicas}');
    await as('admin', ['edit', 'deployment', 'web'], {
      KUBE_EDITOR: 'sed -i s/replicas:.[0-9]*$/replicas:\\ 4/',
    });
    expect(await replicas()).toBe('4');
    await kubectl(
      'patch',
      'deployment',
      'web',
      '--subresource=scale',
      '--type=merge',
      '-p',
      '{"spec":{"replicas":2}}',
    );
    await kubectl('set', 'image', 'deployment/web', 'web=nginx:1.28');
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
    expect(await kubectl('rollout', 'history', 'deployment/web')).toMatch(/^2 /m);
    await kubectl('rollout', 'undo', 'deployment/web');
    await kubectl('wait', '--for=condition=Available', 'deployment/web', '--timeout=120s');
    await kubectl('wait', '--for=jsonpath={.status.readyReplicas}=2', 'deployment/web', '--timeout=120s');
    expect(await kubectl('get', 'deployment', 'web', '-o', 'jsonpath={..image}')).toBe('nginx:1.27');
    expect(await kubectl('explain', 'deployment.spec.strategy')).toMatch(/rollingUpdate/);
    expect(await kubectl('api-resources')).toMatch(/^deployments +deploy +apps\/v1 +true +Deployment$/m);
    expect(await kubectl('auth', 'can-i', 'delete', 'nodes')).toBe('yes\n');
    await kubectl('run', 'brief', '--image=busybox', '--restart=Never', '--', 'sleep', '5');
    await kubectl('delete', 'pod', 'brief', '--wait', '--timeout=120s');
    expect((await failing('admin', 'get', 'pod', 'brief')).stderr).toMatch(/NotFound/);
    for (const [args, words] of [
      [['top', 'nodes'], /Metrics API not available/],
      [['get', 'nosuchkind'], /the server doesn't have a resource type "nosuchkind"/],
      [
        ['wait', '--for=condition=Ready', 'pod/nobody', '--timeout=2s'],
        /\(NotFound\): pods "nobody" not found/,
      ],
      [['exec', 'box', '-c', 'nope', '--', 'ls'], /container nope is not valid for pod box/],
      [['exec', 'box', '--', 'nosuchprogram'], /executable file not found in \$PATH/],
      [['logs', 'box', '--previous'], /previous terminated container "box" in pod "box" not found/],
      [['apply', '--server-side', '--field-manager=other', '-f', file('more.yaml')], /conflict.*"kubectl/s],
      [
        ['delete', 'namespace', 'default'],
        /namespaces "default" is forbidden: this namespace may not be deleted/,
      ],
    ] as const) {
      const { code, stderr } = await failing('admin', ...args);
      expect(code, args.join(' ')).toBe(1);
      expect(stderr).toMatch(words);
    }
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
  });

  it('watches', async () => {
    const watching = start(['get', 'configmaps', '-w', '--no-headers']);
    const seen = untilOutput(watching, 'seen-by-watch');
    await systemClock.sleep(1_000);
    await kubectl('create', 'configmap', 'seen-by-watch', '--from-literal=a=b');
    await seen;
    watching.kill();
    await kubectl('delete', 'configmap', 'seen-by-watch');
  });

  for (const [protocol, settings] of [
    ['WebSocket', {}],
    ['SPDY', { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false', KUBECTL_PORT_FORWARD_WEBSOCKETS: 'false' }],
  ] as const) {
    it(`72: executes, attaches, forwards and copies byte-exact by ${protocol}`, async () => {
      const exec = (...args: string[]) => as('admin', ['exec', ...args], settings);
      expect(await exec('box', '--', 'sh', '-c', 'echo out > /tmp/f; cat /tmp/f')).toBe('out\n');
      await expect(exec('box', '--', 'sh', '-c', 'exit 7')).rejects.toMatchObject({ code: 7 });
      const sent = randomBytes(3 * MIB);
      const cat = start(['exec', '-i', 'box', '--', 'cat'], settings);
      cat.stdin.end(sent);
      expect(sha(await all(cat))).toBe(sha(sent));

      const attached = start(['attach', '-i', 'echo'], settings);
      const echoed = untilOutput(attached, `hello by ${protocol}`);
      attached.stdin.write(`hello by ${protocol}\n`);
      await echoed;
      attached.kill();

      const name = await firstWeb();
      const forward = start(['port-forward', `pod/${name}`, ':80'], settings);
      const line = await untilOutput(forward, ' -> 80');
      const port = /127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      for (let n = 0; n < 3; n += 1) {
        const reply = await request(`http://127.0.0.1:${port}/`);
        expect(await reply.body.text()).toBe(`hello from ${name}\n`);
      }
      const raw = connect(Number(port), '127.0.0.1');
      raw.end(sent);
      expect(sha(await bytes(raw))).toBe(sha(sent));
      forward.kill();

      const content = randomBytes(24 * MIB);
      writeFileSync(file('in'), content);
      const seconds = await timed(async () => {
        await as('admin', ['cp', file('in'), 'box:/tmp/copied'], settings);
        await as('admin', ['cp', 'box:/tmp/copied', file('out')], settings);
      });
      console.info(`cp 24 MiB in and out by ${protocol}: ${(48 / seconds).toFixed(1)} MiB/s`);
      expect(sha(readFileSync(file('out')))).toBe(sha(content));
    });
  }

  it('shows each role what it may do, by the word of the API server', async () => {
    await user('viewer', 'viewer');
    await user('builder', 'project-admin');
    expect(await as('viewer', ['get', 'pods'])).toMatch(/box/);
    for (const args of [
      ['delete', 'pod', 'box', '--wait=false'],
      ['create', 'configmap', 'no', '--from-literal=a=b'],
      ['exec', 'box', '--', 'true'],
      ['get', 'secrets', '-A'],
    ]) {
      const refused = await failing('viewer', ...args);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(/Forbidden|forbidden.*viewer@site\.test|viewer@site\.test.*cannot/);
    }
    await as('builder', ['create', 'configmap', 'built', '--from-literal=a=b']);
    expect(await as('builder', ['auth', 'whoami'])).toMatch(/builder@site\.test/);
    await as('builder', ['delete', 'configmap', 'built']);
  });

  it('lets nobody be somebody else or elsewhere', async () => {
    expect((await failing('admin', 'get', 'pods', '--as=system:admin')).stderr).toMatch(/impersonation/);
    const { server, 'certificate-authority-data': authority } = parse(readFileSync(file('admin'), 'utf8'))
      .clusters[0].cluster;
    const { token } = parse(readFileSync(file('admin'), 'utf8')).users[0].user;
    await using stack = new AsyncDisposableStack();
    const dispatcher = new Agent({ connect: { ca: Buffer.from(authority, 'base64').toString() } });
    stack.defer(() => dispatcher.destroy());
    const status = async (url: string, headers: Record<string, string> = {}) => {
      const answer = await request(url, {
        dispatcher,
        headers: { authorization: `Bearer ${token}`, ...headers },
      });
      await answer.body.dump();
      return answer.statusCode;
    };
    expect(await status(`${server}/version`)).toBe(200);
    for (const name of ['impersonate-user', 'Impersonate-Group', 'Impersonate-Extra-scopes'])
      expect(await status(`${server}/version`, { [name]: 'system:masters' })).toBe(403);
    expect(await status(`${new URL(server).origin}/k8s/clusters/cl-other/version`)).toBe(403);
    expect(await status(`${new URL(server).origin}/maas/accounts/${site.account}/api/2.0/version/`)).toBe(
      403,
    );
    expect(await status(`${site.portalUrl}/api/v1/clusters`)).toBe(403);
    expect(await status(`${server}/version`, { authorization: 'Bearer pcgt_wrong-wrong-wrong-wrong' })).toBe(
      401,
    );
  });

  it('survives cuts of the tunnel: exec and logs -f go on, byte-exact', async () => {
    const following = start(['logs', '-f', 'box', '--tail=1']);
    const followed = output(following);
    const cat = start(['exec', '-i', 'box', '--', 'cat']);
    const first = randomBytes(1024);
    const sent: Buffer[] = [first];
    cat.stdin.write(first);
    // Both must be there: a command that begins without a tunnel is refused.
    await Promise.all([once(cat.stdout, 'readable'), site.until('a line', async () => followed() !== '')]);
    const echoed = all(cat);
    for (let cut = 0; cut < CUTS; cut += 1) {
      const piece = randomBytes(2 * MIB);
      sent.push(piece);
      cat.stdin.write(piece);
      await systemClock.sleep(150);
      await site.until('the tunnel', async () => wire.size > 0);
      wire.cut(cut % 2 === 0 ? 'rst' : 'fin');
    }
    cat.stdin.end();
    await site.until('the tunnel', async () => wire.size > 0);
    expect(sha(await echoed)).toBe(sha(Buffer.concat(sent)));
    // The log grows all the time: what is followed must go on growing after the last cut.
    await site.until('more than ten lines of the log', async () => followed().trim().split('\n').length > 10);
    const lines = followed().trim().split('\n');
    expect(following.exitCode).toBeNull();
    following.kill();
    // Exactly what the log holds: nothing lost, nothing twice.
    expect(await kubectl('logs', 'box')).toContain(`${lines.slice(0, -1).join('\n')}\n`);
  });

  it(`72: copies ${BIG_MIB} MiB byte-exact while ${FOLLOWERS} logs -f run`, async () => {
    const followers = Array.from({ length: FOLLOWERS }, () => start(['logs', '-f', 'box', '--tail=1']));
    const outputs = followers.map(output);
    const hash = createHash('sha256');
    const big = createWriteStream(file('big'));
    for (let n = 0; n < BIG_MIB; n += 1) {
      const block = randomBytes(MIB);
      hash.update(block);
      if (!big.write(block)) await once(big, 'drain');
    }
    big.end();
    await finished(big);
    const upload = await timed(() => as('admin', ['cp', file('big'), 'box:/tmp/big'], {}));
    const download = await timed(() => as('admin', ['cp', 'box:/tmp/big', file('big-back')], {}));
    console.info(
      `cp ${BIG_MIB} MiB: in ${(BIG_MIB / upload).toFixed(1)} MiB/s, out ${(BIG_MIB / download).toFixed(1)} MiB/s`,
    );
    expect(sha(readFileSync(file('big-back')))).toBe(hash.digest('hex'));
    for (const [index, follower] of followers.entries()) {
      await site.until('five lines of each', async () => (outputs[index]?.().split('\n').length ?? 0) > 5);
      expect(follower.exitCode).toBeNull();
      follower.kill();
    }
    await kubectl('exec', 'box', '--', 'rm', '/tmp/big');
  });

  it('drains a node and brings it back', async () => {
    const node = (await kubectl('get', 'pod', await firstWeb(), '-o', 'jsonpath={.spec.nodeName}')).trim();
    await kubectl('cordon', node);
    expect(await kubectl('get', 'node', node)).toMatch(/SchedulingDisabled/);
    await kubectl(
      'drain',
      node,
      '--ignore-daemonsets',
      '--force',
      '--delete-emptydir-data',
      '--timeout=120s',
    );
    const left = await kubectl(
      ...['get', 'pods', '-l', 'app=web', '--field-selector', `spec.nodeName=${node}`, '-o', 'name'],
    );
    expect(left).toBe('');
    await kubectl('uncordon', node);
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
    await kubectl('delete', 'deployment', 'web', '--timeout=120s');
    expect((await failing('admin', 'get', 'deployment', 'web')).stderr).toMatch(/NotFound/);
  });

  it('breaks the glass: without the portal, by a file that only the gateway gives', async () => {
    await site.stopPortal();
    const printed = await site.run('kubeconfig', ['clusters', 'kubeconfig', 'demo']);
    await printed.exited;
    writeFileSync(file('glass'), String(printed.ready['kubeconfig']));
    expect(await as('glass', ['auth', 'whoami'])).toMatch(/break-glass/);
    await as('glass', ['wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=120s']);
    expect((await as('glass', ['get', 'nodes'])).match(/ Ready /g)).toHaveLength(3);
    // The drain may have taken the pods that nothing brings back.
    await as('glass', ['apply', '-f', file('web.yaml')]);
    await as('glass', ['wait', '--for=condition=Ready', 'pod/box', '--timeout=120s']);
    writeFileSync(file('in'), randomBytes(24 * MIB));
    const direct = await timed(() => as('glass', ['cp', file('in'), 'box:/tmp/direct']));
    console.info(`cp 24 MiB in without portal and tunnel: ${(24 / direct).toFixed(1)} MiB/s`);
    await as('glass', ['create', 'configmap', 'saved', '--from-literal=a=b']);
    const away = await failing('admin', 'get', 'nodes', '--request-timeout=5s');
    expect(away.code).not.toBe(0);
    await site.startPortal(['--public-url', `http://127.0.0.1:${wire.port}`]);
  });
});

function sha(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function all(child: ChildProcessWithoutNullStreams): Promise<Buffer> {
  return bytes(child.stdout);
}

async function bytes(from: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** What the child has said so far. */
function output(child: ChildProcessWithoutNullStreams): () => string {
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return () => text;
}

/** Resolves with everything said when `wanted` was; rejects when the child ends before. */
function untilOutput(child: ChildProcessWithoutNullStreams, wanted: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes(wanted)) resolve(text);
    });
    child.once('exit', (code) =>
      reject(new Error(`ended with ${code} before "${wanted}": ${text}${errors}`)),
    );
  });
}

/** Seconds. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}
