/**
 * The wizard: profile, account and domain, pools with live placement, network and policies, review. The
 * draft is the specification itself; what is checked here is what the API checks again.
 */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Cluster } from '../../../contract/cluster.ts';
import { api } from '../api.ts';
import { Empty, Loading, PageHead, ProblemBox } from '../parts/basics.tsx';
import { Icon } from '../parts/icons.tsx';
import { anotherPool, type Draft, DRAFT, toSpec } from '../parts/draft.ts';
import { Placement } from '../parts/placement.tsx';
import { PoolEditor } from '../parts/pool-editor.tsx';
import { ProfileStep, Review, SettingsStep, SiteStep } from '../parts/wizard-steps.tsx';
import { useInventory, usePlacement } from '../parts/site-questions.ts';
import { useTask } from '../parts/task.ts';
import { go } from '../router.ts';
import { accounts, profiles } from '../state.ts';

const STEPS = ['Profile', 'Site', 'Pools', 'Settings', 'Review'] as const;

export function CreateClusterPage() {
  const step = useSignal(0);
  const draft = useSignal<Draft>(DRAFT);
  const { busy, problem, run, errorOf } = useTask();
  const idempotencyKey = useSignal(randomKey());
  const usable = accounts.value?.filter(({ enabled }) => enabled);

  const change = (changes: Partial<Draft>) => {
    draft.value = { ...draft.value, ...changes };
    problem.value = undefined;
  };
  useEffect(() => {
    const account = usable?.[0]?.id;
    const profile = profiles.value?.[0]?.id;
    if ((account && !draft.value.cloudAccount) || (profile && !draft.value.profile))
      change({
        cloudAccount: draft.value.cloudAccount || (account ?? ''),
        profile: draft.value.profile || (profile ?? ''),
      });
  }, [usable?.length, profiles.value?.length]);
  const { cloudAccount } = draft.value;
  const site = useInventory(cloudAccount);
  const preferred = site.value?.domains.find(({ isDefault }) => isDefault)?.name;
  useEffect(() => {
    const known = site.value?.domains.some(({ name }) => name === draft.value.domain) ?? true;
    if (preferred && !known) change({ domain: preferred });
  }, [site.value, preferred]);
  const { pools, network, domain } = toSpec(draft.value);
  const placement = usePlacement(cloudAccount, step.value < 2 ? undefined : { pools, network, domain });

  if (!usable || !profiles.value) return <Loading />;
  if (usable.length === 0)
    return (
      <Empty icon="account" title="There is no cloud account to build on">
        <p>
          <a href="/gateways/new">Create a private cloud gateway</a> first.
        </p>
      </Empty>
    );
  const missing = whatIsMissing(draft.value, step.value);
  // After a lost answer the same key asks again without making a second cluster; what is corrected is another request.
  const create = async () => {
    const created = await run(async () => {
      const cluster = await api<Cluster>(
        'POST',
        '/clusters',
        { spec: toSpec(draft.value) },
        { headers: { 'idempotency-key': idempotencyKey.value } },
      );
      go(`/clusters/${cluster.id}`);
    });
    if (created || problem.value?.code === 'PORTAL_UNREACHABLE') return;
    idempotencyKey.value = randomKey();
    step.value = stepOf(problem.value?.field) ?? step.value;
  };
  return (
    <>
      <PageHead title="Create cluster" />
      <ol class="steps wizard" aria-label="Steps">
        {STEPS.map((label, index) => (
          <li key={label} class={index < step.value ? 'done' : ''}>
            <button
              type="button"
              disabled={index > step.value}
              aria-current={index === step.value ? 'step' : undefined}
              onClick={() => {
                step.value = index;
              }}
            >
              <Icon name={index < step.value ? 'ok' : 'pending'} />
              {label}
            </button>
          </li>
        ))}
      </ol>
      <form
        class="wizard-body"
        onSubmit={(event) => {
          event.preventDefault();
          if (missing || busy.value) return;
          if (step.value < STEPS.length - 1) step.value += 1;
          else void create();
        }}
      >
        {problem.value ? <ProblemBox problem={problem.value} title="The cluster was not created" /> : null}
        {step.value === 0 ? <ProfileStep draft={draft.value} change={change} errorOf={errorOf} /> : null}
        {step.value === 1 ? (
          <SiteStep
            draft={draft.value}
            change={change}
            errorOf={errorOf}
            inventory={site.value}
            problem={site.problem}
          />
        ) : null}
        {step.value === 2 ? (
          <>
            {draft.value.pools.map((pool, index) => (
              <PoolEditor
                key={index}
                pool={pool}
                index={index}
                inventory={site.value}
                placement={placement.value?.pools.find((other) => other.pool === pool.name)}
                errorOf={errorOf}
                onChange={(next) => change({ pools: draft.value.pools.with(index, next) })}
                onRemove={
                  pool.role === 'worker'
                    ? () => change({ pools: draft.value.pools.toSpliced(index, 1) })
                    : undefined
                }
              />
            ))}
            <button
              type="button"
              class="button"
              onClick={() => change({ pools: [...draft.value.pools, anotherPool(draft.value.pools)] })}
            >
              <Icon name="plus" /> Add worker pool
            </button>
            {placement.problem ? (
              <ProblemBox problem={placement.problem} title="Placement could not be checked" />
            ) : (
              <Placement report={placement.value} />
            )}
          </>
        ) : null}
        {step.value === 3 ? (
          <SettingsStep draft={draft.value} change={change} errorOf={errorOf} inventory={site.value} />
        ) : null}
        {step.value === 4 ? (
          <>
            <Review draft={draft.value} />
            <Placement report={placement.value} />
          </>
        ) : null}
        <div class="actions end sticky">
          {missing ? <span class="sub">{missing}</span> : null}
          {step.value > 0 ? (
            <button
              type="button"
              class="button"
              onClick={() => {
                step.value -= 1;
              }}
            >
              Back
            </button>
          ) : (
            <a class="button" href="/clusters">
              Cancel
            </a>
          )}
          <button type="submit" class="button primary" disabled={missing !== undefined || busy.value}>
            {step.value < STEPS.length - 1 ? (
              <>
                Next <Icon name="right" />
              </>
            ) : busy.value ? (
              'Creating…'
            ) : (
              'Create cluster'
            )}
          </button>
        </div>
      </form>
    </>
  );
}

function whatIsMissing(draft: Draft, step: number): string | undefined {
  if (draft.name === '') return 'Give the cluster a name';
  if (step >= 1 && draft.cloudAccount === '') return 'Choose a cloud account';
  if (step >= 2 && draft.pools.some(({ name }) => name === '')) return 'Every pool needs a name';
  return undefined;
}

function stepOf(field: string | undefined): number | undefined {
  if (!field) return undefined;
  if (/^spec\.(name|description|tags|profile|packValues)/.test(field)) return 0;
  if (/^spec\.(cloudAccount|domain)/.test(field)) return 1;
  if (field.startsWith('spec.pools')) return 2;
  if (/^spec\.(network|nodes|policies)/.test(field)) return 3;
  return undefined;
}

function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
}
