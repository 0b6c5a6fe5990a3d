/** The wizard's steps besides the pools: what the cluster is made of, where, how it is set up, and the review. */
import type { Inventory } from '../../../contract/api.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { plural } from '../format.ts';
import { accounts, profiles } from '../state.ts';
import { Field, Loading, ProblemBox, TextField } from './basics.tsx';
import type { Draft } from './draft.ts';

export interface StepProps {
  draft: Draft;
  change: (changes: Partial<Draft>) => void;
  errorOf: (field: string) => string | undefined;
}

export function ProfileStep({ draft, change, errorOf }: StepProps) {
  const profile = profiles.value?.find(({ id }) => id === draft.profile);
  return (
    <section class="card">
      <div class="grid2">
        <TextField
          label="Name"
          hint="Lower-case letters, digits and hyphens, up to 40"
          value={draft.name}
          error={errorOf('spec.name')}
          required
          autofocus
          onInput={(name) => change({ name: name.trim().toLowerCase() })}
        />
        <TextField
          label="Tags"
          hint="Separated by commas"
          value={draft.tags}
          onInput={(tags) => change({ tags })}
        />
      </div>
      <TextField
        label="Description"
        value={draft.description}
        onInput={(description) => change({ description })}
      />
      <Field label="Profile" error={errorOf('spec.profile')}>
        {({ id, describedBy }) => (
          <select
            id={id}
            aria-describedby={describedBy}
            value={draft.profile}
            onChange={(event) => change({ profile: event.currentTarget.value, packValues: {} })}
          >
            {profiles.value?.map((other) => (
              <option key={other.id} value={other.id}>
                {other.name}
              </option>
            ))}
          </select>
        )}
      </Field>
      {profile ? (
        <>
          <p class="sub">{profile.description}</p>
          <ol class="layers">
            {profile.packs.map((pack) => (
              <li key={pack.name}>
                <span class="layer">{pack.layer}</span>
                <strong>{pack.name}</strong>{' '}
                {pack.layer === 'kubernetes' ? pack.kubernetesVersion : pack.version}
              </li>
            ))}
          </ol>
          {profile.packs.map((pack) =>
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
                      value={draft.packValues[pack.name]?.[parameter.name] ?? ''}
                      onInput={(value) =>
                        change({
                          packValues: {
                            ...draft.packValues,
                            [pack.name]: { ...draft.packValues[pack.name], [parameter.name]: value },
                          },
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
    </section>
  );
}

export function SiteStep({
  draft,
  change,
  inventory,
  problem,
}: Omit<StepProps, 'errorOf'> & { inventory: Inventory | undefined; problem: ProblemDetails | undefined }) {
  return (
    <section class="card">
      <Field label="Cloud account">
        {({ id, describedBy }) => (
          <select
            id={id}
            aria-describedby={describedBy}
            value={draft.cloudAccount}
            onChange={(event) => change({ cloudAccount: event.currentTarget.value })}
          >
            {accounts.value
              ?.filter(({ enabled }) => enabled)
              .map((account) => (
                <option key={account.id} value={account.id}>
                  {account.name} ({account.endpoint})
                </option>
              ))}
          </select>
        )}
      </Field>
      {problem ? (
        <ProblemBox problem={problem} title="The site cannot be asked now" />
      ) : inventory ? (
        <>
          <Field label="Domain" hint="Machines get names in it; they must resolve where the gateway runs.">
            {({ id, describedBy }) => (
              <select
                id={id}
                aria-describedby={describedBy}
                value={draft.domain}
                onChange={(event) => change({ domain: event.currentTarget.value })}
              >
                {inventory.domains.map((domain) => (
                  <option key={domain.name} value={domain.name}>
                    {domain.name}
                    {domain.isDefault ? ' (default)' : ''}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <h3>What the site has now</h3>
          <div class="stock">
            {inventory.zones.map((zone) => (
              <span key={zone.name} class="tag">
                zone {zone.name}: {zone.ready} ready
              </span>
            ))}
            {inventory.pools.map((pool) => (
              <span key={pool.name} class="tag">
                pool {pool.name}: {pool.ready} ready
              </span>
            ))}
            {inventory.subnets.map((subnet) => (
              <span key={subnet.id} class="tag">
                {subnet.cidr}: {subnet.available} free
              </span>
            ))}
          </div>
        </>
      ) : (
        <Loading />
      )}
    </section>
  );
}

const ROLLING = [
  { value: 'never', label: 'Never' },
  { value: '0 3 * * 0', label: 'Sundays at 03:00' },
  { value: '0 3 * * *', label: 'Every day at 03:00' },
];

export function SettingsStep({
  draft,
  change,
  errorOf,
  inventory,
}: StepProps & { inventory: Inventory | undefined }) {
  return (
    <>
      <section class="card">
        <h2>Network</h2>
        <div class="grid2">
          <TextField
            label="Pod range"
            hint={
              inventory?.freeCidr
                ? `Must overlap no MAAS subnet; free here: ${inventory.freeCidr}`
                : 'Must overlap no MAAS subnet'
            }
            value={draft.podCidr}
            error={errorOf('spec.network.podCidr')}
            onInput={(podCidr) => change({ podCidr })}
          />
          <TextField
            label="Service range"
            value={draft.serviceCidr}
            error={errorOf('spec.network.serviceCidr')}
            onInput={(serviceCidr) => change({ serviceCidr })}
          />
          <TextField
            label="Endpoint address"
            hint="Empty: the first free address of the subnet is reserved. It cannot change later."
            value={draft.endpointAddress}
            error={errorOf('spec.network.endpoint.address')}
            onInput={(endpointAddress) => change({ endpointAddress })}
          />
        </div>
      </section>
      <section class="card">
        <h2>Nodes</h2>
        <div class="grid2">
          <TextField
            label="HTTPS proxy"
            value={draft.httpsProxy}
            onInput={(httpsProxy) => change({ httpsProxy })}
          />
          <TextField
            label="HTTP proxy"
            value={draft.httpProxy}
            onInput={(httpProxy) => change({ httpProxy })}
          />
        </div>
        <TextField
          label="SSH public key"
          hint="Optional; for people who repair machines"
          value={draft.sshKey}
          onInput={(sshKey) => change({ sshKey })}
        />
      </section>
      <section class="card">
        <h2>Policies</h2>
        <div class="grid2">
          {(['patching', 'backup', 'cis'] as const).map((policy) => (
            <Field
              key={policy}
              label={{ patching: 'OS patching', backup: 'Backups', cis: 'CIS scan' }[policy]}
            >
              {({ id, describedBy }) => (
                <select
                  id={id}
                  aria-describedby={describedBy}
                  value={draft.schedules[policy]}
                  onChange={(event) =>
                    change({ schedules: { ...draft.schedules, [policy]: event.currentTarget.value } })
                  }
                >
                  {ROLLING.map((option) => (
                    <option key={option.value} value={option.value}>
                      {option.label}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          ))}
        </div>
        <p class="sub">All of these can be changed later.</p>
      </section>
    </>
  );
}

export function Review({ draft }: { draft: Draft }) {
  const profile = profiles.value?.find(({ id }) => id === draft.profile);
  const account = accounts.value?.find(({ id }) => id === draft.cloudAccount);
  return (
    <section class="card">
      <h2>{draft.name}</h2>
      <dl class="rows">
        <div>
          <dt>Profile</dt>
          <dd>{profile?.name}</dd>
        </div>
        <div>
          <dt>Cloud account</dt>
          <dd>
            {account?.name}, domain {draft.domain}
          </dd>
        </div>
        {draft.pools.map((pool) => (
          <div key={pool.name}>
            <dt>Pool {pool.name}</dt>
            <dd>
              {plural(Number(pool.size), pool.role === 'worker' ? 'worker' : 'control-plane node')} in pool{' '}
              {pool.resourcePool}
              {pool.zones.length > 0 ? `, zones ${pool.zones.join(', ')}` : ', any zone'}; at least{' '}
              {pool.minCpu} CPU, {pool.minMemoryMiB} MiB, {pool.minDiskGb} GB;{' '}
              {pool.rollout === 'expand-first' ? 'Expand first' : 'Contract first'}
            </dd>
          </div>
        ))}
        <div>
          <dt>Network</dt>
          <dd>
            pods {draft.podCidr}, services {draft.serviceCidr}, endpoint{' '}
            {draft.endpointAddress || 'first free address'}
          </dd>
        </div>
      </dl>
    </section>
  );
}

/** The portal fills these with the cluster's own values. */
const FILLED = ['podCidr', 'serviceCidr', 'clusterName'];
function asked<T extends { name: string }>(parameters: readonly T[]): T[] {
  return parameters.filter(({ name }) => !FILLED.includes(name));
}
