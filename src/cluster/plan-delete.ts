/**
 * Delete and abort: give everything back that carries our stamp, machines in parallel, then the endpoint,
 * then forget. No drain, no etcd removal: the whole cluster goes. Force delete spends one short round on MAAS.
 */
import { planDoubts } from './doubts.ts';
import type { Scene } from './plan.ts';
import type { Step } from './steps.ts';

export function planDelete({ document, record, nodes }: Scene): Step[] {
  const intent = document.intent;
  if (record.stage.kind !== 'deleting') {
    const reason =
      intent.kind === 'delete' ? intent.reason : intent.kind === 'force-delete' ? 'force' : 'delete';
    return [{ kind: 'begin-delete', reason }];
  }
  if (intent.kind === 'force-delete') return [{ kind: 'force-delete' }];
  const steps: Step[] = nodes.flatMap(({ node, situation }): Step[] => {
    if (situation.kind === 'unclaimed' || situation.kind === 'released') return [];
    if (situation.kind === 'claiming') return [{ kind: 'settle-claim', node: node.name }];
    // Whatever the machine is now: the executor asks MAAS whose it is before it touches it.
    return [{ kind: 'release', node: node.name }];
  });
  const doubts = planDoubts(record);
  if (steps.length > 0) return [...steps, ...doubts];
  if (record.endpoint.kind !== 'none' && record.endpoint.kind !== 'released')
    return [{ kind: 'release-endpoint' }, ...doubts];
  // MAAS may still carry out an allocation whose answer was lost: nobody would look for it after the end.
  if (doubts.length > 0) return doubts;
  // Whatever a lost record, a lost reply or a person left under this cluster's stamp goes too.
  if (record.strayCheckedAt === undefined) return [{ kind: 'release-strays' }];
  return [{ kind: 'finish-delete' }];
}
