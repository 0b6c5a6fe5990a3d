/** R30: instructions with a pairing code; the page turns into the live pairing as it happens. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { ProblemDetails } from '../../../contract/errors.ts';
import type { PairingCode as MadeCode } from '../../../contract/pairing.ts';
import { api, asProblem } from '../api.ts';
import { duration } from '../format.ts';
import { Command, CopyButton, Notice, PageHead, ProblemBox } from '../parts/basics.tsx';
import { TextField } from '../parts/fields.tsx';
import { Icon } from '../parts/icons.tsx';
import { codes, gateways, now } from '../state.ts';

type Made = MadeCode & { gatewayId: string };

export function NewGatewayPage() {
  const made = useSignal<Made | undefined>(undefined);
  return (
    <>
      <PageHead
        title="Create private cloud gateway"
        lead="A gateway runs next to MAAS and dials out to this portal over port 443. You need a Linux host that reaches both."
      />
      {made.value ? (
        <Instructions
          made={made.value}
          onAgain={() => {
            made.value = undefined;
          }}
        />
      ) : (
        <NameForm
          onMade={(code) => {
            made.value = code;
          }}
        />
      )}
    </>
  );
}

function NameForm({ onMade }: { onMade: (made: Made) => void }) {
  const name = useSignal('');
  const busy = useSignal(false);
  const problem = useSignal<ProblemDetails | undefined>(undefined);
  const submit = async (event: Event) => {
    event.preventDefault();
    busy.value = true;
    problem.value = undefined;
    try {
      onMade(await api<Made>('POST', '/pairing-codes', { gatewayName: name.value }));
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      busy.value = false;
    }
  };
  const fieldError =
    problem.value?.field === 'gatewayName' ? problem.value.message.replace(/^gatewayName: /, '') : undefined;
  return (
    <form class="card narrow" onSubmit={submit}>
      <TextField
        label="Name of the gateway"
        hint="Lower-case letters, digits and hyphens, e.g. berlin-dc1. It cannot change later."
        error={fieldError}
        value={name.value}
        required
        autofocus
        onInput={(value) => {
          name.value = value.trim().toLowerCase();
        }}
      />
      {problem.value && !fieldError ? <ProblemBox problem={problem.value} /> : null}
      <div class="actions end">
        <a class="button" href="/gateways">
          Cancel
        </a>
        <button type="submit" class="button primary" disabled={busy.value || name.value === ''}>
          {busy.value ? 'Making a code…' : 'Get pairing code'}
        </button>
      </div>
    </form>
  );
}

const WAYS = ['container', 'deb', 'silent'] as const;
type Way = (typeof WAYS)[number];
const WAY_LABELS: Record<Way, string> = {
  container: 'Container',
  deb: 'Debian package',
  silent: 'Silent install',
};

function Instructions({ made, onAgain }: { made: Made; onAgain: () => void }) {
  const way = useSignal<Way>('container');
  const code = codes.value.get(made.id);
  const gateway = gateways.value?.find(({ id }) => id === made.gatewayId);
  const leftMs = Date.parse(made.expiresAt) - now.value;
  const connected = gateway?.connection.state === 'connected';
  if (gateway)
    return (
      <section class="card narrow paired" aria-live="polite">
        <Steps paired connected={connected} />
        <h2>
          <Icon name="ok" /> {gateway.name} is paired
        </h2>
        <p>Compare these words with those that the gateway shows. If they differ, somebody is in between.</p>
        <p class="big-words">{gateway.words}</p>
        <p class="sub">
          {connected ? 'It is connected.' : 'Now start the agent there; this page shows when it connects.'}{' '}
          The code is used up.
        </p>
        <div class="actions end">
          <a class="button primary" href={`/gateways/${gateway.id}`}>
            Open gateway <Icon name="right" />
          </a>
        </div>
      </section>
    );
  const ended = code?.state === 'revoked' || code?.state === 'locked' || leftMs <= 0;
  if (ended)
    return (
      <section class="card narrow">
        <Notice tone="warn" icon="warn">
          <strong>
            {code?.state === 'revoked'
              ? 'A newer code replaced this one.'
              : code?.state === 'locked'
                ? 'The code is locked after 5 wrong tries.'
                : 'The code has expired.'}
          </strong>{' '}
          Nothing was registered.
        </Notice>
        <button type="button" class="button primary" onClick={onAgain}>
          Make another code
        </button>
      </section>
    );
  return (
    <>
      <section class="card narrow">
        <Steps paired={false} connected={false} />
        <h2>Pairing code for {made.gatewayName}</h2>
        <div class="code-line">
          <output class="pairing-code" aria-label="Pairing code">
            {made.code}
          </output>
          <CopyButton text={made.code} label="Copy code" />
        </div>
        <p class="sub">
          <Icon name="wait" /> valid for {duration(leftMs)}, for one gateway. It is shown only now. A new code
          for this name revokes it.
        </p>
      </section>
      <section class="card narrow" aria-labelledby="install">
        <h2 id="install">Install the agent</h2>
        <div class="tabs" role="tablist" aria-label="Way to install">
          {WAYS.map((key) => (
            <button
              key={key}
              type="button"
              role="tab"
              id={`tab-${key}`}
              aria-selected={way.value === key}
              aria-controls="way"
              tabIndex={way.value === key ? 0 : -1}
              onClick={() => {
                way.value = key;
              }}
              onKeyDown={(event) => {
                const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
                if (step === 0) return;
                way.value = WAYS[(WAYS.indexOf(way.value) + step + WAYS.length) % WAYS.length] as Way;
                document.getElementById(`tab-${way.value}`)?.focus();
              }}
            >
              {WAY_LABELS[key]}
            </button>
          ))}
        </div>
        <div id="way" role="tabpanel" aria-labelledby={`tab-${way.value}`}>
          <Command label={`Commands: ${WAY_LABELS[way.value]}`} text={commands(way.value, made)} />
          <p class="sub">{NOTES[way.value]}</p>
        </div>
      </section>
      <Waiting />
    </>
  );
}

function Waiting() {
  const started = useSignal(0);
  useEffect(() => {
    started.value = now.peek();
  }, [started]);
  return (
    <p class="waiting" role="status">
      <Icon name="run" spin /> Waiting for the gateway to use the code
    </p>
  );
}

function Steps({ paired, connected }: { paired: boolean; connected: boolean }) {
  const steps = [
    { label: 'Code made', done: true },
    { label: 'Paired', done: paired },
    { label: 'Connected', done: connected },
  ];
  return (
    <ol class="steps" aria-label="Pairing">
      {steps.map((step) => (
        <li key={step.label} class={step.done ? 'done' : ''}>
          <Icon name={step.done ? 'ok' : 'pending'} />
          {step.label}
          <span class="visually-hidden">{step.done ? ' (done)' : ' (to come)'}</span>
        </li>
      ))}
    </ol>
  );
}

const NOTES: Record<Way, string> = {
  container:
    'Give your MAAS endpoint and the file that holds its API key. The key stays on this host: the portal never sees it.',
  deb: 'The agent asks for nothing else; the MAAS endpoint and key are in /etc/pcg/agent.yaml and as a systemd credential.',
  silent: 'Without questions: pairs and runs the agent from settings in a file; see `pcg help environment`.',
};

function commands(way: Way, made: Made): string {
  const url = location.origin;
  const code = made.code;
  switch (way) {
    case 'container':
      return `export PCG_PAIRING_CODE='${code}'
docker run --rm -e PCG_PAIRING_CODE -v pcg-${made.gatewayName}:/var/lib/pcg pcg \\
  pair --portal-url ${url}
docker run -d --name pcg-${made.gatewayName} --restart unless-stopped \\
  -v pcg-${made.gatewayName}:/var/lib/pcg -v ./maas-api-key:/run/secrets/maas-api-key:ro \\
  -e PCG_MAAS_URL='http://10.11.12.13:5240/MAAS' \\
  -e PCG_MAAS_API_KEY_FILE=/run/secrets/maas-api-key \\
  pcg agent`;
    case 'deb':
      return `sudo apt install ./pcg_*_amd64.deb
sudo env PCG_PAIRING_CODE='${code}' pcg pair --portal-url ${url}
sudo systemctl enable --now pcg-agent
pcg status`;
    case 'silent':
      return `export PCG_PAIRING_CODE='${code}'
export PCG_STATE_DIR=/var/lib/pcg
pcg pair --portal-url ${url}
export PCG_MAAS_API_KEY_FILE=./maas-api-key
pcg agent --config-file ./agent.yaml   # maasUrl: http://10.11.12.13:5240/MAAS`;
  }
}
