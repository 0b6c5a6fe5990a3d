/** What well-known images print when they run: the reports that scans collect. */
import type { KubeObject } from '../api/json.ts';

interface Output {
  readonly text: string;
  readonly exitCode: number;
}

const printed = (text: string): Output => ({ text, exitCode: 0 });

/** undefined: the image is not known and its command decides. */
export function imageOutput(image: string, command: readonly string[], pod: KubeObject): Output | undefined {
  if (/\/kube-bench(:|$|@)/.test(image)) return kubeBench(command, pod);
  if (/\/kube-hunter(:|$|@)/.test(image))
    return printed(
      `${JSON.stringify({ nodes: [{ type: 'Node/Master', location: '10.20.0.11' }], services: [], vulnerabilities: [], hunter_statistics: [] })}\n`,
    );
  if (/\/conformance(:|$|@)/.test(image))
    return printed(
      'Ran 411 of 7209 Specs in 5400.000 seconds\n\u001b[38;5;10m\u001b[1mSUCCESS!\u001b[0m -- \u001b[38;5;10m\u001b[1m411 Passed\u001b[0m | \u001b[38;5;9m\u001b[1m0 Failed\u001b[0m | \u001b[38;5;11m\u001b[1m0 Pending\u001b[0m | \u001b[38;5;14m\u001b[1m6798 Skipped\u001b[0m\nPASS\n',
    );
  return undefined;
}

/** Sections of the CIS benchmark by target: number, title, one check of it. */
const SECTIONS: Readonly<Record<string, readonly [id: string, text: string, check: string]>> = {
  master: ['1', 'Control Plane Security Configuration', 'Ensure that the API server pod file is private'],
  etcd: ['2', 'Etcd Node Configuration', 'Ensure that the --cert-file argument is set'],
  controlplane: ['3', 'Control Plane Configuration', 'Ensure that a minimal audit policy is created'],
  node: ['4', 'Worker Node Security Configuration', 'Ensure that the kubelet service file is private'],
  policies: ['5', 'Kubernetes Policies', 'Ensure that the cluster-admin role is only used where required'],
};
/** Whose first check fails on every node; each other passes all of its checks. */
const FAILING = 'node';

/** It looks for processes of the host: without them it cannot tell what it is to check. */
function kubeBench(command: readonly string[], pod: KubeObject): Output {
  if (pod.spec?.hostPID !== true)
    return { text: 'unable to detect running programs for component "kubelet"\n', exitCode: 1 };
  const targets = (command[command.indexOf('--targets') + 1] ?? 'node').split(',');
  const unknown = targets.find((target) => SECTIONS[target] === undefined);
  if (unknown !== undefined)
    return { text: `The specified --targets "${unknown}" are not configured\n`, exitCode: 1 };
  const controls = targets.flatMap((target) => {
    const section = SECTIONS[target];
    return section ? [control(target, section)] : [];
  });
  const sum = (key: keyof ReturnType<typeof totals>) => controls.reduce((all, one) => all + one[key], 0);
  const all = {
    total_pass: sum('total_pass'),
    total_fail: sum('total_fail'),
    total_warn: sum('total_warn'),
    total_info: sum('total_info'),
  };
  const warning = 'W1121 12:00:00.000000       1 util.go:1 the audit policy was not found\n';
  return printed(`${warning}${JSON.stringify({ Controls: controls, Totals: all })}\n`);
}

const totals = (fails: boolean) => ({
  total_pass: fails ? 9 : 10,
  total_fail: fails ? 1 : 0,
  total_warn: 1,
  total_info: 0,
});

function control(target: string, [id, text, check]: readonly [string, string, string]) {
  const fails = target === FAILING;
  const { total_pass: pass, total_fail: fail, total_warn: warn, total_info: info } = totals(fails);
  const result = (number: number, status: string) => ({
    test_number: `${id}.1.${number}`,
    test_desc: `${check} (Automated)`,
    status,
    actual_value: '',
    scored: true,
    IsMultiple: false,
    expected_result: '',
  });
  return {
    id,
    version: 'cis-1.11',
    detected_version: '1.36',
    text,
    node_type: target,
    tests: [
      {
        section: `${id}.1`,
        type: '',
        desc: text,
        pass,
        fail,
        warn,
        info,
        results: [
          result(1, fails ? 'FAIL' : 'PASS'),
          ...Array.from({ length: 9 }, (_, index) => result(index + 2, 'PASS')),
          result(11, 'WARN'),
        ],
      },
    ],
    ...totals(fails),
  };
}
