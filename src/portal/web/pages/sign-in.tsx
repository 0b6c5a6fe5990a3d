/** Sign-in: as a page, and over the page that is open when its session has ended. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { api } from '../api.ts';
import { Dialog, ProblemBox } from '../parts/basics.tsx';
import { TextField } from '../parts/fields.tsx';
import { useTask } from '../parts/task.ts';
import { loadLists, me, type Me, sessionEnded } from '../state.ts';

export function SignIn() {
  useEffect(() => {
    document.title = 'Sign in · PCG';
  }, []);
  return (
    <main class="sign-in">
      <div class="card">
        <img src="/icon.svg" alt="" width="44" height="44" />
        <h1>Private cloud gateways</h1>
        <p class="lead">Bare-metal Kubernetes in data centres that nobody can dial into.</p>
        <SignInForm email="" />
      </div>
    </main>
  );
}

/** The same place, the same typed text; Escape gives them up. */
export function SessionEnded() {
  return (
    <Dialog
      title="Your session has ended"
      onClose={() => {
        if (sessionEnded.value) me.value = null;
        sessionEnded.value = false;
      }}
    >
      <p class="prose">Sign in to go on where you are.</p>
      <SignInForm email={me.value?.email ?? ''} />
    </Dialog>
  );
}

function SignInForm(given: { email: string }) {
  const email = useSignal(given.email);
  const password = useSignal('');
  const { busy, problem, run } = useTask();
  const submit = (event: Event) => {
    event.preventDefault();
    void run(async () => {
      const { user } = await api<{ user: Me }>('POST', '/session', {
        email: email.value,
        password: password.value,
      });
      const again = sessionEnded.value;
      sessionEnded.value = false;
      me.value = user;
      if (again) await loadLists();
    });
  };
  return (
    <form class="sign-in-form" onSubmit={submit}>
      <TextField
        label="E-mail"
        type="email"
        autocomplete="username"
        required
        autofocus={given.email === ''}
        value={email.value}
        onInput={(value) => {
          email.value = value;
        }}
      />
      <TextField
        label="Password"
        type="password"
        autocomplete="current-password"
        required
        autofocus={given.email !== ''}
        value={password.value}
        onInput={(value) => {
          password.value = value;
        }}
      />
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      <button type="submit" class="button primary wide" disabled={busy.value}>
        {busy.value ? 'Signing in…' : 'Sign in'}
      </button>
    </form>
  );
}
