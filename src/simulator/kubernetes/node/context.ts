/** One booted machine in the middle of its bootstrap: what lies on its disk and what it may do. */
import type { BootedMachine, MachineConsole } from '../../ports.ts';
import type { NodeFile } from './cloud-config.ts';
import type { SimCluster, Site } from './cluster.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Kubelet } from './kubelet.ts';

export interface NodeContext {
  readonly site: Site;
  readonly machine: BootedMachine;
  readonly console: MachineConsole;
  readonly files: Map<string, NodeFile>;
  /** Ends when the machine stops. */
  readonly signal: AbortSignal;
  /** Version of the installed kubeadm and kubelet, `v1.36.1`. */
  readonly version: string;
  /** Clusters of this site, by whoever serves them. */
  readonly clusters: Set<SimCluster>;
  /** Takes over what must end with the machine. */
  own(part: { readonly control?: ControlPlane; readonly kubelet?: Kubelet }): void;
  /** Starts work that runs as long as the machine; its failure is logged. */
  background(name: string, work: (signal: AbortSignal) => Promise<void>): void;
}

export const minorOf = (version: string): number => Number(/^v?\d+\.(\d+)/.exec(version)?.[1] ?? 0);

/** Writes a file as a program on the machine does. */
export function writeFile(context: NodeContext, path: string, content: string, mode = 0o600): void {
  context.files.set(path, { content, mode, owner: 'root:root' });
}
