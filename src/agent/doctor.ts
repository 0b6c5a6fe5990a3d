/**
 * The agent's own examination (X14, the gateway's end): each check measures one thing against what is
 * required and names the fix. A check that cannot run is `fail` with its cause or `skip` with its reason,
 * never silently green. Read-only: it changes nothing in MAAS.
 */
import { constants } from 'node:fs';
import { access, statfs } from 'node:fs/promises';
import { connect } from 'node:net';
import { type Clock, DeadlineError, withDeadline } from '../base/clock.ts';
import { describeError, PcgError, toProblem } from '../base/errors.ts';
import type { AgentStatus, Check, CheckReport } from '../contract/api.ts';
import { rightsReport } from '../maas/rights.ts';
import { READ_ONLY_FIX } from '../store/sqlite.ts';
import type { Accounts } from './accounts.ts';
import { fitsGateway } from './inventory.ts';

const CHECK_TIMEOUT_MS = 20_000;
/** MAAS refuses signatures older than 300 s; warn long before. */
const SKEW_WARN_MS = 30_000;
const SKEW_FAIL_MS = 290_000;
const FREE_BYTES_WARN = 1024 ** 3;
const FREE_BYTES_FAIL = 64 * 1024 ** 2;
/** Long stalls of the event loop make a busy gateway look dead. */
const LEAST_NODE_MAJOR = 24;

export interface DoctorOptions {
  readonly clock: Clock;
  readonly stateDir: string;
  readonly machineProxy: string | undefined;
  readonly status: () => Promise<AgentStatus>;
  readonly accounts: () => Accounts;
}

type Verdict = Omit<Check, 'id' | 'group'>;
type Examination = { id: string; group: Check['group']; run: (signal: AbortSignal) => Promise<Verdict> };

export async function examine(options: DoctorOptions, signal: AbortSignal): Promise<CheckReport> {
  const { clock } = options;
  const started = clock.monotonic();
  const startedAt = new Date(clock.now()).toISOString();
  const checks = await Promise.all(
    examinations(options).map(async ({ id, group, run }): Promise<Check> => {
      try {
        return { id, group, ...(await withDeadline(clock, CHECK_TIMEOUT_MS, id, signal, run)) };
      } catch (error) {
        const problem = toProblem(error instanceof DeadlineError ? notInTime(error) : error);
        const measured = problem.code === 'INTERNAL' ? describeError(error) : problem.message;
        return {
          id,
          group,
          state: 'fail',
          measured,
          required: 'an answer',
          fix: problem.fix,
          code: problem.code,
        };
      }
    }),
  );
  return { checks, startedAt, durationMs: Math.round(clock.monotonic() - started) };
}

function notInTime(cause: DeadlineError): PcgError {
  return new PcgError('DEADLINE', `no answer within ${cause.timeoutMs / 1000} s`, {
    fix: 'What is examined accepts questions but does not answer them: see whether it hangs or is overloaded, and whether something in between drops packets.',
    cause,
  });
}

function examinations(options: DoctorOptions): Examination[] {
  return [
    { id: 'HOST_NODE_VERSION', group: 'Host', run: nodeVersion },
    { id: 'STORAGE_STATE_DIR', group: 'Storage', run: () => stateDirectory(options.stateDir) },
    { id: 'PORTAL_TUNNEL', group: 'Portal', run: () => tunnel(options.status) },
    { id: 'NETWORK_MACHINE_PROXY', group: 'Network', run: () => machineProxy(options.machineProxy) },
    ...options
      .accounts()
      .list()
      .flatMap(({ id }) => accountChecks(options.accounts(), id)),
  ];
}

async function nodeVersion(): Promise<Verdict> {
  const major = Number(process.versions.node.split('.')[0]);
  return {
    state: major >= LEAST_NODE_MAJOR ? 'pass' : 'fail',
    measured: `node ${process.versions.node}`,
    required: `node ${LEAST_NODE_MAJOR} or newer`,
    fix: 'Run the agent on the Node that the package brings.',
  };
}

