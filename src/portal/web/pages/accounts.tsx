/** Cloud accounts: MAAS regions behind gateways, tried by the gateway before they are stored. */
import { useSignal } from '@preact/signals';
import type { CloudAccount } from '../../../contract/cloud-account.ts';
import { api } from '../api.ts';
import { Dialog, Empty, Loading, PageHead, ProblemBox, When } from '../parts/basics.tsx';
import { SelectField, TextField } from '../parts/fields.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { Icon } from '../parts/icons.tsx';
import { Badge } from '../parts/state.tsx';
import { useTask } from '../parts/task.ts';
import { accounts, canWrite, gateways, isTenantAdmin } from '../state.ts';

export function AccountsPage() {
  const adding = useSignal(false);
  const list = accounts.value;
  const running = gateways.value?.filter(({ connection }) => connection.state === 'connected') ?? [];
  return (
    <>
      <PageHead
        title="Cloud accounts"
        lead="MAAS regions, each reached through one gateway. API keys are sealed to the gateway; the portal cannot read them."
      >
        {canWrite.value ? (
          <button
            type="button"
            class="button primary"
            disabled={running.length === 0}
            onClick={() => {
              adding.value = true;
            }}
          >
            <Icon name="plus" /> Add account{running.length === 0 ? ' (needs a connected gateway)' : ''}
          </button>
        ) : null}
      </PageHead>
      {list === undefined ? (
        <Loading />
      ) : list.length === 0 ? (
        <Empty icon="account" title="No cloud account yet">
          <p>The first one appears by itself when a gateway that knows its MAAS connects.</p>
        </Empty>
      ) : (
        <ul class="cards">
          {list.map((account) => (
            <AccountCard key={account.id} account={account} />
          ))}
        </ul>
      )}
      {adding.value ? (
        <AddAccount
          onClose={() => {
            adding.value = false;
          }}
        />
      ) : null}
    </>
  );
}

function AccountCard({ account }: { account: CloudAccount }) {
  const { problem, run } = useTask();
  const removing = useSignal(false);
  const gateway = gateways.value?.find(({ id }) => id === account.gateway);
  const status = gateway?.status?.accounts.find(({ id }) => id === account.id);
  const known = gateway?.connection.state === 'connected' ? status?.state : undefined;
  const mayChange = canWrite.value && (account.scope === 'project' || isTenantAdmin.value);
  const toggle = () =>
    run(async () => {
      const changed = await api<CloudAccount>('PUT', `/cloud-accounts/${account.id}`, {
        enabled: !account.enabled,
      });
      accounts.value = accounts.value?.map((other) => (other.id === changed.id ? changed : other));
    });
  return (
    <li class="card">
      <div class="card-head">
        <h2>{account.name}</h2>
        {known === 'ready' ? (
          <Badge tone="good" icon="ok" text={`MAAS ${status?.maasVersion ?? 'ready'}`} />
        ) : known === 'failed' ? (
          <Badge tone="bad" icon="bad" text="failed" />
        ) : (
          <Badge tone="warn" icon="unknown" text="unknown" />
        )}
      </div>
      <p class="sub">
        <code>{account.endpoint}</code> through{' '}
        {gateway ? <a href={`/gateways/${gateway.id}`}>{gateway.name}</a> : 'a removed gateway'}
      </p>
      {known === 'failed' && status?.message ? <p class="fix">{status.message}</p> : null}
      <dl class="facts">
        <div>
          <dt>Scope</dt>
          <dd>{account.scope}</dd>
        </div>
        <div>
          <dt>Key</dt>
          <dd>{account.default ? 'on the gateway' : account.keyFingerprint || 'sealed'}</dd>
        </div>
        <div>
          <dt>Created</dt>
          <dd>
            <When at={account.createdAt} />
          </dd>
        </div>
      </dl>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {mayChange ? (
        <div class="actions">
          <button
            type="button"
            class="button small"
            role="switch"
            aria-checked={account.enabled}
            onClick={toggle}
          >
            <Icon name={account.enabled ? 'ok' : 'skip'} />
            {account.enabled ? 'Open for clusters' : 'Closed for clusters'}
          </button>
          {account.default ? null : (
            <button
              type="button"
              class="button small danger"
              onClick={() => {
                removing.value = true;
              }}
            >
              <Icon name="trash" /> Remove
            </button>
          )}
        </div>
      ) : null}
      {removing.value ? (
        <ConfirmDialog
          title={`Remove ${account.name}`}
          verb="Remove account"
          onClose={() => {
            removing.value = false;
          }}
          onConfirm={async () => {
            await api('DELETE', `/cloud-accounts/${account.id}`);
            accounts.value = accounts.value?.filter(({ id }) => id !== account.id);
          }}
        >
          <p>The gateway forgets the key. MAAS itself is not touched.</p>
        </ConfirmDialog>
      ) : null}
    </li>
  );
}

function AddAccount({ onClose }: { onClose: () => void }) {
  const running = gateways.value?.filter(({ connection }) => connection.state === 'connected') ?? [];
  const form = useSignal({ name: '', gateway: running[0]?.id ?? '', endpoint: '', apiKey: '' });
  const { busy, problem, run, ...task } = useTask();
  const set = (key: keyof typeof form.value) => (value: string) => {
    form.value = { ...form.value, [key]: value };
  };
  const errorOf = (field: string) => {
    const wrong = task.errorOf(field);
    return wrong === undefined ? undefined : `${wrong}. ${problem.value?.fix ?? ''}`;
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    const added = await run(async () => {
      const scope = isTenantAdmin.value ? 'tenant' : 'project';
      const account = await api<CloudAccount>('POST', '/cloud-accounts', { ...form.value, scope });
      accounts.value = [...(accounts.value ?? []).filter(({ id }) => id !== account.id), account];
    });
    if (added) onClose();
  };
  const shown = ['name', 'endpoint', 'apiKey'].some((field) => errorOf(field));
  return (
    <Dialog title="Add cloud account" onClose={onClose}>
      <form onSubmit={submit}>
        <TextField
          label="Name"
          value={form.value.name}
          onInput={set('name')}
          error={errorOf('name')}
          required
          autofocus
        />
        <SelectField
          label="Gateway"
          hint="Only connected gateways can try an account."
          value={form.value.gateway}
          options={running.map(({ id, name }) => [id, name])}
          onChange={set('gateway')}
        />
        <TextField
          label="MAAS endpoint"
          hint="As the gateway reaches it, e.g. http://10.11.12.13:5240/MAAS"
          value={form.value.endpoint}
          onInput={set('endpoint')}
          error={errorOf('endpoint')}
          required
        />
        <TextField
          label="MAAS API key"
          type="password"
          hint="Three parts: consumer_key:token_key:token_secret"
          value={form.value.apiKey}
          onInput={set('apiKey')}
          error={errorOf('apiKey')}
          required
        />
        {problem.value && !shown ? <ProblemBox problem={problem.value} /> : null}
        <div class="actions end">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={busy.value}>
            {busy.value ? 'The gateway tries it…' : 'Try and add'}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
