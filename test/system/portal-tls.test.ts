/** A portal on HTTPS with a certificate of a private CA: gateways pair and connect with PCG_CA_FILE, kubectl works. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { promisify } from 'node:util';
import { Agent, request } from 'undici';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { describeWith, findProgram } from '../support/needs.ts';
import { EMAIL, PASSWORD, Site } from '../support/site.ts';
import { opensslFiles } from '../support/openssl.ts';

const run = promisify(execFile);

describeWith(['kubectl', 'openssl'], 'a portal on HTTPS of a private CA', () => {
  it('pairs, connects and serves kubectl for those who trust the CA, and nobody else; takes a renewed certificate at SIGHUP (61)', async () => {
    await using site = await Site.withoutAgent();
    const file = (name: string, content: string): string => {
      const path = join(site.directory, name);
      writeFileSync(path, content);
      return path;
    };
    using files = opensslFiles();
    files.issue('first');
    const portal = await site.run(
      'portal-tls',
      ['portal', '--port', '0', '--store', join(site.directory, 'tls.db'), '--admin-email', EMAIL],
      {
        PCG_ADMIN_PASSWORD: PASSWORD,
        PCG_TLS_CERT: files.pair.cert,
        PCG_TLS_KEY: files.pair.key,
        PCG_TLS_CA: files.caFile,
      },
    );
    await using stack = new AsyncDisposableStack();
    stack.use(portal);
    const url = String(portal.ready['url']);
    expect(url).toMatch(/^https:/);
    expect(portal.ready['kubeUrl']).toBe(url);
    const dispatcher = new Agent({ connect: { ca: files.caPem } });
    stack.defer(() => dispatcher.destroy());
    let token = '';
    const ask = async (method: 'GET' | 'POST', path: string, body?: unknown): Promise<string> => {
      const answer = await request(`${url}/api/v1${path}`, {
        method,
        dispatcher,
        headers: {
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return await answer.body.text();
    };
    token = JSON.parse(await ask('POST', '/session', { email: EMAIL, password: PASSWORD })).token;
    const { code } = JSON.parse(await ask('POST', '/pairing-codes', { gatewayName: 'site' }));

    await expect(site.pair(code, url)).rejects.toThrow(/ended at start/);
    const trusting = { PCG_CA_FILE: files.caFile };
    const paired = await site.run('pair', ['pair', '--portal-url', url], {
      ...trusting,
      PCG_PAIRING_CODE: code,
    });
    await paired.exited;
    await site.startAgent(trusting);
    site.account = await site.until('a cloud account', async () => {
      const { items } = JSON.parse(await ask('GET', '/cloud-accounts'));
      return items[0]?.id as string | undefined;
    });
    const cluster = JSON.parse(
      await ask('POST', '/clusters', { spec: site.spec({ controlPlane: 1, workers: 0 }) }),
    );
    await site.until(
      'a running cluster',
      async () => JSON.parse(await ask('GET', `/clusters/${cluster.id}`)).status?.phase === 'Running',
    );
    const text = await ask('GET', `/clusters/${cluster.id}/kubeconfig`);
    expect(parse(text).clusters[0].cluster.server).toBe(`${url}/k8s/clusters/${cluster.id}`);
    const config = file('config', text);
    const nodes = async (): Promise<string> => {
      const { stdout } = await run(findProgram('kubectl') ?? 'kubectl', ['get', 'nodes'], {
        env: { PATH: process.env['PATH'] ?? '', HOME: site.directory, KUBECONFIG: config },
        timeout: 3 * GIVE_UP_MS,
      });
      return stdout;
    };
    expect(await nodes()).toMatch(/ Ready /);

    const tunnel = async () => JSON.parse(await ask('GET', '/gateways')).items[0].connection.since as string;
    const before = await tunnel();
    expect(await shown(url, files.caPem)).toBe('first');
    files.issue('second');
    portal.kill('SIGHUP');
    await site.until('the new certificate', async () => (await shown(url, files.caPem)) === 'second');
    expect(await nodes()).toMatch(/ Ready /);
    expect(await tunnel()).toBe(before);
  });
});

/** The common name that a new connection is shown; verified by the CA. */
function shown(url: string, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), ca }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.on('error', reject);
  });
}
