/**
 * The objects that carry out policies in a tenant cluster: OS patching and reboot of one node, CIS, conformance and
 * vulnerability scans as Jobs that end by themselves. Pure data; results are read by policies-results.ts.
 */
import type { KubeObject } from '../kube/client.ts';

/** Namespace of all policy Jobs; privileged, since patching enters the host. */
export const POLICY_NAMESPACE = 'pcg-policies';
/** Which policy and which run a Job belongs to. */
const LABEL_POLICY = 'pcg.internal/policy';
const LABEL_RUN = 'pcg.internal/run';

export const POLICY_IMAGES = {
  /** Only its shell and nsenter are used; everything else is the node's own. */
  host: 'docker.io/library/busybox:1.36',
  cis: 'docker.io/aquasec/kube-bench:v0.10.0',
  vulnerabilities: 'docker.io/aquasec/trivy:0.65.0',
  conformance: 'registry.k8s.io/conformance',
} as const;

/** Finished Jobs stay this long for people to look at; the gateway has read them long before. */
const JOB_TTL_SECONDS = 24 * 60 * 60;
const HOUR_SECONDS = 60 * 60;

export interface PolicyRun {
  /** Short and unique, e.g. the action's id; part of names. */
  readonly id: string;
}

/** Must exist before any Job below. */
export function policyNamespace(): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: POLICY_NAMESPACE, labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } },
  };
}

/**
 * Upgrades the node's packages in place: security updates with unattended-upgrade. Kubernetes' own packages are
 * held by the bootstrap. The pod's termination message is JSON: {upgraded, rebootRequired}.
 */
export function patchJob(run: PolicyRun, nodeName: string): KubeObject {
  const script = `
host() { nsenter -t 1 -m -u -i -n -p -- "$@"; }
host env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq update || exit 10
before=$(host dpkg-query -W | sort)
host env DEBIAN_FRONTEND=noninteractive unattended-upgrade -v || exit 11
after=$(host dpkg-query -W | sort)
echo "$before" >/tmp/before; echo "$after" >/tmp/after
upgraded=$(diff /tmp/before /tmp/after | grep -c '^+[^+]' || true)
reboot=false
host test -e /var/run/reboot-required && reboot=true
printf '{"upgraded":%d,"rebootRequired":%s}' "$upgraded" "$reboot" >/dev/termination-log
`;
  return hostJob('patching', run, nodeName, script, HOUR_SECONDS);
}

/** Reboots the node a few seconds after the Job has ended, so that the Job can be seen to succeed. */
export function rebootJob(run: PolicyRun, nodeName: string): KubeObject {
  const script = `nsenter -t 1 -m -u -i -n -p -- systemd-run --on-active=10 --timer-property=AccuracySec=1s systemctl reboot`;
  return hostJob('reboot', run, nodeName, script, 5 * 60);
}

/**
 * Renews the leaf certificates of one control-plane node and restarts its components so that they use them. One
 * node at a time: etcd and the API server of the node are away for some seconds.
 */
export function renewCertificatesJob(run: PolicyRun, nodeName: string): KubeObject {
  const script = `
host() { nsenter -t 1 -m -u -i -n -p -- "$@"; }
host kubeadm certs renew all || exit 10
for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
  for container in $(host crictl ps -q --name "^$component$"); do
    host crictl stop "$container" || exit 11
  done
done
`;
  return hostJob('certificates', run, nodeName, script, 10 * 60);
}

function hostJob(
  policy: string,
  run: PolicyRun,
  nodeName: string,
  script: string,
  deadlineSeconds: number,
): KubeObject {
  return job(policy, run, nodeName, deadlineSeconds, {
    nodeName, // past the scheduler: the node may be cordoned
    hostPID: true,
    tolerations: [{ operator: 'Exists' }],
    containers: [
      {
        name: policy,
        image: POLICY_IMAGES.host,
        command: ['/bin/sh', '-c', script],
        // What it printed last is the reason when it fails.
        terminationMessagePolicy: 'FallbackToLogsOnError',
        securityContext: { privileged: true },
        resources: { requests: { cpu: '50m', memory: '32Mi' } },
      },
    ],
  });
}

