/**
 * The wizard: profile, account and domain, pools with live placement, network and policies, review. The
 * draft is the specification itself; what is checked here is what the API checks again.
 */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Inventory, PlacementReport } from '../../../contract/api.ts';
import type { Cluster } from '../../../contract/cluster.ts';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { api, asProblem } from '../api.ts';
import { Empty, Loading, PageHead, ProblemBox } from '../parts/basics.tsx';
import { Icon } from '../parts/icons.tsx';
import { type Draft, DRAFT, type DraftPool, toSpec } from '../parts/draft.ts';
import { Placement } from '../parts/placement.tsx';
import { PoolEditor } from '../parts/pool-editor.tsx';
import { ProfileStep, Review, SettingsStep, SiteStep } from '../parts/wizard-steps.tsx';
import { go } from '../router.ts';
import { accounts, profiles } from '../state.ts';

const STEPS = ['Profile', 'Site', 'Pools', 'Settings', 'Review'] as const;
/** After the last keystroke; the question goes to the site and back. */
const EXPLAIN_DELAY_MS = 400;

export function CreateClusterPage() {
  const step = useSignal(0);
  const draft = useSignal<Draft>(DRAFT);
  const inventory = useSignal<Inventory | undefined>(undefined);
  const report = useSignal<PlacementReport | undefined>(undefined);
  const siteProblem = useSignal<ProblemDetails | undefined>(undefined);
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  const busy = useSignal(false);
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
  useEffect(() => {
    if (cloudAccount === '') return;
    const stop = new AbortController();
    inventory.value = undefined;
    siteProblem.value = undefined;
    api<Inventory>('GET', `/cloud-accounts/${cloudAccount}/inventory`, undefined, stop.signal)
      .then((found) => {
        inventory.value = found;
        const preferred = found.domains.find(({ isDefault }) => isDefault)?.name;
        if (preferred && !found.domains.some(({ name }) => name === draft.value.domain))
          change({ domain: preferred });
      })
      .catch((error: unknown) => {
        if (!stop.signal.aborted) siteProblem.value = asProblem(error);
      });
    return () => stop.abort();
  }, [cloudAccount]);
  const question = JSON.stringify(toSpec(draft.value).pools);
  useEffect(() => {
    if (cloudAccount === '' || step.value < 2) return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      const { pools, network } = toSpec(draft.value);
      api<PlacementReport>('POST', `/cloud-accounts/${cloudAccount}/explain`, { pools, network }, stop.signal)
        .then((answer) => {
          report.value = answer;
        })
        .catch((error: unknown) => {
          if (!stop.signal.aborted) {
            report.value = undefined;
            siteProblem.value = asProblem(error);
          }
        });
    }, EXPLAIN_DELAY_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [question, cloudAccount, step.value]);

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
  const create = async () => {
    busy.value = true;
    problem.value = undefined;
    try {
      const response = await fetch('/api/v1/clusters', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey.value },
        body: JSON.stringify({ spec: toSpec(draft.value) }),
      });
      const body = (await response.json()) as Cluster | ProblemDetails;
      if (response.ok) go(`/clusters/${(body as Cluster).id}`);
      else {
        problem.value = body as ProblemDetails;
        // What is corrected is another request.
        idempotencyKey.value = randomKey();
        step.value = stepOf(problem.value.field) ?? step.value;
      }
    } catch (error) {
      // The answer was lost, perhaps not the cluster: the same key asks again without making a second one.
      problem.value = asProblem(error);
    } finally {
      busy.value = false;
    }
  };
  const errorOf = (field: string) =>
    problem.value?.field === field ? problem.value.message.replace(`${field}: `, '') : undefined;
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
            inventory={inventory.value}
            problem={siteProblem.value}
          />
        ) : null}
        {step.value === 2 ? (
          <>
            {draft.value.pools.map((pool, index) => (
              <PoolEditor
                key={index}
                pool={pool}
                index={index}
                inventory={inventory.value}
                placement={report.value?.pools.find((other) => other.pool === pool.name)}
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
            {siteProblem.value ? (
              <ProblemBox problem={siteProblem.value} title="Placement could not be checked" />
            ) : (
              <Placement report={report.value} />
            )}
          </>
        ) : null}
        {step.value === 3 ? (
          <SettingsStep draft={draft.value} change={change} errorOf={errorOf} inventory={inventory.value} />
        ) : null}
        {step.value === 4 ? (
          <>
            <Review draft={draft.value} />
            <Placement report={report.value} />
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

function anotherPool(pools: readonly DraftPool[]): DraftPool {
  const base = pools.findLast(({ role }) => role === 'worker') ?? DRAFT.pools[1];
  let number = pools.length;
  while (pools.some(({ name }) => name === `workers-${number}`)) number += 1;
  return { ...(base as DraftPool), name: `workers-${number}`, size: '1' };
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
