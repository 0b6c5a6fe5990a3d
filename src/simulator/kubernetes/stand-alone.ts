/**
 * One API server of the double on a real TCP port, without machines: for tests of clients and for trying kubectl.
 * Controllers that need no machine run (namespaces, definitions, garbage, budgets); pods stay Pending.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { type Clock, systemClock } from '../../base/clock.ts';
import { type Log, silentLog } from '../../base/log.ts';
import { Wake } from '../../base/wake.ts';
import { ApiCore } from './api/core.ts';
import { R } from './api/resources.ts';
import { ApiFront } from './api/serve.ts';
import { ApiError } from './api/status.ts';
import { establishDefinitions } from './controllers/definitions.ts';
import { updateBudgets } from './controllers/disruption.ts';
import { collectGarbage } from './controllers/garbage.ts';
import { finishNamespaces, provideNamespaceDefaults } from './controllers/namespaces.ts';
import { createDefaults } from './node/default-rbac.ts';
import { issueLeaf, loadAuthority } from './node/pki.ts';

export interface StandAloneOptions {
  /** The CA that signs the serving certificate and client certificates. */
  readonly ca: { readonly certPem: string; readonly keyPem: string };
  readonly version?: string;
  readonly host?: string;
  /** 0 picks a free one. */
  readonly port?: number;
  readonly clock?: Clock;
  readonly log?: Log;
}

export interface StandAloneApiServer extends AsyncDisposable {
  /** `https://127.0.0.1:port` */
  readonly url: string;
  readonly core: ApiCore;
  /** Cuts every connection, as a restart does. */
  cut(): void;
}

/** Longest time without a look at everything, milliseconds. */
const PERIOD_MS = 1000;

export async function startApiServer(options: StandAloneOptions): Promise<StandAloneApiServer> {
  const clock = options.clock ?? systemClock;
  const host = options.host ?? '127.0.0.1';
  const authority = await loadAuthority('ca', options.ca.certPem, options.ca.keyPem);
  const serving = await issueLeaf(authority, {
    commonName: 'kube-apiserver',
    sans: ['localhost', 'kubernetes', '127.0.0.1', host],
    server: true,
    nowMs: clock.now(),
  });
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const core = new ApiCore({
    clock,
    log: options.log ?? silentLog,
    version: options.version ?? 'v1.36.1',
    serviceAccountKeys: {
      publicKey: createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })),
      privateKey: createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    },
  });
  createDefaults(core);
  const stop = new AbortController();
  const running = runControllers(core, clock, stop.signal);
  const front = new ApiFront(core, { ...serving, clientCaPem: options.ca.certPem });
  const listener = createServer((socket: Socket) => front.accept(socket));
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(options.port ?? 0, host, resolve);
  });
  return {
    url: `https://${host}:${(listener.address() as AddressInfo).port}`,
    core,
    cut: () => front.cut(),
    async [Symbol.asyncDispose]() {
      stop.abort(new Error('the API server stops'));
      await running;
      await front[Symbol.asyncDispose]();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

async function runControllers(core: ApiCore, clock: Clock, signal: AbortSignal): Promise<void> {
  const wake = new Wake();
  using subscriptions = new DisposableStack();
  for (const type of core.registry.all())
    if (type.storage !== R.leases && type.storage !== R.events)
      subscriptions.use(core.store.subscribe(type.storage, () => wake.ring()));
  const cluster = { core };
  while (!signal.aborted) {
    for (const controller of [
      provideNamespaceDefaults,
      establishDefinitions,
      updateBudgets,
      collectGarbage,
      finishNamespaces,
    ]) {
      try {
        controller(cluster);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error; // a lost race is repaired by the next look
      }
    }
    await wake.wait(clock, PERIOD_MS, signal).catch(() => {});
  }
}
