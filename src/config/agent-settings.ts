/** Everything that can be set on a gateway agent: one table for flags, environment, file and `config show`. */
import { atLeast, hostAndPort, logLevel, webUrl } from './checks.ts';
import type { SettingDefinitions } from './settings.ts';

const ACTIVE_POLL_MS = 5_000; // MAAS updates node events at most every few seconds
const IDLE_POLL_MS = 60_000;

export const AGENT_SETTINGS = {
  stateDir: {
    doc: 'Directory of the durable state (0700).',
    format: 'string',
    default: '/var/lib/pcg',
    env: 'PCG_STATE_DIR',
  },
  socket: {
    doc: 'Unix socket of the local API; default: <stateDir>/agent.sock.',
    format: 'string',
    default: null,
    env: 'PCG_SOCKET',
  },
  listen: {
    doc: 'host:port for /livez, /readyz and /metrics; empty = off.',
    format: 'string',
    default: '127.0.0.1:8686',
    env: 'PCG_LISTEN',
    canBeEmpty: true,
    check: hostAndPort,
  },
  maasUrl: {
    doc: 'MAAS endpoint of the default cloud account, e.g. http://10.11.12.13:5240/MAAS.',
    format: 'url',
    default: null,
    env: 'PCG_MAAS_URL',
    check: webUrl,
  },
  maasApiKey: {
    doc: 'MAAS API key of the default cloud account (environment, file or PCG_MAAS_API_KEY_FILE).',
    format: 'secret',
    default: null,
    env: 'PCG_MAAS_API_KEY',
  },
  maasCaFile: {
    doc: 'PEM file with the CA of MAAS, for TLS with a private CA.',
    format: 'string',
    default: null,
    env: 'PCG_MAAS_CA_FILE',
  },
  httpsProxy: {
    doc: 'Proxy for https and the tunnel; credentials may be inside. Propagated to all nodes.',
    format: 'url',
    default: null,
    env: 'PCG_HTTPS_PROXY',
    check: webUrl,
  },
  httpProxy: {
    doc: 'Proxy for http. Propagated to all nodes.',
    format: 'url',
    default: null,
    env: 'PCG_HTTP_PROXY',
    check: webUrl,
  },
  noProxy: {
    doc: 'Hosts, domains, CIDRs that are reached directly. Propagated to all nodes.',
    format: 'list',
    default: [],
    env: 'PCG_NO_PROXY',
  },
  caFile: {
    doc: 'PEM file with extra CAs to trust, e.g. of a TLS-inspecting proxy.',
    format: 'string',
    default: null,
    env: 'PCG_CA_FILE',
  },
  machineProxy: {
    doc: 'HTTP CONNECT proxy to the machine network, for a gateway without a route to it.',
    format: 'url',
    default: null,
    env: 'PCG_MACHINE_PROXY',
    check: webUrl,
  },
  ntpServers: {
    doc: 'NTP servers for nodes; default: what MAAS gives them.',
    format: 'list',
    default: [],
    env: 'PCG_NTP_SERVERS',
  },
  tcpTargets: {
    doc: 'host:port pairs that the portal may open through the tunnel.',
    format: 'list',
    default: [],
    env: 'PCG_TCP_TARGETS',
  },
  pollActiveMs: {
    doc: 'How often MAAS is read while machines move, ms.',
    format: 'integer',
    default: ACTIVE_POLL_MS,
    env: 'PCG_POLL_ACTIVE_MS',
    check: atLeast(1),
  },
  pollIdleMs: {
    doc: 'How often MAAS is read at rest, ms.',
    format: 'integer',
    default: IDLE_POLL_MS,
    env: 'PCG_POLL_IDLE_MS',
    check: atLeast(1),
  },
  simulatedSpeed: {
    doc: 'Only against the simulator: divides deadlines and intervals by this.',
    format: 'integer',
    default: 1,
    env: 'PCG_SIMULATED_SPEED',
    check: atLeast(1),
  },
  logLevel: {
    doc: 'trace, debug, info, warn, error.',
    format: 'string',
    default: 'info',
    env: 'PCG_LOG_LEVEL',
    check: logLevel,
  },
} as const satisfies SettingDefinitions;
