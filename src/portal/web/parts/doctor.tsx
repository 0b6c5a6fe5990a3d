/** The gateway examines itself on request; each check with what was measured, what is needed and a fix. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { CheckReport } from '../../../contract/api.ts';
import type { Gateway } from '../../../contract/gateway.ts';
import { api } from '../api.ts';
import { ProblemBox } from './basics.tsx';
import type { IconName } from './icons.tsx';
import { Badge, type Tone } from './state.tsx';
import { useTask } from './task.ts';

const CHECK_LOOKS: Record<'pass' | 'warn' | 'fail' | 'skip', { tone: Tone; icon: IconName }> = {
  pass: { tone: 'good', icon: 'ok' },
  warn: { tone: 'warn', icon: 'warn' },
  fail: { tone: 'bad', icon: 'bad' },
  skip: { tone: 'calm', icon: 'skip' },
};

export function Doctor({ gateway, online }: { gateway: Gateway; online: boolean }) {
  const report = useSignal<CheckReport | undefined>(undefined);
  const { busy, problem, run } = useTask();
  useEffect(() => {
    report.value = undefined;
  }, [gateway.id, report]);
  const check = () =>
    run(async () => {
      report.value = await api<CheckReport>('POST', `/gateways/${gateway.id}/ask/v1/doctor`, {});
    });
  return (
    <section class="card" aria-labelledby="doctor">
      <div class="card-head">
        <h2 id="doctor">Doctor</h2>
        <button
          type="button"
          class="button"
          disabled={!online || busy.value}
          title={online ? undefined : 'The gateway is not connected'}
          onClick={check}
        >
          {busy.value ? 'Checking…' : online ? 'Check now' : 'Check (needs the gateway)'}
        </button>
      </div>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {report.value ? (
        <ul class="plain">
          {report.value.checks.map((check) => (
            <li key={check.id} class="line">
              <Badge {...CHECK_LOOKS[check.state]} text={check.state} />
              <span>
                <strong>
                  {check.group} · {check.id}
                </strong>
                <span class="sub">
                  {' '}
                  {check.measured} (needs {check.required}){check.fix ? ` · ${check.fix}` : ''}
                </span>
              </span>
            </li>
          ))}
        </ul>
      ) : (
        <p class="sub">Asks the gateway to test DNS, proxy, portal, MAAS and clock from where it stands.</p>
      )}
    </section>
  );
}
