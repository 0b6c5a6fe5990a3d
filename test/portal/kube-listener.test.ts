/** Where kubeconfigs point: the TLS door of a portal on plain HTTP, or the load balancer before it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';
import { Secret, silentLog } from '../../src/base/log.ts';
import { type KubeAccess, type KubeListener, openKubeListener } from '../../src/portal/kube-listener.ts';
import type { Portal } from '../../src/portal/portal.ts';
import { startPortal } from '../../src/portal/server.ts';
import { openStore } from '../../src/portal/store/open.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { ownPort } from '../support/own-port.ts';
import { ADMIN } from '../support/portal.ts';

interface Door extends AsyncDisposable {
  readonly listener: KubeListener;
}

async function door(
  options: { store?: string; host?: string; publicUrl?: string; port?: number | { near: number } } = {},
): Promise<Door> {
  const db = await openStore({ kind: 'sqlite', path: options.store ?? ':memory:' });
  const portal: Pick<Portal, 'db' | 'clock' | 'log' | 'publicUrl' | 'knowsItsUrl'> = {
    db,
    clock: steadyClock,
    log: silentLog,
    publicUrl: options.publicUrl ?? 'http://127.0.0.1:1',
    knowsItsUrl: options.publicUrl !== undefined,
  };
  try {
    const listener = await openKubeListener({
      portal: portal as Portal,
      proxies: {
        request: (_request, response) => response.end('proxied'),
        checkContinue: () => {},
        upgrade: () => {},
      },
      host: options.host ?? '127.0.0.1',
      port: options.port ?? 0,
      settings: {},
    });
    return {
      listener,
      async [Symbol.asyncDispose]() {
        await listener[Symbol.asyncDispose]();
        await db.destroy();
      },
    };
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

/** Connects as a client does that trusts only the CA of the kubeconfig and expects `servername`. */
function handshake({ url, caPem }: KubeAccess, servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      {
        host: '127.0.0.1',
        port: Number(new URL(url).port),
        ca: caPem,
        servername,
      },
      () => {
        resolve(socket.authorized ? 'verified' : String(socket.authorizationError));
        socket.destroy();
      },
    );
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.setTimeout(GIVE_UP_MS, () => reject(new Error('no handshake')));
  });
}

describe('the TLS door for kubectl', () => {
  it('keeps its CA in the store, so that kubeconfigs outlive a restart', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'pcg-kube-'));
    const store = join(directory, 'portal.db');
    const first = await (async () => {
      await using one = await door({ store });
      return one.listener.access('');
    })();
    await using two = await door({ store });
    const again = two.listener.access('');
    expect(again.caPem).toBe(first.caPem);
    expect(await handshake({ ...again, ...first, url: again.url }, 'localhost')).toBe('verified');
    await using other = await door();
    expect(other.listener.access('').caPem).not.toBe(first.caPem);
    await rm(directory, { recursive: true });
  });

  it('is beside the other port, elsewhere when that is taken, but nowhere else than asked', async () => {
    const blocker = createServer();
    const port = await ownPort();
    await new Promise<void>((resolve) => blocker.listen(port, '127.0.0.1', resolve));
    {
      await using elsewhere = await door({ port: { near: port - 1 } });
      expect(new URL(elsewhere.listener.access('').url).port).not.toBe(String(port));
    }
    await expect(door({ port })).rejects.toMatchObject({ code: 'BAD_CONFIG', field: 'kube-port' });
    await new Promise((resolve) => blocker.close(resolve));
    await using beside = await door({ port: { near: port - 1 } });
    expect(beside.listener.access('').url).toBe(`https://127.0.0.1:${port}`);
  });

  it('is found by the public name, or by the one that the download came by, and proves who it is', async () => {
    await using named = await door({ host: '0.0.0.0', publicUrl: 'http://portal.lan:8080' });
    const byName = named.listener.access('evil.test');
    expect(new URL(byName.url).hostname).toBe('portal.lan');
    expect(byName.serverName).toBeUndefined();
    expect(await handshake(byName, 'portal.lan')).toBe('verified');

    await using anywhere = await door({ host: '0.0.0.0' });
    const byHost = anywhere.listener.access('nat.example.test:8443');
    expect(new URL(byHost.url).hostname).toBe('nat.example.test');
    expect(await handshake(byHost, byHost.serverName ?? '')).toBe('verified');
    expect(await handshake(byHost, 'nat.example.test')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
    expect(new URL(anywhere.listener.access('[::1]:8443').url).hostname).toBe('[::1]');
    expect(anywhere.listener.access('[::1]:8443').serverName).toBeUndefined();
  });
});

describe('a portal behind a load balancer on HTTPS', () => {
  it('sends kubectl there', async () => {
    await using portal = await startPortal({
      host: '127.0.0.1',
      port: 0,
      publicUrl: 'https://pcg.example.test/',
      store: { kind: 'sqlite', path: ':memory:' },
      admin: { email: ADMIN.email, password: new Secret(ADMIN.password) },
      clock: steadyClock,
      log: silentLog,
      page: false,
    });
    expect(portal.kubeUrl).toBe('https://pcg.example.test');
  });
});
