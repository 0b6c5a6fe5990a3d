/** Real etcd processes with mTLS, as kubeadm would run them on three control-plane nodes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { issueClientCertificate, issueServerCertificate } from '../../src/kube/pki.ts';
import type { TlsIdentity } from '../../src/kube/dispatcher.ts';
import { findProgram } from './needs.ts';
import { ownPort } from './own-port.ts';
import { testPki } from './tls-server.ts';

const HOUR_MS = 3_600_000;

export interface EtcdNode {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
  /** `flags`: further ones. */
  start(state: 'new' | 'existing', peers: readonly EtcdNode[], flags?: readonly string[]): void;
  /** kill -9, as when a machine loses power. */
  kill(): Promise<void>;
  /** Resolves when the process ends by itself. */
  ended(): Promise<void>;
  running(): boolean;
}

export interface EtcdNodes extends AsyncDisposable {
  readonly identity: TlsIdentity;
  node(name: string): Promise<EtcdNode>;
}

export async function createEtcdNodes(): Promise<EtcdNodes> {
  const directory = mkdtempSync(join(tmpdir(), 'etcd-'));
  const { etcdCa } = await testPki();
  const client = await issueClientCertificate(etcdCa, {
    commonName: 'pcg-gateway',
    nowMs: Date.now(),
    validityMs: HOUR_MS,
  });
  const ca = join(directory, 'ca.crt');
  writeFileSync(ca, etcdCa.certPem);
  const running = new Set<ChildProcess>();

  const node = async (name: string): Promise<EtcdNode> => {
    const [clientPort, peerPort] = [await ownPort(), await ownPort()];
    const clientUrl = `https://127.0.0.1:${clientPort}`;
    const peerUrl = `https://127.0.0.1:${peerPort}`;
    const pair = await issueServerCertificate(etcdCa, {
      commonName: name,
      dnsNames: ['localhost', name],
      ipAddresses: ['127.0.0.1'],
      nowMs: Date.now(),
      validityMs: HOUR_MS,
    });
    const [certificate, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
    writeFileSync(certificate, pair.certPem);
    writeFileSync(key, pair.keyPem, { mode: 0o600 });
    let child: ChildProcess | undefined;
    const self: EtcdNode = {
      name,
      clientUrl,
      peerUrl,
      start: (state, peers, flags = []) => {
        const cluster = [...new Set([...peers, self])]
          .map((peer) => `${peer.name}=${peer.peerUrl}`)
          .join(',');
        child = spawn(
          findProgram('etcd') ?? 'etcd',
          [
            '--name',
            name,
            '--data-dir',
            join(directory, name),
            '--logger',
            'zap',
            '--log-level',
            'error',
            '--listen-client-urls',
            clientUrl,
            '--advertise-client-urls',
            clientUrl,
            '--listen-peer-urls',
            peerUrl,
            '--initial-advertise-peer-urls',
            peerUrl,
            '--initial-cluster',
            cluster,
            '--initial-cluster-state',
            state,
            '--client-cert-auth',
            '--trusted-ca-file',
            ca,
            '--cert-file',
            certificate,
            '--key-file',
            key,
            '--peer-client-cert-auth',
            '--peer-trusted-ca-file',
            ca,
            '--peer-cert-file',
            certificate,
            '--peer-key-file',
            key,
            '--heartbeat-interval',
            '50',
            '--election-timeout',
            '500',
            ...flags,
          ],
          { stdio: 'ignore' },
        );
        running.add(child);
        const started = child;
        child.on('exit', () => running.delete(started));
      },
      kill: async () => {
        if (child === undefined || child.exitCode !== null) return;
        const gone = once(child, 'exit');
        child.kill('SIGKILL');
        await gone;
      },
      ended: async () => {
        if (child !== undefined && running.has(child)) await once(child, 'exit');
      },
      running: () => child !== undefined && running.has(child),
    };
    return self;
  };

  return {
    identity: { caPem: etcdCa.certPem, certPem: client.certPem, keyPem: client.keyPem },
    node,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(
        [...running].map(async (child) => {
          const gone = once(child, 'exit');
          child.kill('SIGKILL');
          await gone;
        }),
      );
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Until etcd takes it: it takes no change of its membership within 5 s of a new connection between members. */
export async function patiently<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await change();
    } catch (error) {
      if (attempt > 600) throw error;
    }
    await systemClock.sleep(100);
  }
}
