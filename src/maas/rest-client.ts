/**
 * One MAAS region over REST: puts the rooms together (key, signature, door, retries, resources). The
 * composition owns its connections; dispose it to close them.
 */
import type { Dispatcher } from 'undici';
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import type { Log, Secret } from '../base/log.ts';
import { parseApiKey } from './api-key.ts';
import type { MaasClient } from './client.ts';
import { createDeployEvidence } from './deploy-evidence.ts';
import { createDns } from './dns.ts';
import { normaliseEndpoint } from './endpoint.ts';
import { createEvents } from './events.ts';
import { createMaasHttp, type ExchangeFacts, type MaasHttp } from './http.ts';
import { createImages } from './images.ts';
import { type CallClass, createLanes, DEFAULT_LANES, type LaneLimits } from './lanes.ts';
import { createMachines } from './machines.ts';
import { createNetwork, type Network } from './network.ts';
import { createPlaces } from './places.ts';
import { createRedact } from './redact.ts';
import { createCaller } from './retry.ts';
import { ConfigWire, VersionWire, WhoamiWire } from './schema.ts';
import { createSigner } from './sign.ts';
import { parseVersion } from './version.ts';

export interface MaasClientOptions {
  /** As pasted by a user; normalised here. */
  readonly endpoint: string;
  readonly apiKey: Secret;
  /** CA certificates beyond the system's, PEM. */
  readonly caPem?: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<LaneLimits> & {
    /** Sendings of one repeatable call. */
    readonly attempts?: number;
    readonly timeoutMs?: Partial<Record<CallClass, number>>;
  };
  readonly userAgent?: string;
  /** Replaces the connection pool, e.g. to go through a proxy. Not closed by the client. */
  readonly dispatcher?: Dispatcher | undefined;
  /** Facts of every attempt, for metrics. */
  readonly onExchange?: (facts: ExchangeFacts) => void;
}

/** The port plus what only doctor, preflight and metrics ask. */
export interface MaasRestClient extends MaasClient {
  /** Doubts about the key's form, e.g. unusual lengths. */
  readonly keyWarnings: readonly string[];
  /** MAAS's clock minus ours, milliseconds; undefined before the first answer. */
  readonly clockSkewMs: number | undefined;
  /** For how long MAAS has said nothing although it was asked, milliseconds; 0 = it answers. */
  readonly silentMs: number;
  /** Request slots given up because the region is slow, 0 = none. */
  readonly pressure: number;
  readonly fabrics: Network['fabrics'];
}

/** Throws MAAS_URL_INVALID or MAAS_KEY_INVALID; connects only when asked something. */
export function createMaasClient(options: MaasClientOptions): MaasRestClient {
  const { clock, log } = options;
  const apiUrl = normaliseEndpoint(options.endpoint);
  const key = parseApiKey(options.apiKey);
  const redact = createRedact(key);
  const limits = { ...DEFAULT_LANES, ...options.limits };
  const lanes = createLanes(limits);
  const http: MaasHttp = createMaasHttp({
    apiUrl,
    signer: createSigner(key),
    redact,
    lanes,
    clock,
    log,
    userAgent: options.userAgent ?? 'pcg',
    connections: limits.total,
    caPem: options.caPem,
    dispatcher: options.dispatcher,
    timeoutMs: options.limits?.timeoutMs,
    onExchange: options.onExchange,
  });
  const caller = createCaller({ http, clock, log, redact, attempts: options.limits?.attempts });
  const images = createImages(caller, clock);
  const whoami: MaasClient['whoami'] = async (signal) => {
    const user = await caller.get(
      WhoamiWire,
      { what: 'whoami', lane: 'read', path: 'users/', query: [['op', 'whoami']] },
      signal,
    );
    return { username: user.username, isAdmin: user.is_superuser };
  };
  const network = createNetwork(caller, whoami);
  const evidence = createDeployEvidence({
    images: images.images,
    subnets: network.subnets,
    statistics: network.subnetStatistics,
  });

  return {
    apiUrl,
    keyWarnings: key.warnings,
    async version(signal) {
      const wire = await caller.get(VersionWire, { what: 'version', lane: 'read', path: 'version/' }, signal);
      return { ...parseVersion(wire.version), subversion: wire.subversion, capabilities: wire.capabilities };
    },
    whoami,
    async config(name, signal) {
      if (!/^\w{1,100}$/.test(name)) {
        throw new PcgError('INVALID_INPUT', 'not the name of a MAAS setting', { field: 'name' });
      }
      const query = [['op', 'get_config'] as const, ['name', name] as const];
      return await caller.get(ConfigWire, { what: 'config', lane: 'read', path: 'maas/', query }, signal);
    },
    machines: createMachines({ caller, evidence }),
    events: createEvents(caller),
    ...createPlaces(caller, clock),
    ...network,
    ...images,
    ...createDns(caller),
    signHeaders: () => ({ authorization: http.authorization() }),
    get clockSkewMs() {
      return http.clockSkewMs;
    },
    get silentMs() {
      return http.silentMs;
    },
    get pressure() {
      return lanes.pressure;
    },
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}
