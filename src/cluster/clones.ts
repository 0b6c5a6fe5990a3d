/**
 * Nodes that show the machine-id or the product UUID of another: their machines were made from one image, or from one
 * virtual machine, without being told apart. DHCP, the network of pods and storage mix such nodes up without a word, and
 * kubeadm's preflight does not look. It is reported and nothing is done: which of them is right nobody can know.
 */
import type { ProblemDetails } from '../contract/errors.ts';
import type { KubeNode, KubeView } from './observed.ts';
import { problem } from './plan-node.ts';

const FIELDS = [
  {
    field: 'machineId',
    title: 'machine-id',
    fix: 'Empty /etc/machine-id in the image, so that each machine makes its own at its first boot, then replace all but one of these nodes.',
  },
  {
    field: 'systemUuid',
    title: 'product UUID',
    fix: 'Give each machine a UUID of its own in its firmware, or in the definition of the virtual machine, commission it again, then replace all but one of these nodes.',
  },
] as const;
/** Names of others in one report. */
const NAMED = 5;

/** Node name -> what it shares with which others. A Node whose kubelet is silent may be what a machine has left behind. */
export function clones(kube: KubeView): ReadonlyMap<string, ProblemDetails> {
  const found = new Map<string, ProblemDetails>();
  const speaking = kube.kind === 'reachable' ? kube.nodes.filter(({ silent }) => !silent) : [];
  for (const { field, title, fix } of FIELDS)
    for (const twins of groups(speaking, field))
      for (const name of twins) {
        if (found.has(name)) continue;
        const others = twins.filter((other) => other !== name);
        const named = others.slice(0, NAMED).join(', ');
        const more = others.length > NAMED ? ` and ${others.length - NAMED} more` : '';
        const message = `${name} has the same ${title} as ${named}${more}`;
        // Not all of them in each: hundreds of nodes from one image would fill the status with each other's names.
        const nodes = [name, ...others.slice(0, NAMED)].sort();
        const details = { field: title, nodes, count: twins.length };
        found.set(name, { ...problem('MACHINE_CLONED', message, details), fix });
      }
  return found;
}

function groups(nodes: readonly KubeNode[], field: 'machineId' | 'systemUuid'): string[][] {
  const byValue = new Map<string, string[]>();
  for (const node of nodes) {
    const value = node[field]?.trim().toLowerCase() ?? '';
    if (value !== '') byValue.set(value, [...(byValue.get(value) ?? []), node.name]);
  }
  return [...byValue.values()].filter(({ length }) => length > 1);
}
