/** Sign-in. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { ProblemDetails } from '../../../contract/errors.ts';
import { api, asProblem } from '../api.ts';
import { ProblemBox, TextField } from '../parts/basics.tsx';
import { me, type Me } from '../state.ts';

export function SignIn() {
  const email = useSignal('');
  const password = useSignal('');
  const busy = useSignal(false);
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  useEffect(() => {
    document.title = 'Sign in · PCG';
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    busy.value = true;
    problem.value = undefined;
    try {
      const result = await api<{ user: Me }>('POST', '/session', {
        email: email.value,
        password: password.value,
      });
      me.value = result.user;
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      busy.value = false;
    }
  };
  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit}>
        <img src="/icon.svg" alt="" width="44" height="44" />
        <h1>Private cloud gateways</h1>
        <p class="lead">Bare-metal Kubernetes in data centres that nobody can dial into.</p>
        <TextField
          label="E-mail"
          type="email"
          autocomplete="username"
          required
          autofocus
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
    </main>
  );
}
