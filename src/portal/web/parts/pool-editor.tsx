/** One pool of the wizard, with what the site says about it. */
import type { Inventory, PlacementReport } from '../../../contract/api.ts';
import { SelectField, TextField } from './fields.tsx';
import type { DraftPool } from './draft.ts';
import { Icon } from './icons.tsx';
import { Verdict } from './placement.tsx';

export function PoolEditor({
  pool,
  index,
  inventory,
  placement,
  errorOf,
  nameFixed = false,
  onChange,
  onRemove,
}: {
  pool: DraftPool;
  index: number;
  inventory: Inventory | undefined;
  placement: PlacementReport['pools'][number] | undefined;
  errorOf: (field: string) => string | undefined;
  /** A pool that has machines keeps its name. */
  nameFixed?: boolean;
  onChange: (pool: DraftPool) => void;
  onRemove: (() => void) | undefined;
}) {
  const set = (changes: Partial<DraftPool>) => onChange({ ...pool, ...changes });
  const at = `spec.pools[${index}]`;
  return (
    <fieldset class="card pool">
      <legend>{pool.role === 'control-plane' ? 'Control-plane pool' : 'Worker pool'}</legend>
      <div class="grid3">
        {nameFixed ? (
          <div class="field">
            <span class="label">Pool name</span>
            <strong>{pool.name}</strong>
          </div>
        ) : (
          <TextField
            label="Pool name"
            value={pool.name}
            error={errorOf(`${at}.name`)}
            required
            onInput={(name) => set({ name: name.trim().toLowerCase() })}
          />
        )}
        {pool.role === 'control-plane' ? (
          <SelectField
            label="Size"
            hint="Odd, so that a majority exists"
            value={pool.size}
            error={errorOf(`${at}.size`)}
            options={[['1'], ['3'], ['5']]}
            onChange={(size) => set({ size })}
          />
        ) : (
          <TextField
            label="Size"
            type="number"
            value={pool.size}
            error={errorOf(`${at}.size`)}
            onInput={(size) => set({ size })}
          />
        )}
        <SelectField
          label="Resource pool"
          value={pool.resourcePool}
          error={errorOf(`${at}.placement.resourcePool`)}
          options={withPresent(
            (inventory?.pools ?? []).map(({ name, ready }) => [name, `${name} (${ready} ready)`] as const),
            pool.resourcePool,
          )}
          onChange={(resourcePool) => set({ resourcePool })}
        />
        <TextField
          label="CPUs, at least"
          type="number"
          value={pool.minCpu}
          error={errorOf(`${at}.placement.minCpu`)}
          onInput={(minCpu) => set({ minCpu })}
        />
        <TextField
          label="Memory, at least (MiB)"
          type="number"
          value={pool.minMemoryMiB}
          error={errorOf(`${at}.placement.minMemoryMiB`)}
          onInput={(minMemoryMiB) => set({ minMemoryMiB })}
        />
        <TextField
          label="Disk, at least (GB)"
          type="number"
          value={pool.minDiskGb}
          error={errorOf(`${at}.placement.minDiskGb`)}
          onInput={(minDiskGb) => set({ minDiskGb })}
        />
      </div>
      <fieldset class="inline">
        <legend>Availability zones (none: any; several: spread evenly)</legend>
        {inventory?.zones.map((zone) => (
          <label key={zone.name} class="check">
            <input
              type="checkbox"
              checked={pool.zones.includes(zone.name)}
              onChange={(event) =>
                set({
                  zones: event.currentTarget.checked
                    ? [...pool.zones, zone.name]
                    : pool.zones.filter((name) => name !== zone.name),
                })
              }
            />
            {zone.name} <span class="sub">{zone.ready} ready</span>
          </label>
        ))}
      </fieldset>
      <div class="line between">
        <label class="check">
          <input
            type="checkbox"
            checked={pool.rollout === 'expand-first'}
            onChange={(event) =>
              set({ rollout: event.currentTarget.checked ? 'expand-first' : 'contract-first' })
            }
          />
          Expand first: start the new node before the old one goes (needs a spare machine)
        </label>
        {pool.role === 'control-plane' ? (
          <label class="check">
            <input
              type="checkbox"
              checked={pool.allowWorkers}
              onChange={(event) => set({ allowWorkers: event.currentTarget.checked })}
            />
            Allow worker capability
          </label>
        ) : null}
        {onRemove ? (
          <button type="button" class="button small danger" onClick={onRemove}>
            <Icon name="trash" /> Remove pool
          </button>
        ) : null}
      </div>
      {placement ? <Verdict pool={placement} /> : null}
    </fieldset>
  );
}

/** What is set now is a choice too, also when the site does not list it or was not asked yet. */
function withPresent<T extends readonly [string, string?]>(
  options: readonly T[],
  present: string,
): readonly (readonly [string, string?])[] {
  return options.some(([value]) => value === present) ? options : [[present], ...options];
}
