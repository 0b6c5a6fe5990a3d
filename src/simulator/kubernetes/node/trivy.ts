/**
 * Trivy as a scan of a cluster runs it: it asks the API server with the rights of its account which workloads run
 * which images, and writes its report as the real one does, flags and all.
 */
import type { Json, KubeObject } from '../api/json.ts';
import { isAllowed } from '../api/rbac.ts';
import { R } from '../api/resources.ts';
import { resolvePath } from './container-files.ts';
import type { SimCluster } from './cluster.ts';
import type { Program } from './shell.ts';

const FLAGS: ReadonlySet<string> = new Set([
  'report',
  'format',
  'scanners',
  'disable-node-collector',
  'quiet',
  'timeout',
  'output',
]);

/** Its registry does not answer. */
const AWAY = /^registry\.example\//;
const VULNERABLE = /\/kube-proxy[:@]/;

export function trivyOf(cluster: SimCluster, pod: KubeObject): Program {
  return ([command = '', ...flags], io) => {
    const fatal = (message: string) => {
      io.stderr(Buffer.from(`FATAL\tFatal error\t${message}\n`));
      return 1;
    };
    if (!['kubernetes', 'k8s'].includes(command))
      return fatal(`unknown command "${command}" for the simulated trivy`);
    const given = new Map(flags.map((flag) => readFlag(flag)));
    const unknown = [...given.keys()].find((name) => !FLAGS.has(name));
    if (unknown !== undefined) return fatal(`unknown flag: --${unknown}`);
    if (!mayList(cluster, pod))
      return fatal(
        'k8s scan error: failed getting resources: pods is forbidden: cannot list resource "pods"',
      );
    const resources = workloads(cluster).map(resource);
    const head = { ClusterName: '' };
    const report =
      given.get('report') === 'all'
        ? { ...head, Resources: resources }
        : { ...head, Findings: resources.filter(hasFindings) };
    const text =
      given.get('format') === 'json'
        ? `${JSON.stringify(report, undefined, 2)}\n`
        : 'Summary Report for kubernetes\n';
    const output = given.get('output');
    if (output === undefined) io.stdout(Buffer.from(text));
    else io.files.write(resolvePath('/', output), Buffer.from(text));
    return 0;
  };
}

function readFlag(flag: string): [name: string, value: string] {
  const [name = '', value = 'true'] = flag.replace(/^--/, '').split('=', 2);
  return [name, value];
}

function mayList({ core }: SimCluster, pod: KubeObject): boolean {
  const { namespace } = pod.metadata;
  const user = {
    name: `system:serviceaccount:${namespace}:${pod.spec.serviceAccountName}`,
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
  };
  const pods = { group: '', resource: 'pods', subresource: '', namespace: '', name: '' };
  return isAllowed(core.store, user, { verb: 'list', ...pods });
}

interface Workload {
  readonly namespace: string;
  readonly kind: string;
  readonly name: string;
  readonly image: string;
}

/** Every image of every workload, once. */
function workloads({ core }: SimCluster): Workload[] {
  const found = new Map<string, Workload>();
  for (const { metadata, spec } of core.store.values(R.pods)) {
    const owner = metadata.ownerReferences?.find((one: Json) => one.controller === true);
    const deployed = owner?.kind === 'ReplicaSet';
    const kind: string = deployed ? 'Deployment' : (owner?.kind ?? 'Pod');
    const name: string = deployed ? owner.name.replace(/-[^-]+$/, '') : (owner?.name ?? metadata.name);
    for (const { image } of spec?.containers ?? []) {
      const workload = { namespace: metadata.namespace ?? '', kind, name, image };
      found.set(JSON.stringify(workload), workload);
    }
  }
  return [...found.values()];
}

interface Result {
  readonly Target: string;
  readonly Class: string;
  readonly Type: string;
  readonly Vulnerabilities?: readonly Json[];
}

interface Resource {
  readonly Namespace: string;
  readonly Kind: string;
  readonly Name: string;
  readonly Metadata: readonly Json[];
  readonly Results?: readonly Result[];
  readonly Error?: string;
}

/** In the order of the real report's keys; what is empty is left out there as well. */
function resource({ namespace, kind, name, image }: Workload): Resource {
  const what = { Namespace: namespace, Kind: kind, Name: name };
  if (AWAY.test(image))
    return {
      ...what,
      Metadata: [{}],
      Error: `scan error: unable to initialize a scanner: unable to find the specified image "${image}"`,
    };
  return {
    ...what,
    Metadata: [{ OS: { Family: 'debian', Name: '12.12' }, RepoTags: [image] }],
    Results: [
      { Target: `${image} (debian 12.12)`, Class: 'os-pkgs', Type: 'debian' },
      {
        Target: 'usr/local/bin/program',
        Class: 'lang-pkgs',
        Type: 'gobinary',
        ...(VULNERABLE.test(image) && {
          Vulnerabilities: ['CRITICAL', 'HIGH', 'LOW'].map((severity, index) =>
            vulnerability(severity, `CVE-2026-000${index + 1}`),
          ),
        }),
      },
    ],
  };
}

function vulnerability(severity: string, id: string) {
  return {
    VulnerabilityID: id,
    PkgName: 'stdlib',
    InstalledVersion: 'v1.25.1',
    FixedVersion: '1.25.4',
    Status: 'fixed',
    SeveritySource: 'nvd',
    Title: 'golang: net/http: a simulated finding',
    Description: 'Others rate it "Severity": "CRITICAL", says its text.',
    Severity: severity,
    VendorSeverity: { nvd: 4, redhat: 2 },
  };
}

const hasFindings = ({ Results = [] }: Resource) =>
  Results.some(({ Vulnerabilities = [] }) => Vulnerabilities.length > 0);
