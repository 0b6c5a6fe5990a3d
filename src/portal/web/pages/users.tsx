/** Who may sign in, and as what; for tenant administrators. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Role } from '../../../contract/api.ts';
import { api } from '../api.ts';
import { Dialog, Loading, PageHead, ProblemBox, When } from '../parts/basics.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { SelectField, TextField } from '../parts/fields.tsx';
import { Icon } from '../parts/icons.tsx';
import { Badge } from '../parts/state.tsx';
import { useTask } from '../parts/task.ts';
import { me } from '../state.ts';

interface User {
  readonly id: string;
  readonly email: string;
  readonly role: Role;
  readonly disabled: boolean;
  readonly createdAt: string;
}

const ROLES: readonly (readonly [Role, string])[] = [
  ['viewer', 'Viewer: looks'],
  ['project-admin', 'Project administrator: clusters and profiles'],
  ['tenant-admin', 'Tenant administrator: gateways and users too'],
];

export function UsersPage() {
  const users = useSignal<User[] | undefined>(undefined);
  const dialog = useSignal<{ kind: 'add' } | { kind: 'password' | 'remove'; user: User } | undefined>(
    undefined,
  );
  const { busy, problem, run } = useTask();
  const load = async () => {
    users.value = (await api<{ items: User[] }>('GET', '/users')).items;
  };
  const change = (user: User, changes: object) =>
    run(async () => {
      await api('PUT', `/users/${user.id}`, changes);
      await load();
    });
  useEffect(() => {
    void run(load);
  }, []);
  const close = () => {
    dialog.value = undefined;
  };
  const asked = dialog.value;
  return (
    <>
      <PageHead title="Users" lead="Roles say who may look, who changes clusters, and who runs gateways.">
        <button
          type="button"
          class="button primary"
          onClick={() => {
            dialog.value = { kind: 'add' };
          }}
        >
          <Icon name="plus" /> Add user
        </button>
      </PageHead>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {users.value === undefined ? (
        problem.value ? null : (
          <Loading />
        )
      ) : (
        <ul class="plain">
          {users.value.map((user) => {
            const mine = user.email === me.value?.email;
            return (
              <li key={user.id} class="card user">
                <div class="user-name">
                  <strong>{user.email}</strong>{' '}
                  {user.disabled ? <Badge tone="warn" icon="skip" text="disabled" /> : null}
                  <span class="sub">
                    {mine ? 'you, ' : ''}since <When at={user.createdAt} />
                  </span>
                </div>
                <label>
                  <span class="visually-hidden">Role of {user.email}</span>
                  <select
                    value={user.role}
                    disabled={mine || busy.value}
                    title={mine ? 'Another tenant administrator can change your role' : undefined}
                    onChange={(event) => change(user, { role: event.currentTarget.value })}
                  >
                    {ROLES.map(([role]) => (
                      <option key={role}>{role}</option>
                    ))}
                  </select>
                </label>
                <div class="actions">
                  <button
                    type="button"
                    class="button small"
                    aria-label={`Set the password of ${user.email}`}
                    onClick={() => {
                      dialog.value = { kind: 'password', user };
                    }}
                  >
                    Set password
                  </button>
                  {mine ? null : (
                    <>
                      <button
                        type="button"
                        class="button small"
                        aria-label={`${user.disabled ? 'Enable' : 'Disable'} ${user.email}`}
                        disabled={busy.value}
                        onClick={() => change(user, { disabled: !user.disabled })}
                      >
                        {user.disabled ? 'Enable' : 'Disable'}
                      </button>
                      <button
                        type="button"
                        class="button small danger"
                        aria-label={`Remove ${user.email}`}
                        onClick={() => {
                          dialog.value = { kind: 'remove', user };
                        }}
                      >
                        <Icon name="trash" /> Remove
                      </button>
                    </>
                  )}
                </div>
              </li>
            );
          })}
        </ul>
      )}
      {asked?.kind === 'add' ? <UserDialog onClose={close} onDone={load} /> : null}
      {asked?.kind === 'password' ? <UserDialog user={asked.user} onClose={close} onDone={load} /> : null}
      {asked?.kind === 'remove' ? (
        <ConfirmDialog
          title={`Remove ${asked.user.email}`}
          verb="Remove user"
          onClose={close}
          onConfirm={async () => {
            await api('DELETE', `/users/${asked.user.id}`);
            await load();
          }}
        >
          <p>Sessions, API tokens and kubeconfigs of this user end at once.</p>
        </ConfirmDialog>
      ) : null}
    </>
  );
}

/** A new user, or a new password for one. */
function UserDialog({
  user,
  onClose,
  onDone,
}: {
  user?: User;
  onClose: () => void;
  onDone: () => Promise<void>;
}) {
  const form = useSignal<{ email: string; role: Role; password: string }>({
    email: '',
    role: 'viewer',
    password: '',
  });
  const { busy, problem, run, errorOf } = useTask();
  const submit = async (event: Event) => {
    event.preventDefault();
    const { email, role, password } = form.value;
    const saved = await run(async () => {
      if (user) await api('PUT', `/users/${user.id}`, { password });
      else await api('POST', '/users', { email, role, password });
      await onDone();
    });
    if (saved) onClose();
  };
  const shown = errorOf('email') ?? errorOf('password');
  return (
    <Dialog title={user ? `Set the password of ${user.email}` : 'Add user'} onClose={onClose}>
      <form onSubmit={submit}>
        {user ? (
          <p class="prose">Whoever is signed in with the old password has to sign in again.</p>
        ) : (
          <>
            <TextField
              label="E-mail"
              type="email"
              value={form.value.email}
              error={errorOf('email')}
              required
              autofocus
              onInput={(email) => {
                form.value = { ...form.value, email };
              }}
            />
            <SelectField
              label="Role"
              value={form.value.role}
              options={ROLES}
              onChange={(role) => {
                form.value = { ...form.value, role: role as Role };
              }}
            />
          </>
        )}
        <TextField
          label="Password"
          type="password"
          hint="At least 12 characters"
          autocomplete="new-password"
          value={form.value.password}
          error={errorOf('password')}
          required
          autofocus={user !== undefined}
          onInput={(password) => {
            form.value = { ...form.value, password };
          }}
        />
        {problem.value && !shown ? <ProblemBox problem={problem.value} /> : null}
        <div class="actions end">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={busy.value}>
            {user ? 'Set password' : 'Add user'}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
