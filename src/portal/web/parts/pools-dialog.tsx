/** Scale, add and remove pools of a living cluster; only what grows asks the site for machines. */
import { useSignal } from '@preact/signals';
import { plural } from '../format.ts';
import { ProblemBox } from './basics.tsx';
import { ChangeDialog, type ChangeProps } from './change-dialog.tsx';
import { anotherPool, type DraftPool, fromPool, toPool } from './draft.ts';
import { Icon } from './icons.tsx';
import { Placement } from './placement.tsx';
import { PoolEditor } from './pool-editor.tsx';
import { useInventory, usePlacement } from './site-questions.ts';

export function PoolsDialog(props: ChangeProps) {
  const { spec } = props.cluster;
  const pools = useSignal<readonly DraftPool[]>(spec.pools.map(fromPool));
  const site = useInventory(spec.cloudAccount);
  const growing = pools.value.flatMap((pool) => {
    const more = Number(pool.size) - (pool.from?.size ?? 0);
    // Machines that are there already are not looked for; a control plane may grow by two.
    return more > 0 ? [{ ...toPool(pool), role: 'worker', allowWorkers: undefined, size: more }] : [];
  });
  const placement = usePlacement(
    spec.cloudAccount,
    growing.length === 0 ? undefined : { pools: growing, network: spec.network, domain: spec.domain },
  );
  const leaving = spec.pools.reduce((sum, before) => {
    const after = pools.value.find(({ from }) => from?.name === before.name);
    return sum + Math.max(0, before.size - Number(after?.size ?? 0));
  }, 0);
  return (
    <ChangeDialog
      {...props}
      wide
      title={`Pools of ${spec.name}`}
      verb={leaving > 0 ? `Save and release ${plural(leaving, 'machine')}` : 'Save'}
      missing={pools.value.some(({ name }) => name === '') ? 'Every pool needs a name' : undefined}
      wanted={() => ({ ...spec, pools: pools.value.map(toPool) })}
    >
      {(errorOf) => (
        <div class="wizard-body">
          {pools.value.map((pool, index) => (
            <PoolEditor
              key={index}
              pool={pool}
              index={index}
              inventory={site.value}
              placement={placement.value?.pools.find((other) => other.pool === pool.name)}
              errorOf={errorOf}
              nameFixed={pool.from !== undefined}
              onChange={(next) => {
                pools.value = pools.value.with(index, next);
              }}
              onRemove={
                pool.role === 'worker'
                  ? () => {
                      pools.value = pools.value.toSpliced(index, 1);
                    }
                  : undefined
              }
            />
          ))}
          <button
            type="button"
            class="button"
            onClick={() => {
              pools.value = [...pools.value, anotherPool(pools.value)];
            }}
          >
            <Icon name="plus" /> Add worker pool
          </button>
          {leaving > 0 ? (
            <p class="warn-text">
              <Icon name="warn" /> {plural(leaving, 'machine')} will be drained, given back to MAAS and erased
              as the policy says.
            </p>
          ) : null}
          {placement.problem ? (
            <ProblemBox problem={placement.problem} title="Placement could not be checked" />
          ) : growing.length > 0 ? (
            <Placement report={placement.value} />
          ) : null}
        </div>
      )}
    </ChangeDialog>
  );
}
