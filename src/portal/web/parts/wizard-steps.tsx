/** The wizard's steps besides the pools: what the cluster is made of, where, how it is set up, and the review. */
import type { Inventory } from '../../../contract/api.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { plural } from '../format.ts';
import { accounts, profiles } from '../state.ts';
import { Loading, ProblemBox } from './basics.tsx';
import type { Draft } from './draft.ts';
import { SelectField, TextField } from './fields.tsx';
import { ProfileChoice } from './profile-choice.tsx';
import { ScheduleField } from './schedule-field.tsx';
import { Stock } from './stock.tsx';

export interface StepProps {
  draft: Draft;
  change: (changes: Partial<Draft>) => void;
  errorOf: (field: string) => string | undefined;
}

export function ProfileStep({ draft, change, errorOf }: StepProps) {
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
      <ProfileChoice
        profile={draft.profile}
        values={draft.packValues}
        errorOf={errorOf}
        onChange={(chosen, packValues) => change({ profile: chosen, packValues })}
      />
    </section>
  );
}

export function SiteStep({
  draft,
  change,
  errorOf,
  inventory,
  problem,
}: StepProps & { inventory: Inventory | undefined; problem: ProblemDetails | undefined }) {
  return (
    <section class="card">
      <SelectField
        label="Cloud account"
        value={draft.cloudAccount}
        error={errorOf('spec.cloudAccount')}
        options={(accounts.value ?? [])
          .filter(({ enabled }) => enabled)
          .map(({ id, name, endpoint }) => [id, `${name} (${endpoint})`])}
        onChange={(cloudAccount) => change({ cloudAccount })}
      />
      {problem ? (
        <ProblemBox problem={problem} title="The site cannot be asked now" />
      ) : inventory ? (
        <>
          <SelectField
            label="Domain"
            hint="Machines get names in it; they must resolve where the gateway runs."
            value={draft.domain}
            error={errorOf('spec.domain')}
            options={inventory.domains.map(({ name, isDefault }) => [
              name,
              isDefault ? `${name} (default)` : name,
            ])}
            onChange={(domain) => change({ domain })}
          />
          <h3>What the site has now</h3>
          <Stock inventory={inventory} />
        </>
      ) : (
        <Loading />
      )}
    </section>
  );
}

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
            <ScheduleField
              key={policy}
              label={{ patching: 'OS patching', backup: 'Backups', cis: 'CIS scan' }[policy]}
              value={draft.schedules[policy]}
              error={errorOf(
                `spec.policies.${{ patching: 'patching.schedule', backup: 'backups.schedule', cis: 'scans.cis' }[policy]}`,
              )}
              onChange={(schedule) => change({ schedules: { ...draft.schedules, [policy]: schedule } })}
            />
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
