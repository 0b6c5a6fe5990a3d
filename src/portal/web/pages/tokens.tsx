/** One's own API tokens, for `pcg clusters` and scripts. A token's text is shown once. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { api } from '../api.ts';
import { Command, Empty, Loading, Notice, PageHead, ProblemBox, When } from '../parts/basics.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { TextField } from '../parts/fields.tsx';
import { Icon } from '../parts/icons.tsx';
import { useTask } from '../parts/task.ts';
import { me } from '../state.ts';

interface Token {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
  readonly expiresAt?: string;
}

export function TokensPage() {
  const tokens = useSignal<Token[] | undefined>(undefined);
  const made = useSignal<string | undefined>(undefined);
  const revoking = useSignal<Token | undefined>(undefined);
  const form = useSignal({ name: '', days: '90' });
  const listing = useTask();
  const making = useTask();
  const load = async () => {
    tokens.value = (await api<{ items: Token[] }>('GET', '/tokens')).items;
  };
  useEffect(() => {
    void listing.run(load);
  }, []);
  const make = (event: Event) => {
    event.preventDefault();
    void making.run(async () => {
      const { name, days } = form.value;
      const { token } = await api<{ token: string }>('POST', '/tokens', { name, days: Number(days) });
      made.value = token;
      form.value = { name: '', days: '90' };
      await load();
    });
  };
  const list = tokens.value;
  return (
    <>
      <PageHead
        title="API tokens"
        lead={`For pcg clusters and scripts; each acts as ${me.value?.email ?? 'you'} with your role.`}
      />
      {made.value ? (
        <Notice tone="good" icon="ok">
          <strong>Copy it now: it is not shown again.</strong>
          <Command label="New API token" text={made.value} />
        </Notice>
      ) : null}
      <form class="card token-form" onSubmit={make}>
        <TextField
          label="Name"
          hint="What it is for"
          value={form.value.name}
          error={making.errorOf('name')}
          required
          onInput={(name) => {
            form.value = { ...form.value, name };
          }}
        />
        <TextField
          label="Days"
          type="number"
          value={form.value.days}
          error={making.errorOf('days')}
          required
          onInput={(days) => {
            form.value = { ...form.value, days };
          }}
        />
        <button type="submit" class="button primary" disabled={making.busy.value}>
          <Icon name="plus" /> Make token
        </button>
      </form>
      {making.problem.value && !making.errorOf('name') && !making.errorOf('days') ? (
        <ProblemBox problem={making.problem.value} />
      ) : null}
      {listing.problem.value ? <ProblemBox problem={listing.problem.value} /> : null}
      {list === undefined ? (
        listing.problem.value ? null : (
          <Loading />
        )
      ) : list.length === 0 ? (
        <Empty icon="account" title="No token yet" />
      ) : (
        <ul class="plain">
          {list.map((token) => (
            <li key={token.id} class="card user">
              <div class="user-name">
                <strong>{token.name}</strong>
                <span class="sub">
                  made <When at={token.createdAt} />
                  {token.expiresAt ? (
                    <>
                      , ends <When at={token.expiresAt} />
                    </>
                  ) : null}
                </span>
              </div>
              <button
                type="button"
                class="button small danger"
                aria-label={`Revoke ${token.name}`}
                onClick={() => {
                  revoking.value = token;
                }}
              >
                <Icon name="trash" /> Revoke
              </button>
            </li>
          ))}
        </ul>
      )}
      {revoking.value ? (
        <ConfirmDialog
          title={`Revoke ${revoking.value.name}`}
          verb="Revoke token"
          onClose={() => {
            revoking.value = undefined;
          }}
          onConfirm={async () => {
            await api('DELETE', `/tokens/${revoking.value?.id}`);
            await load();
          }}
        >
          <p>Whatever uses it is refused from now on.</p>
        </ConfirmDialog>
      ) : null}
    </>
  );
}