async function stateDirectory(path: string): Promise<Verdict> {
  try {
    await access(path, constants.W_OK);
  } catch (cause) {
    const readOnly = (cause as NodeJS.ErrnoException).code === 'EROFS';
    throw new PcgError('STORAGE_FAILED', `${path} is not writable: ${(cause as Error).message}`, {
      fix: readOnly ? READ_ONLY_FIX : undefined,
      cause,
    });
  }
  const { bavail, bsize } = await statfs(path);
  const free = bavail * bsize;
  return {
    state: free < FREE_BYTES_FAIL ? 'fail' : free < FREE_BYTES_WARN ? 'warn' : 'pass',
    measured: `${path} is writable, ${Math.round(free / 1024 ** 2)} MiB free`,
    required: 'writable, 1 GiB free',
    fix: 'Free space on the file system of the state directory.',
  };
}

async function tunnel(status: DoctorOptions['status']): Promise<Verdict> {
  const { tunnel: state } = await status();
  const required = 'connected';
  switch (state.state) {
    case 'connected':
      return {
        state: 'pass',
        measured: `connected since ${state.since}${state.rttMs === undefined ? '' : `, round trip ${Math.round(state.rttMs)} ms`}`,
        required,
        fix: '',
      };
    case 'unpaired':
      return {
        state: 'fail',
        measured: 'not paired',
        required,
        fix: 'Run `pcg pair` with a code from the portal.',
      };
    case 'connecting':
      return {
        state: 'warn',
        measured: `connecting since ${state.since}, attempt ${state.attempt}`,
        required,
        fix: 'Look again in a moment.',
      };
    case 'waiting':
      return {
        state: 'fail',
        measured: `${state.cause.message}; next attempt at ${state.nextAttemptAt}`,
        required,
        fix: state.cause.fix,
        code: state.cause.code,
      };
    default:
      return state satisfies never;
  }
}

async function machineProxy(url: string | undefined): Promise<Verdict> {
  if (url === undefined)
    return {
      state: 'skip',
      measured: 'not set: machines are reached directly',
      required: 'a route to the machines',
      fix: '',
    };
  const { hostname, port } = new URL(url);
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port || 80) }, () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });
  return {
    state: 'pass',
    measured: `${hostname}:${port} accepts connections`,
    required: 'a proxy that answers',
    fix: '',
  };
}

function accountChecks(accounts: Accounts, id: string): Examination[] {
  const client = () => {
    const account = accounts.client(id);
    if (account instanceof PcgError) throw account;
    return account.maas;
  };
  return [
    {
      id: `MAAS_RIGHTS ${id}`,
      group: 'MAAS',
      run: async (signal) => {
        const report = await rightsReport(client(), signal);
        const denied = report.rights.filter(({ verdict }) => verdict === 'denied');
        return {
          state: report.sufficient ? (denied.length > 0 ? 'warn' : 'pass') : 'fail',
          measured: `MAAS ${report.version} as ${report.username}${denied.length > 0 ? `; may not: ${denied.map((right) => right.id).join(', ')}` : ''}`,
          required: 'a key that may allocate, deploy and release',
          fix: report.remarks.join(' '),
        };
      },
    },
    {
      id: `TIME_MAAS ${id}`,
      group: 'Time',
      run: async (signal) => {
        const maas = client();
        await maas.version(signal);
        const skew = Math.abs(maas.clockSkewMs ?? 0);
        return {
          state: skew > SKEW_FAIL_MS ? 'fail' : skew > SKEW_WARN_MS ? 'warn' : 'pass',
          measured: `clocks differ by ${Math.round(skew / 1000)} s`,
          required: 'less than 30 s',
          fix: 'Synchronise gateway and MAAS with the same NTP servers.',
        };
      },
    },
    {
      id: `MAAS_READY_MACHINES ${id}`,
      group: 'Capacity',
      run: async (signal) => {
        const ready = await client().machines.list({ statuses: ['ready'] }, signal);
        const fit = ready.filter(fitsGateway).length;
        return {
          state: ready.length > 0 ? 'pass' : 'warn',
          measured: `${ready.length} machines Ready, ${fit} of them with 4 CPU, 8192 MiB, 60 GB`,
          required: 'at least one Ready machine for new nodes',
          fix: 'Commission machines in MAAS, or release some.',
        };
      },
    },
  ];
}
