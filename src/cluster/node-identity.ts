/** Names by which a Kubernetes node and its MAAS machine are recognised as one. */

/** Labels of our own; `.internal` is reserved for private use, so no stranger's labels can collide. */
export const LABEL_CLUSTER = 'pcg.internal/cluster';
export const LABEL_POOL = 'pcg.internal/pool';

/** `maas:///<zone>/<system_id>`: empty authority, two path parts. Immutable on a Node once set. */
export function providerId(zone: string, systemId: string): string {
  return `maas:///${encodeURIComponent(zone)}/${systemId}`;
}
