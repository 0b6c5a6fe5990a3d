/**
 * Alarms of etcd, in words. They stand until somebody disarms them; the gateway only reads them: a database that is
 * full needs a decision about what goes, and one whose copies differ a decision about which copy is right.
 */
export interface EtcdAlarm {
  /** uint64 as decimal text. */
  readonly memberId: string;
  /** Name of the member; empty for one that is not there any more. */
  readonly member: string;
  /** `NOSPACE` or `CORRUPT` */
  readonly alarm: string;
}

const WHERE = 'in a pod etcd-<node> of kube-system';
const KNOWN: Readonly<Record<string, { readonly cause: string; readonly fix: string }>> = {
  CORRUPT: {
    cause: 'its copy of the data differs from that of others',
    fix: `find the copy that is wrong ("etcdctl endpoint hashkv --cluster" ${WHERE}), take that member out by hand or restore a snapshot, and only then "etcdctl alarm disarm"`,
  },
  NOSPACE: {
    cause: 'the database has reached its quota and takes no writes',
    fix: `"etcdctl compact <revision>" and "etcdctl defrag" ${WHERE}, or a larger --quota-backend-bytes in /etc/kubernetes/manifests/etcd.yaml, then "etcdctl alarm disarm"`,
  },
};

/** `CORRUPT on cp-2: ...`; the worst first. Undefined while there is none. */
export function describeAlarms(alarms: readonly EtcdAlarm[]): string | undefined {
  const worst = worstOf(alarms);
  if (worst === undefined) return undefined;
  const members = alarms
    .filter(({ alarm }) => alarm === worst)
    .map(({ member, memberId }) => member || memberId);
  const cause = KNOWN[worst]?.cause ?? 'etcd does not work as it should';
  return `etcd alarm ${worst} on ${members.sort().join(', ')}: ${cause}`;
}

/** What a person does about the worst of them. */
export function alarmFix(alarms: readonly EtcdAlarm[]): string {
  return KNOWN[worstOf(alarms) ?? '']?.fix ?? `Look at "etcdctl alarm list" ${WHERE}`;
}

function worstOf(alarms: readonly EtcdAlarm[]): string | undefined {
  const raised = new Set(alarms.map(({ alarm }) => alarm));
  return Object.keys(KNOWN).find((alarm) => raised.has(alarm)) ?? alarms[0]?.alarm;
}
