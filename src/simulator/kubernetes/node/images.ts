/** What well-known images print when they run: the reports that scans collect. */

/** undefined: the image is not known and its command decides. */
export function imageOutput(image: string, command: readonly string[]): string | undefined {
  if (/\/kube-bench(:|$|@)/.test(image)) return `${JSON.stringify(kubeBench(command))}\n`;
  if (/\/kube-hunter(:|$|@)/.test(image))
    return `${JSON.stringify({ nodes: [{ type: 'Node/Master', location: '10.20.0.11' }], services: [], vulnerabilities: [], hunter_statistics: [] })}\n`;
  if (/\/trivy(:|$|@)/.test(image)) return `${JSON.stringify(trivy())}\n`;
  if (/\/conformance(:|$|@)/.test(image))
    return 'Ran 411 of 7209 Specs in 5400.000 seconds\nSUCCESS! -- 411 Passed | 0 Failed | 0 Pending | 6798 Skipped\nPASS\n';
  return undefined;
}

function trivy() {
  const found = (severity: string, id: string) => ({
    VulnerabilityID: id,
    PkgName: 'openssl',
    Severity: severity,
  });
  return {
    ClusterName: 'simulated',
    Resources: [
      {
        Namespace: 'kube-system',
        Kind: 'DaemonSet',
        Name: 'kube-proxy',
        Results: [
          {
            Target: 'registry.k8s.io/kube-proxy (debian 12)',
            Vulnerabilities: [
              found('CRITICAL', 'CVE-2026-0001'),
              found('HIGH', 'CVE-2026-0002'),
              found('LOW', 'CVE-2026-0003'),
            ],
          },
        ],
      },
    ],
  };
}

function kubeBench(command: readonly string[]) {
  const targets = command[command.indexOf('--targets') + 1] ?? 'node';
  const totals = { total_pass: 19, total_fail: 1, total_warn: 4, total_info: 0 };
  return {
    Controls: [
      {
        id: '4',
        version: 'cis-1.11',
        detected_version: '1.36',
        text: 'Worker Node Security Configuration',
        node_type: targets,
        tests: [
          {
            section: '4.1',
            desc: 'Worker Node Configuration Files',
            pass: 9,
            fail: 1,
            warn: 0,
            info: 0,
            results: [
              {
                test_number: '4.1.1',
                test_desc:
                  'Ensure that the kubelet service file permissions are set to 600 or more restrictive (Automated)',
                status: 'FAIL',
                scored: true,
              },
            ],
          },
        ],
        ...totals,
      },
    ],
    Totals: totals,
  };
}
