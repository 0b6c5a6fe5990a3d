/**
 * When a policy runs next: its cron expression in the site's local time (backups: UTC), counted from its last run (or from the
 * time the cluster became Running), plus runs that the user asks for. A run that was missed while the gateway
 * was down is made up once, not once per missed time.
 */
import { Cron } from 'croner';
import type { ClusterDocument } from '../../contract/cluster.ts';
import type { Policies } from '../../contract/policies.ts';
import type { ClusterRecord } from '../model.ts';

const MINUTE_MS = 60_000;

export const POLICY_NAMES = [
  'patching',
  'cis',
  'vulnerabilities',
  'conformance',
  'backup',
  'etcd-snapshot',
  'restore',
  'delete-backup',
] as const;
export type PolicyName = (typeof POLICY_NAMES)[number];

export function isPolicyName(text: string): text is PolicyName {
  return (POLICY_NAMES as readonly string[]).includes(text);
}

export function savesWorkloads({ backups }: Policies): boolean {
  return backups.workloads && backups.target !== undefined;
}

/** Velero knows no time zone but UTC, and both kinds of backup share one schedule. */
const IN_UTC: ReadonlySet<PolicyName> = new Set(['backup', 'etcd-snapshot']);

export function scheduleOf(policies: Policies, name: PolicyName): string {
  switch (name) {
    case 'patching':
      return policies.patching.schedule;
    case 'cis':
    case 'vulnerabilities':
    case 'conformance':
      return policies.scans[name];
    case 'backup':
      return savesWorkloads(policies) ? policies.backups.schedule : 'never';
    case 'etcd-snapshot':
      return policies.backups.etcdSnapshots ? policies.backups.schedule : 'never';
    case 'restore':
    case 'delete-backup':
      return 'never';
  }
}

/** Milliseconds of the next run; undefined when there is none or the expression is no cron expression. */
export function nextRun(
  document: ClusterDocument,
  record: ClusterRecord,
  name: PolicyName,
  now: number,
): number | undefined {
  const schedule = scheduleOf(document.spec.policies, name);
  if (schedule === 'never') return undefined;
  const since =
    record.policies[name]?.lastRunAt ?? (record.stage.kind === 'running' ? record.stage.since : undefined);
  if (since === undefined) return undefined;
  // A maintenance window that has passed is not made up outside of it.
  const { windowMinutes } = document.spec.policies.patching;
  const windowMs = name === 'patching' && windowMinutes !== undefined ? windowMinutes * MINUTE_MS : undefined;
  const from = windowMs === undefined ? since : Math.max(since, now - windowMs);
  try {
    return new Cron(schedule, { paused: true, ...(IN_UTC.has(name) ? { timezone: 'UTC' } : {}) })
      .nextRun(new Date(from))
      ?.getTime();
  } catch {
    return undefined; // refused where the document was accepted; here it must not stop anything else
  }
}

/** Policies whose time has come, in a fixed order: one at a time. */
export function duePolicies(document: ClusterDocument, record: ClusterRecord, now: number): PolicyName[] {
  return POLICY_NAMES.filter((name) => {
    const own = record.policies[name];
    if (own?.state === 'running' || own?.requestedAt !== undefined) return true;
    const next = nextRun(document, record, name, now);
    return next !== undefined && next <= now;
  });
}
