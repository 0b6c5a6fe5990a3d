/** What every part of the portal shares. Built once in server.ts and passed down; there are no globals. */
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Identity } from '../tunnel/identity.ts';
import type { Auth } from './auth.ts';
import type { Changes } from './changes.ts';
import type { PortalLimits } from './limits.ts';
import type { KubeAccess } from './kube-listener.ts';
import type { GatewayLinks } from './links.ts';
import type { PortalMetrics } from './metrics.ts';
import type { PortalDb } from './store/schema.ts';

export interface Portal {
  readonly db: PortalDb;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: PortalLimits;
  readonly changes: Changes;
  readonly links: GatewayLinks;
  readonly auth: Auth;
  readonly identity: Identity;
  readonly metrics: PortalMetrics;
  /** The address was configured; otherwise it is only where the listener is. */
  readonly knowsItsUrl: boolean;
  /** As users and gateways reach it, without a trailing slash. */
  readonly publicUrl: string;
  /** Where a kubeconfig points that was asked for at `Host: host`. */
  readonly kubeAccess: (host: string) => KubeAccess;
  /** Where gateways dial. */
  readonly tunnelUrl: string;
}
