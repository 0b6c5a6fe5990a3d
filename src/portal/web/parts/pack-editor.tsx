/** One pack of a profile: version, and what its layer needs. */
import { CheckField, SelectField, TextArea, TextField } from './fields.tsx';
import { Icon } from './icons.tsx';
import type { DraftPack, DraftParameter } from './profile-draft.ts';

const LAYERS = {
  os: 'Operating system',
  kubernetes: 'Kubernetes',
  cni: 'Network',
  addon: 'Add-on',
} as const;

export function PackEditor({
  pack,
  at,
  errorOf,
  onChange,
  onRemove,
}: {
  pack: DraftPack;
  /** `packs[2]` */
  at: string;
  errorOf: (field: string) => string | undefined;
  onChange: (pack: DraftPack) => void;
  onRemove: (() => void) | undefined;
}) {
  const set = (changes: Partial<DraftPack>) => onChange({ ...pack, ...changes });
  return (
    <fieldset class="card">
      <legend>{LAYERS[pack.layer]}</legend>
      <div class="grid3">
        <TextField
          label="Pack"
          value={pack.name}
          error={errorOf(`${at}.name`)}
          required
          onInput={(name) => set({ name })}
        />
        <TextField
          label="Version"
          value={pack.version}
          error={errorOf(`${at}.version`)}
          required
          onInput={(version) => set({ version })}
        />
        {pack.layer === 'os' ? (
          <>
            <TextField
              label="MAAS image"
              hint="ubuntu/noble or custom/my-image"
              value={pack.image}
              error={errorOf(`${at}.image`)}
              required
              onInput={(image) => set({ image })}
            />
            <SelectField
              label="Packages"
              value={pack.variant}
              options={[
                ['stock', 'installed at first boot'],
                ['prebaked', 'in the image'],
              ]}
              onChange={(variant) => set({ variant: variant as DraftPack['variant'] })}
            />
          </>
        ) : null}
        {pack.layer === 'kubernetes' ? (
          <TextField
            label="Kubernetes version"
            hint="One minor version at a time, never back"
            value={pack.kubernetesVersion}
            error={errorOf(`${at}.kubernetesVersion`)}
            required
            onInput={(kubernetesVersion) => set({ kubernetesVersion })}
          />
        ) : null}
        {pack.layer === 'cni' ? (
          <SelectField
            label="Flavour"
            value={pack.flavor}
            error={errorOf(`${at}.flavor`)}
            options={[['flannel'], ['calico'], ['cilium'], ['custom']]}
            onChange={(flavor) => set({ flavor: flavor as DraftPack['flavor'] })}
          />
        ) : null}
      </div>
      {pack.layer === 'kubernetes' ? (
        <div class="grid2">
          <TextArea
            label="API server arguments"
            hint="name=value, one a line"
            value={pack.apiServerArgs}
            error={errorOf(`${at}.apiServerArgs`)}
            onInput={(apiServerArgs) => set({ apiServerArgs })}
          />
          <TextArea
            label="kubelet arguments"
            hint="name=value, one a line"
            value={pack.kubeletArgs}
            error={errorOf(`${at}.kubeletArgs`)}
            onInput={(kubeletArgs) => set({ kubeletArgs })}
          />
        </div>
      ) : null}
      {pack.layer === 'cni' || pack.layer === 'addon' ? (
        <>
          <TextArea
            label="Manifests"
            hint="YAML, several documents; ${name} is replaced by a parameter's value"
            rows={12}
            value={pack.manifests}
            error={errorOf(`${at}.manifests`)}
            onInput={(manifests) => set({ manifests })}
          />
          {pack.parameters.map((parameter, index) => (
            <Parameter
              key={index}
              parameter={parameter}
              at={`${at}.parameters[${index}]`}
              errorOf={errorOf}
              onChange={(next) => set({ parameters: pack.parameters.with(index, next) })}
              onRemove={() => set({ parameters: pack.parameters.toSpliced(index, 1) })}
            />
          ))}
          <div class="line between">
            <button
              type="button"
              class="button small"
              onClick={() =>
                set({
                  parameters: [
                    ...pack.parameters,
                    { name: '', type: 'string', description: '', default: '', required: false },
                  ],
                })
              }
            >
              <Icon name="plus" /> Add parameter
            </button>
            {onRemove ? (
              <button type="button" class="button small danger" onClick={onRemove}>
                <Icon name="trash" /> Remove {pack.name}
              </button>
            ) : null}
          </div>
        </>
      ) : null}
    </fieldset>
  );
}

function Parameter({
  parameter,
  at,
  errorOf,
  onChange,
  onRemove,
}: {
  parameter: DraftParameter;
  at: string;
  errorOf: (field: string) => string | undefined;
  onChange: (parameter: DraftParameter) => void;
  onRemove: () => void;
}) {
  const set = (changes: Partial<DraftParameter>) => onChange({ ...parameter, ...changes });
  return (
    <fieldset>
      <legend>Parameter {parameter.name}</legend>
      <div class="grid3">
        <TextField
          label="Name"
          value={parameter.name}
          error={errorOf(`${at}.name`)}
          required
          onInput={(name) => set({ name })}
        />
        <SelectField
          label="Type"
          value={parameter.type}
          options={[['string'], ['integer'], ['boolean'], ['cidr']]}
          onChange={(type) => set({ type: type as DraftParameter['type'] })}
        />
        <TextField
          label="Default"
          value={parameter.default}
          error={errorOf(`${at}.default`)}
          onInput={(text) => set({ default: text })}
        />
      </div>
      <TextField
        label="Description"
        value={parameter.description}
        onInput={(description) => set({ description })}
      />
      <div class="line between">
        <CheckField
          label="Must be given"
          checked={parameter.required}
          onChange={(required) => set({ required })}
        />
        <button
          type="button"
          class="button small danger"
          aria-label={`Remove parameter ${parameter.name}`}
          onClick={onRemove}
        >
          <Icon name="trash" /> Remove
        </button>
      </div>
    </fieldset>
  );
}
