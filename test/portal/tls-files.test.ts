/** The portal's certificate is renewed under it, by files of the real openssl, while a gateway's tunnel lives. */
import { renameSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { Writable } from 'node:stream';
import { Agent, request } from 'undici';
import { parse } from 'yaml';
import { expect, it } from 'vitest';
import { createLog, Secret } from '../../src/base/log.ts';
import { type RunningPortal, startPortal } from '../../src/portal/server.ts';
import type { TlsFiles } from '../../src/portal/tls-files.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { pairWithPortal } from '../../src/tunnel/pair-client.ts';
import { eventually } from '../support/eventually.ts';
import { connectGateway, type FakeGateway } from '../support/fake-gateway.ts';
import { describeWith } from '../support/needs.ts';
import { type OpensslFiles, opensslFiles } from '../support/openssl.ts';
import { ADMIN, clusterSpec, gatewayStatus } from '../support/portal.ts';
import { testCa } from '../support/wire.ts';
import type { Clock } from '../../src/base/clock.ts';
import { steadyClock } from '../support/steady-clock.ts';

interface Scene extends AsyncDisposable {
  readonly files: OpensslFiles;
  readonly portal: RunningPortal;
  /** Lines of the portal's log, parsed. */
  readonly log: { level: string; msg: string; field?: string; error?: string }[];
  readonly call: (method: 'GET' | 'POST', path: string, body?: unknown) => Promise<string>;
  /** A gateway with its tunnel open. */
  connect(name: string): Promise<FakeGateway>;
  metric(name: string): Promise<number>;
}

async function scene(
  tls: (files: OpensslFiles) => TlsFiles = ({ pair }) => ({ pair }),
  clock: Clock = steadyClock,
): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const files = stack.use(opensslFiles());
  files.issue('first');
  const log: Scene['log'] = [];
  const destination = new Writable({
    write: (line, _encoding, done) => {
      log.push(JSON.parse(String(line)));
      done();
    },
  });
  const portal = stack.use(
    await startPortal({
      host: '127.0.0.1',
      port: 0,
      tls: tls(files),
      store: { kind: 'sqlite', path: ':memory:' },
      admin: { email: ADMIN.email, password: new Secret(ADMIN.password) },
      clock,
      log: createLog({ name: 'portal', level: 'info', destination }),
      page: false,
    }),
  );
  const agent = new Agent({ connect: { ca: files.caPem } });
  stack.defer(() => agent.destroy());
  let token = '';
  const call: Scene['call'] = async (method, path, body) => {
    const answer = await request(`${portal.url}${path}`, {
      method,
      dispatcher: agent,
      headers: {
        ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return await answer.body.text();
  };
  token = JSON.parse(await call('POST', '/api/v1/session', ADMIN)).token;
  const running = stack.move();
  return {
    files,
    portal,
    log,
    call,
    async connect(name) {
      const { code } = JSON.parse(await call('POST', '/api/v1/pairing-codes', { gatewayName: name }));
      const identity = generateIdentity();
      const trusting = { caPem: files.caPem, clock: steadyClock };
      const paired = await pairWithPortal({ portalUrl: portal.url, code, identity, ...trusting });
      const gateway = await connectGateway(identity, paired, { ...trusting, account: `ca-${name}` });
      await gateway.document('cloud-account', `ca-${name}`);
      return gateway;
    },
    async metric(name) {
      const line = new RegExp(`^${name} (\\S+)$`, 'm').exec(await call('GET', '/metrics'));
      return Number(line?.[1]);
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** The common name of the certificate that a new connection is shown; verified by the CA. */
function shown({ files, portal }: Scene): Promise<string> {
  return new Promise((resolve, reject) => {
    const { port } = new URL(portal.url);
    const socket = connect({ host: '127.0.0.1', port: Number(port), ca: files.caPem }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

/** The portal looks at its files every 10 s. */
const LOOK_MS = 10_000;

/** Looks at them only when told: never while a test is between two of them. */
const notLooking: Clock = {
  ...steadyClock,
  sleep: (ms, signal) => steadyClock.sleep(ms === LOOK_MS ? 24 * 3_600_000 : ms, signal),
};

describeWith(['openssl'], 'a certificate that is renewed (61)', () => {
  it('61: new handshakes get the new certificate, the tunnel that is there stays, and a new one comes by it', async () => {
    // here twenty times as often, while every deadline of the tunnel stays as it is
    const looking: Clock = {
      ...steadyClock,
      sleep: (ms, signal) => steadyClock.sleep(ms === LOOK_MS ? 500 : ms, signal),
    };
    await using stage = await scene(undefined, looking);
    await using gateway = await stage.connect('dc1');
    const link = async () => {
      const [{ id, connection, status }] = JSON.parse(await stage.call('GET', '/api/v1/gateways')).items;
      return { id, since: connection.since, state: connection.state, hostname: status?.hostname };
    };
    await eventually(async () => (await link()).hostname === 'gw1');
    expect(await shown(stage)).toBe('first');
    const before = await link();
    stage.files.issue('second', { days: 2 });
    await eventually(async () => (await shown(stage)) === 'second');
    await eventually(() => stage.log.some(({ msg }) => msg === 'TLS files reloaded'));
    // the tunnel carries as before, over the same connection
    gateway.report('gateway', before.id, { ...gatewayStatus('ca-dc1'), hostname: 'after' });
    await eventually(async () => (await link()).hostname === 'after');
    expect(await link()).toEqual({ ...before, hostname: 'after' });
    expect(stage.log.filter(({ msg }) => /^gateway (connected|resumed|refused)/.test(msg))).toHaveLength(1);
    await using _another = await stage.connect('dc2');
    expect(await stage.metric('pcg_portal_certificate_expiry_seconds')).toBeGreaterThan(
      Date.now() / 1000 + 36 * 3600,
    );
  });

  it('61: half a file, a key of another certificate, an expired one and no file at all change nothing but the alarm', async () => {
    await using stage = await scene(undefined, notLooking);
    const { pair, directory } = stage.files;
    const spare = { cert: join(directory, 'spare.pem'), key: join(directory, 'spare.key') };
    const good = { cert: readFileSync(pair.cert), key: readFileSync(pair.key) };
    const restore = () => {
      writeFileSync(pair.cert, good.cert);
      writeFileSync(pair.key, good.key);
    };
    stage.files.issue('other', { to: spare });
    const tomorrow = await (await testCa()).issue({ nowMs: Date.now() + 25 * 3_600_000 });
    const faults: [what: string, field: string, why: RegExp, happen: () => void][] = [
      [
        'half a certificate',
        'tls-cert',
        /not a PEM certificate chain.*no end/,
        () => truncateSync(pair.cert, 300),
      ],
      [
        'half a chain',
        'tls-cert',
        /not a PEM certificate chain.*no end/,
        () => writeFileSync(pair.cert, Buffer.concat([readFileSync(spare.cert), good.cert.subarray(0, 200)])),
      ],
      ['an empty file', 'tls-cert', /no PEM certificate/, () => truncateSync(pair.cert, 0)],
      [
        'half a key',
        'tls-cert',
        /are not a PEM certificate chain and its key/,
        () => truncateSync(pair.key, 100),
      ],
      [
        'a certificate without its key yet',
        'tls-key',
        /not the key of the certificate/,
        () => writeFileSync(pair.cert, readFileSync(spare.cert)),
      ],
      ['no file', 'tls-key', /cannot read .*ENOENT/, () => rmSync(pair.key)],
      ['an expired one', 'tls-cert', /expired on 20/, () => stage.files.issue('past', { days: -1 })],
      [
        'one of tomorrow',
        'tls-cert',
        /not valid before 20/,
        () => {
          writeFileSync(pair.cert, tomorrow.certPem);
          writeFileSync(pair.key, tomorrow.keyPem);
        },
      ],
      ['garbage', 'tls-cert', /no PEM certificate/, () => writeFileSync(pair.cert, 'not a certificate')],
    ];
    const complaints = () =>
      stage.log.filter(({ level, msg }) => level === 'error' && msg.includes('stays in use'));
    for (const [what, field, why, happen] of faults) {
      stage.log.length = 0;
      happen();
      await stage.portal.reloadTls();
      const [line] = complaints();
      expect(line, what).toMatchObject({
        field,
        error: expect.stringMatching(why),
        fix: expect.stringMatching(/PEM/),
      });
      expect(await shown(stage), what).toBe('first');
      expect(await stage.metric('pcg_portal_certificate_stale'), what).toBe(1);
      // said once, not at every look
      for (let n = 0; n < 3; n += 1) await stage.portal.reloadTls();
      expect(complaints(), what).toHaveLength(1);
      restore();
      await stage.portal.reloadTls();
      expect(await stage.metric('pcg_portal_certificate_stale'), what).toBe(0);
    }
    expect(JSON.stringify(stage.log)).not.toContain('PRIVATE KEY');
  });

  it('61: a renewal by links, certificate first and key later, is taken when both are there', async () => {
    const link = (from: string, to: string) => {
      symlinkSync(from, `${to}.new`);
      renameSync(`${to}.new`, to);
    };
    await using stage = await scene(({ directory, pair }) => {
      const live = { cert: join(directory, 'live-cert'), key: join(directory, 'live-key') };
      link(pair.cert, live.cert);
      link(pair.key, live.key);
      return { pair: live };
    }, notLooking);
    const { directory } = stage.files;
    const next = { cert: join(directory, 'cert2.pem'), key: join(directory, 'key2.pem') };
    stage.files.issue('second', { to: next });
    link(next.cert, join(directory, 'live-cert'));
    await stage.portal.reloadTls();
    expect(await shown(stage)).toBe('first');
    link(next.key, join(directory, 'live-key'));
    await stage.portal.reloadTls();
    expect(await shown(stage)).toBe('second');
  });

  it('61: a private CA that is renewed is in the next kubeconfig', async () => {
    await using stage = await scene(({ pair, caFile }) => ({ pair, ca: caFile }), notLooking);
    using renewed = opensslFiles();
    await using gateway = await stage.connect('dc1');
    gateway.answer('POST /v1/accounts/ca-dc1/explain', 200, { feasible: true, pools: [], problems: [] });
    const { id } = JSON.parse(await stage.call('POST', '/api/v1/clusters', { spec: clusterSpec('ca-dc1') }));
    const carried = async (): Promise<string> => {
      const text = await stage.call('GET', `/api/v1/clusters/${id}/kubeconfig`);
      return Buffer.from(parse(text).clusters[0].cluster['certificate-authority-data'], 'base64').toString();
    };
    expect(await carried()).toBe(stage.files.caPem);
    const both = stage.files.caPem + renewed.caPem;
    writeFileSync(stage.files.caFile, both.slice(0, -100));
    await stage.portal.reloadTls();
    expect(await carried()).toBe(stage.files.caPem);
    writeFileSync(stage.files.caFile, both);
    await stage.portal.reloadTls();
    expect(await carried()).toBe(both);
  });
});
