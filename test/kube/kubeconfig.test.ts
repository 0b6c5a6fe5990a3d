import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { renderKubeconfig } from '../../src/kube/kubeconfig.ts';
import { startApiDouble } from '../support/api-server.ts';
import { describeWith } from '../support/needs.ts';
import { clientPair, testPki } from '../support/tls-server.ts';

describeWith(['kubectl'], 'the break-glass kubeconfig', () => {
  it('lets a real kubectl in', async () => {
    await using server = await startApiDouble();
    const { ca } = await testPki();
    const text = renderKubeconfig({
      clusterName: 'demo',
      user: 'demo-admin',
      server: server.target.server,
      caPem: ca.certPem,
      credential: await clientPair(ca),
    });
    const directory = mkdtempSync(join(tmpdir(), 'kubeconfig-'));
    try {
      const file = join(directory, 'config');
      writeFileSync(file, text, { mode: 0o600 });
      const context = spawnSync('kubectl', ['--kubeconfig', file, 'config', 'current-context'], {
        encoding: 'utf8',
      });
      expect(context.stdout.trim()).toBe('demo-admin@demo');
      const listed = await runKubectl(file, ['get', 'namespaces', '-o', 'name']);
      expect(listed).toContain('namespace/kube-system');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

/** Asynchronous: the server it talks to lives in this process. */
async function runKubectl(file: string, args: string[]): Promise<string> {
  return await new Promise((resolve, reject) => {
    execFile('kubectl', ['--kubeconfig', file, ...args], (error, stdout, stderr) => {
      if (error) reject(new Error(stderr || error.message));
      else resolve(stdout);
    });
  });
}

describe('a kubeconfig', () => {
  it('carries a token, a proxy and a namespace, with names that YAML 1.1 would misread in quotes', () => {
    const text = renderKubeconfig({
      clusterName: 'on',
      user: 'no',
      server: 'https://x:6443',
      caPem: 'pem',
      credential: { token: 'a.b' },
      proxyUrl: 'http://proxy:3128',
      namespace: 'team',
    });
    expect(parse(text, { version: '1.1' })).toMatchObject({
      clusters: [{ name: 'on', cluster: { 'proxy-url': 'http://proxy:3128' } }],
      users: [{ name: 'no', user: { token: 'a.b' } }],
      contexts: [{ name: 'no@on', context: { cluster: 'on', user: 'no', namespace: 'team' } }],
      'current-context': 'no@on',
    });
  });
});
