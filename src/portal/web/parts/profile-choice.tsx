/** Which profile, what it is made of, and its parameters. */
import type { Profile } from '../../../contract/profile.ts';
import { profiles } from '../state.ts';
import type { TypedValues } from './draft.ts';
import { SelectField, TextField } from './fields.tsx';

export function ProfileChoice({
  profile,
  values,
  errorOf,
  onChange,
}: {
  profile: string;
  values: TypedValues;
  errorOf: (field: string) => string | undefined;
  onChange: (profile: string, values: TypedValues) => void;
}) {
  const chosen = profiles.value?.find(({ id }) => id === profile);
  return (
    <>
      <SelectField
        label="Profile"
        value={profile}
        error={errorOf('spec.profile')}
        options={(profiles.value ?? []).map(({ id, name, revision }) => [
          id,
          `${name}, revision ${revision}`,
        ])}
        onChange={(id) => onChange(id, {})}
      />
      {chosen ? (
        <>
          <p class="sub">{chosen.description}</p>
          <Layers profile={chosen} />
          {chosen.packs.map((pack) =>
            'parameters' in pack && asked(pack.parameters).length > 0 ? (
              <fieldset key={pack.name}>
                <legend>Parameters of {pack.name}</legend>
                <div class="grid2">
                  {asked(pack.parameters).map((parameter) => (
                    <TextField
                      key={parameter.name}
                      label={parameter.name}
                      hint={`${parameter.description || parameter.type}${parameter.default === undefined ? '' : `; default ${parameter.default}`}`}
                      error={errorOf(`spec.packValues.${pack.name}.${parameter.name}`)}
                      value={values[pack.name]?.[parameter.name] ?? ''}
                      onInput={(value) =>
                        onChange(profile, {
                          ...values,
                          [pack.name]: { ...values[pack.name], [parameter.name]: value },
                        })
                      }
                    />
                  ))}
                </div>
              </fieldset>
            ) : null,
          )}
        </>
      ) : null}
    </>
  );
}

export function Layers({ profile }: { profile: Profile }) {
  return (
    <ol class="layers">
      {profile.packs.map((pack) => (
        <li key={pack.name}>
          <span class="layer">{pack.layer}</span>
          <strong>{pack.name}</strong> {pack.layer === 'kubernetes' ? pack.kubernetesVersion : pack.version}
          {pack.layer === 'os' ? <span class="sub"> · {pack.image}</span> : null}
        </li>
      ))}
    </ol>
  );
}

/** The cluster fills these with its own values. The contract's list would bring its validator into the page. */
const FILLED = ['podCidr', 'serviceCidr', 'endpointHost', 'endpointPort', 'clusterName'];
function asked<T extends { name: string }>(parameters: readonly T[]): T[] {
  return parameters.filter(({ name }) => !FILLED.includes(name));
}
