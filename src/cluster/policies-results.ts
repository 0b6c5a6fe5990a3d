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
  /** Findings that nobody has rated yet. */
  readonly unknown: number;
  /** Images that were looked at; one that several workloads run counts for each of them. */
  readonly images: number;
  /** Images that could not be looked at. */
  readonly unscanned: number;
}

/**
 * The lines that vulnerabilityScan keeps of Trivy's report. Undefined when it looked at nothing, or when its findings
 * do not add up because the report has another shape: neither is the same as no findings.
 */
export function readVulnerabilityResult(log: unknown): VulnerabilityResult | undefined {
  const found = (pattern: RegExp) => [...text(log).matchAll(pattern)];
  const resources = found(/^ {6}"Kind": "/gm).length;
  const unscanned = found(/^ {6}"Error": "/gm).length;
  const severities = found(/^ +"Severity": "(\w+)"/gm).map(([, severity = '']) => severity);
  const findings = found(/^ +"VulnerabilityID": "/gm).length;
  if (resources <= unscanned || severities.length !== findings) return undefined;
  const rated = (severity: string) => severities.filter((one) => one === severity).length;
  const counts = {
    critical: rated('CRITICAL'),
    high: rated('HIGH'),
    medium: rated('MEDIUM'),
    low: rated('LOW'),
  };
  const unknown = findings - counts.critical - counts.high - counts.medium - counts.low;
  return { ...counts, unknown, images: resources - unscanned, unscanned };
}

export interface ConformanceResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Ginkgo paints its summary unless it is told not to. */
const COLOURS = new RegExp(`${String.fromCharCode(27)}\\[[\\d;]*m`, 'g');

/**
 * The last summary line of the suite: `SUCCESS! -- 411 Passed | 0 Failed | 0 Pending | 6798 Skipped`. A suite that
 * skipped everything has proved nothing.
 */
export function readConformanceResult(log: unknown): ConformanceResult | undefined {
  const plain = text(log).replace(COLOURS, '');
  const lines = plain.matchAll(/ -- (\d+) Passed \| (\d+) Failed \| (?:\d+ \w+ \| )*(\d+) Skipped/g);
  const last = [...lines].at(-1);
  const [passed = 0, failed = 0, skipped = 0] = last?.slice(1).map(Number) ?? [];
  return passed + failed === 0 ? undefined : { passed, failed, skipped };
}

type Fields = Record<string, unknown>;

/** JSON, also between other lines: a container's log holds what it warned of as well. */
function parse(text: unknown): Fields | undefined {
  if (typeof text !== 'string') return record(text);
  const start = /^\{/m.exec(text)?.index ?? 0;
  const end = [...text.matchAll(/\}$/gm)].at(-1)?.index ?? text.length;
  try {
    return record(JSON.parse(text.slice(start, end + 1)));
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
