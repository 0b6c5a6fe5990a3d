/**
 * What must hold during every run on the simulator, judged by what the Kubernetes double itself wrote down moment by
 * moment: quorum is never broken by the gateway, never more nodes are away than the strategy allows, workloads leave
 * before their machine, no kubelet is newer than an API server, and nothing leaks.
 */
import type { Moment } from '../../src/simulator/kubernetes/chronicle.ts';
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import type { Departure } from '../../src/simulator/kubernetes/departures.ts';
import type { SimulatedSite } from './simulated-site.ts';

export interface Books {
  readonly moments: readonly Moment[];
  readonly departures: readonly Departure[];
}

export interface Allowed {
  readonly cluster: string;
  /** Wall clock, milliseconds: from here on the cluster was complete. */
  readonly since: number;
  /** Least numbers of Ready nodes; workers must also take new pods. */
  readonly workers: number;
  readonly controlPlanes: number;
  /** Host names that the test itself took away: what they drag down is not the gateway's doing. */
  readonly broken?: readonly string[];
}

/** Every breach in words; none when all is well. */
export function breaches(books: Books, allowed: Allowed): string[] {
  const broken = new Set(allowed.broken ?? []);
  const moments = books.moments.filter(
    ({ cluster, at }) => cluster === allowed.cluster && at >= allowed.since,
  );
  // Its first member is there a moment before its process runs.
  const born = moments.findIndex(({ quorum }) => quorum);
  const departures = books.departures.filter(
    ({ cluster, at, hostname }) =>
      cluster === allowed.cluster && at >= allowed.since && !broken.has(hostname),
  );
  const found = new Set<string>();
  for (const moment of moments.slice(Math.max(0, born)))
    for (const breach of [...membership(moment, broken), ...numbers(moment, allowed), ...skew(moment)])
      found.add(breach);
  for (const { hostname, workloads, cordoned, quorumAfter } of departures) {
    if (workloads.length > 0) found.add(`${hostname} stopped with ${workloads.join(', ')}`);
    if (!cordoned) found.add(`${hostname} stopped without being cordoned`);
    if (!quorumAfter) found.add(`${hostname} took the quorum along`);
  }
  return [...found];
}

function* membership(moment: Moment, broken: ReadonlySet<string>): Generator<string> {
  const { what, voters, votersUp, learners, quorum } = moment;
  if (!quorum && broken.size === 0) yield `quorum was lost: ${JSON.stringify(what)}`;
  if (what.kind === 'member-removed') {
    if (!quorum) yield `the removal of ${what.member} broke the quorum`;
    if (broken.size === 0 && votersUp < voters)
      yield `${what.member} was removed while another member was down`;
    if (learners > 0) yield `${what.member} was removed while somebody joined`;
  }
  if (what.kind === 'member-down' && !broken.has(what.member))
    yield `${what.member} stopped while it was a member of etcd`;
}

function* numbers({ what, workers, readyControlPlanes }: Moment, allowed: Allowed): Generator<string> {
  if (workers < allowed.workers) yield `${workers} workers after ${JSON.stringify(what)}`;
  if (readyControlPlanes < allowed.controlPlanes)
    yield `${readyControlPlanes} control-plane nodes after ${JSON.stringify(what)}`;
}

/** `v1.36.1` as a number that sorts. */
const rank = (version: string) =>
  version
    .replace(/^v/, '')
    .split('.')
    .reduce((sum, part) => sum * 1000 + Number.parseInt(part, 10), 0);

function* skew({ versions }: Moment): Generator<string> {
  const servers = versions
    .filter(({ controlPlane, version }) => controlPlane && version !== '')
    .map(({ version }) => rank(version));
  if (servers.length === 0) return;
  const oldest = Math.min(...servers);
  for (const { node, version, controlPlane } of versions)
    if (version !== '' && !controlPlane && rank(version) > oldest)
      yield `the kubelet of ${node} is ${version}, newer than an API server`;
  const minor = (value: number) => Math.floor(value / 1000);
  if (minor(Math.max(...servers)) - minor(oldest) > 1) yield 'API servers are more than one minor apart';
}

/** The same over a site in this process. */
export const siteBreaches = (site: SimulatedSite, allowed: Allowed): string[] =>
  breaches({ moments: site.kubernetes.moments(), departures: site.kubernetes.departures() }, allowed);

/**
 * What a settled cluster still shows of machines that went: Nodes and members of etcd without a kubelet, and tokens of
 * joins that are over.
 */
export function leftovers(site: SimulatedSite): string[] {
  return site.kubernetes
    .inside()
    .flatMap(({ core, etcd, kubelets }) => [
      ...core.store
        .list(R.nodes)
        .flatMap(({ metadata: { name } }) => (kubelets.has(name) ? [] : `Node ${name}`)),
      ...etcd.members().flatMap(({ name }) => (kubelets.has(name) ? [] : `member ${name}`)),
      ...core.store
        .list(R.secrets, 'kube-system')
        .flatMap(({ metadata, type }) => (type === 'bootstrap.kubernetes.io/token' ? metadata.name : [])),
    ]);
}

/** In the time of the site: the last Node goes, and the last token is taken back, a moment after everything runs. */
export async function nothingLeft(site: SimulatedSite): Promise<void> {
  await site.until('rid of what went', () => leftovers(site).length === 0);
}

/** What nobody holds any more must be free, and nothing had two holders. To be asked after the last cluster is deleted. */
export function leaks(site: SimulatedSite): unknown {
  const { ledger } = site.simulator;
  return {
    leaked: ledger.leaked(),
    leakedAddresses: ledger.leakedAddresses(),
    doublyAllocated: ledger.doublyAllocated(),
    sharedAgentNames: ledger.sharedAgentNames(),
  };
}

export const NO_LEAKS = { leaked: [], leakedAddresses: [], doublyAllocated: [], sharedAgentNames: [] };
