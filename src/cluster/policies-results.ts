/** What the Jobs of policies-manifests.ts have found: their outputs to small summaries. Any text is survived. */

export interface PatchResult {
  readonly upgraded: number;
  readonly rebootRequired: boolean;
}

/** Termination message of the patch pod. */
export function readPatchResult(message: unknown): PatchResult | undefined {
  const value = parse(message);
  const { upgraded, rebootRequired } = value ?? {};
  if (typeof upgraded !== 'number' || typeof rebootRequired !== 'boolean') return undefined;
  return { upgraded, rebootRequired };
}

export interface CisResult {
  readonly pass: number;
  readonly fail: number;
  readonly warn: number;
  readonly info: number;
  /** Numbers and texts of failed checks, at most MAX_FINDINGS. */
  readonly failed: readonly { readonly id: string; readonly text: string }[];
}

/** Findings kept in the status; the rest is in the pod's log. */
const MAX_FINDINGS = 50;

/** kube-bench's JSON, text or already parsed. */
export function readCisResult(log: unknown): CisResult | undefined {
  const report = parse(log);
  const totals = record(report?.['Totals']);
  if (totals === undefined) return undefined;
  const failed: { id: string; text: string }[] = [];
  for (const control of list(report?.['Controls']))
    for (const group of list(control['tests']))
      for (const result of list(group['results']))
        if (result['status'] === 'FAIL' && failed.length < MAX_FINDINGS)
          failed.push({
            id: text(result['test_number']),
            text: text(result['test_desc']).slice(0, 300),
          });
  return {
    pass: count(totals['total_pass']),
    fail: count(totals['total_fail']),
    warn: count(totals['total_warn']),
    info: count(totals['total_info']),
    failed,
  };
}

export interface VulnerabilityResult {
  readonly critical: number;
  readonly high: number;
  readonly medium: number;
  readonly low: number;
  readonly images: number;
}

/** Trivy's JSON summary of a cluster. */
export function readVulnerabilityResult(log: unknown): VulnerabilityResult | undefined {
  const report = parse(log);
  if (report === undefined) return undefined;
  const resources = list(report['Resources'] ?? report['Findings']);
  const severities: Record<string, number> = {};
  let images = 0;
  for (const resource of resources)
    for (const result of list(resource['Results'])) {
      images += 1;
      for (const finding of list(result['Vulnerabilities'])) {
        const severity = text(finding['Severity']).toLowerCase();
        severities[severity] = (severities[severity] ?? 0) + 1;
      }
    }
  return {
    critical: severities['critical'] ?? 0,
    high: severities['high'] ?? 0,
    medium: severities['medium'] ?? 0,
    low: severities['low'] ?? 0,
    images,
  };
}

export interface ConformanceResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The last summary line of the suite: `SUCCESS! -- 411 Passed | 0 Failed | 0 Pending | 6798 Skipped`. */
export function readConformanceResult(log: unknown): ConformanceResult | undefined {
  const lines = text(log).matchAll(/ -- (\d+) Passed \| (\d+) Failed \| (?:\d+ \w+ \| )*(\d+) Skipped/g);
  const last = [...lines].at(-1);
  if (last === undefined) return undefined;
  return { passed: Number(last[1]), failed: Number(last[2]), skipped: Number(last[3]) };
}

type Fields = Record<string, unknown>;

function parse(text: unknown): Fields | undefined {
  if (typeof text !== 'string') return record(text);
  try {
    return record(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function record(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(record).filter((entry) => entry !== undefined) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}