/** kube-bench on one node; the pod's log is its JSON. */
export function cisScanJob(run: PolicyRun, nodeName: string, role: 'control-plane' | 'worker'): KubeObject {
  const hostPaths: Record<string, string> = {
    'var-lib-etcd': '/var/lib/etcd',
    'var-lib-kubelet': '/var/lib/kubelet',
    'var-lib-kube-scheduler': '/var/lib/kube-scheduler',
    'var-lib-kube-controller-manager': '/var/lib/kube-controller-manager',
    'etc-systemd': '/etc/systemd',
    'lib-systemd': '/lib/systemd',
    'etc-kubernetes': '/etc/kubernetes',
    'etc-cni-netd': '/etc/cni/net.d',
    'opt-cni-bin': '/opt/cni/bin',
    'var-lib-cni': '/var/lib/cni',
  };
  return job('cis', run, nodeName, HOUR_SECONDS, {
    nodeName,
    hostPID: true,
    tolerations: [{ operator: 'Exists' }],
    containers: [
      {
        name: 'cis',
        image: POLICY_IMAGES.cis,
        command: [
          'kube-bench',
          'run',
          '--targets',
          role === 'control-plane' ? 'master,controlplane,etcd,node,policies' : 'node',
          '--json',
        ],
        terminationMessagePolicy: 'FallbackToLogsOnError',
        volumeMounts: [
          ...Object.entries(hostPaths).map(([name, mountPath]) => ({ name, mountPath, readOnly: true })),
          { name: 'usr-bin', mountPath: '/usr/local/mount-from-host/bin', readOnly: true },
        ],
      },
    ],
    volumes: [
      ...Object.entries(hostPaths).map(([name, path]) => ({ name, hostPath: { path } })),
      { name: 'usr-bin', hostPath: { path: '/usr/bin' } },
    ],
  });
}

/**
 * Vulnerabilities of all running images. Trivy's report is larger than a kubelet keeps of a log, so the pod prints
 * only the lines of it that say which finding is where. Its summary report would leave out the images that are clean and those that
 * could not be looked at. Account and rights come with the Job.
 */
export function vulnerabilityScan(run: PolicyRun): KubeObject[] {
  const scan =
    'trivy kubernetes --report=all --format=json --scanners=vuln --disable-node-collector --quiet --timeout=110m';
  const told =
    '^      "(Namespace|Kind|Name|Error)": |^ +"(VulnerabilityID|PkgName|InstalledVersion|FixedVersion|Severity)": ';
  const script = `${scan} --output=/tmp/report.json && sed -nE '/${told}/p' /tmp/report.json`;
  return [
    ...account('vulnerabilities', [
      { apiGroups: ['*'], resources: ['*'], verbs: ['get', 'list'] }, // it inspects whatever runs images
    ]),
    job('vulnerabilities', run, undefined, 2 * HOUR_SECONDS, {
      serviceAccountName: 'vulnerabilities',
      containers: [
        {
          name: 'vulnerabilities',
          image: POLICY_IMAGES.vulnerabilities,
          command: ['/bin/sh', '-c', script],
          terminationMessagePolicy: 'FallbackToLogsOnError',
          resources: { requests: { cpu: '500m', memory: '512Mi' } },
        },
      ],
    }),
  ];
}

/** The official conformance image, the suite's own runner; `quick` proves that it works in a few minutes. */
export function conformanceScan(
  run: PolicyRun,
  kubernetesVersion: string,
  mode: 'quick' | 'certified',
): KubeObject[] {
  const focus = mode === 'quick' ? 'Pods should be submitted and removed' : '\\[Conformance\\]';
  const environment = {
    E2E_FOCUS: focus,
    E2E_SKIP: '',
    E2E_PROVIDER: 'skeleton',
    E2E_PARALLEL: 'false',
    E2E_VERBOSITY: '4',
    E2E_USE_GO_RUNNER: 'true',
    RESULTS_DIR: '/tmp/results',
  };
  return [
    ...account('conformance', [
      { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
      { nonResourceURLs: ['*'], verbs: ['*'] },
    ]),
    job('conformance', run, undefined, 3 * HOUR_SECONDS, {
      serviceAccountName: 'conformance',
      tolerations: [{ operator: 'Exists' }],
      containers: [
        {
          name: 'conformance',
          image: `${POLICY_IMAGES.conformance}:${kubernetesVersion}`,
          env: Object.entries(environment).map(([name, value]) => ({ name, value })),
          terminationMessagePolicy: 'FallbackToLogsOnError',
        },
      ],
    }),
  ];
}

function account(name: string, rules: unknown[]): KubeObject[] {
  const role = `pcg-policy-${name}`;
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: POLICY_NAMESPACE } },
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata: { name: role }, rules },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: role },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ kind: 'ServiceAccount', name, namespace: POLICY_NAMESPACE }],
    },
  ];
}

function job(
  policy: string,
  run: PolicyRun,
  nodeName: string | undefined,
  deadlineSeconds: number,
  pod: Record<string, unknown>,
): KubeObject {
  const labels = { [LABEL_POLICY]: policy, [LABEL_RUN]: run.id };
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: policyJobName(policy, run, nodeName), namespace: POLICY_NAMESPACE, labels },
    spec: {
      backoffLimit: 0, // a second attempt is the gateway's decision
      activeDeadlineSeconds: deadlineSeconds,
      ttlSecondsAfterFinished: JOB_TTL_SECONDS,
      template: { metadata: { labels }, spec: { restartPolicy: 'Never', ...pod } },
    },
  };
}

/** Longest name of a Job whose pods still get readable names. */
const MAX_JOB_NAME = 57;

export function policyJobName(policy: string, run: PolicyRun, nodeName?: string): string {
  const base = `${policy}-${run.id}${nodeName === undefined ? '' : `-${nodeName.replaceAll('.', '-')}`}`;
  return base.slice(0, MAX_JOB_NAME).replace(/-+$/, '');
}
