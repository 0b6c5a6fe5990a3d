/**
 * One machine's cloud-config: everything that turns a freshly installed Ubuntu into a Kubernetes node.
 * Pure: same input, same text. All file contents travel as base64, so no quoting and no template header can
 * change them. The last runcmd entry is the bootstrap script, whose exit code becomes cloud-init's verdict.
 * Workers get a bootstrap token and the CA's hash and no private key of the cluster.
 */
import type { ClusterSpec, NodeSettings } from '../contract/cluster.ts';
import type { ResolvedProfile } from '../contract/profile.ts';
import type { ClusterPki } from '../kube/pki.ts';

/** What the gateway's site gives to every node; `spec.nodes` is merged over it. */
export interface SiteSettings extends Partial<NodeSettings> {
  /** Host of the MAAS endpoint, for NO_PROXY. */
  readonly maasHost?: string;
  /** Networks of the machines (MAAS subnets), for NO_PROXY. */
  readonly nodeCidrs?: readonly string[];
}

export interface NodeInput {
  readonly kind: 'init' | 'join-control-plane' | 'worker';
  readonly cluster: { readonly id: string; readonly name: string };
  readonly spec: ClusterSpec;
  readonly profile: ResolvedProfile;
  /** `vip`: host is an address that kube-vip holds. */
  readonly endpoint: { readonly host: string; readonly port: number; readonly vip: boolean };
  readonly node: {
    readonly name: string;
    readonly hostname: string;
    readonly systemId: string;
    readonly zone: string;
    readonly pool: string;
    readonly role: 'control-plane' | 'worker';
  };
  /** Control-plane kinds only. */
  readonly pki?: ClusterPki;
  /** `sha256:<hex>` */
  readonly caHash: string;
  readonly token: { readonly id: string; readonly secret: string };
  readonly site: SiteSettings;
}

/** Text that starts with `#cloud-config\n`. Throws PcgError INVALID_INPUT when the input contradicts itself. */
export function renderUserData(input: NodeInput): string {
  throw new Error(`not rendered yet: ${input.kind}`);
}
