/** The machines behind a gateway: how many are free, which are not picked (X6), which nobody claims (X16). */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { z } from 'zod';
import type { OrphanSchema, QuarantineEntrySchema } from '../../../contract/api.ts';
import type { Gateway } from '../../../contract/gateway.ts';
import { api } from '../api.ts';
import { canWrite } from '../state.ts';
import { Loading, ProblemBox, When } from './basics.tsx';
import { ConfirmDialog } from './confirm-dialog.tsx';
import { TextField } from './fields.tsx';
import { Icon } from './icons.tsx';
import { useInventory } from './site-questions.ts';
import { Stock } from './stock.tsx';
import { useTask } from './task.ts';

type Quarantined = z.infer<typeof QuarantineEntrySchema>;
type Orphan = z.infer<typeof OrphanSchema>;

export function SiteMachines({ gateway, online }: { gateway: Gateway; online: boolean }) {
  const accounts = gateway.status?.accounts ?? [];
  if (!online || accounts.length === 0) return null;
  const ask = `/gateways/${gateway.id}/ask/v1`;
  return (
    <>
      <QuarantineCard ask={ask} account={accounts[0]?.id ?? ''} />
      {accounts.map(({ id, endpoint }) => (
        <MaasCard key={id} ask={ask} account={id} endpoint={endpoint} />
      ))}
    </>
  );
}

/** MAAS is asked on request only: to list a large site keeps it busy. */
function MaasCard({ ask, account, endpoint }: { ask: string; account: string; endpoint: string }) {
  const looked = useSignal(false);
  return (
    <section class="card" aria-labelledby={`site-${account}`}>
      <div class="card-head">
        <h2 id={`site-${account}`}>
          Machines of <code>{endpoint}</code>
        </h2>
        {looked.value ? null : (
          <button
            type="button"
            class="button small"
            onClick={() => {
              looked.value = true;
            }}
          >
            Look at MAAS now
          </button>
        )}
      </div>
      {looked.value ? (
        <>
          <FreeMachines account={account} />
          <Orphans ask={ask} account={account} />
        </>
      ) : (
        <p class="sub">Which machines are free, and which are held although no cluster claims them.</p>
      )}
    </section>
  );
}

function FreeMachines({ account }: { account: string }) {
  const site = useInventory(account);
  if (site.problem) return <ProblemBox problem={site.problem} title="MAAS cannot be asked now" />;
  return site.value ? <Stock inventory={site.value} /> : <Loading />;
}

function QuarantineCard({ ask, account }: { ask: string; account: string }) {
  const list = useSignal<Quarantined[] | undefined>(undefined);
  const { busy, problem, run } = useTask();
  const adding = useSignal(false);
  const load = async () => {
    list.value = await api<Quarantined[]>('GET', `${ask}/quarantine`);
  };
  useEffect(() => {
    void run(load);
  }, [ask]);
  return (
    <section class="card" aria-labelledby="quarantine">
      <div class="card-head">
        <h2 id="quarantine">Quarantine</h2>
        {canWrite.value ? (
          <button
            type="button"
            class="button small"
            onClick={() => {
              adding.value = true;
            }}
          >
            <Icon name="plus" /> Add machine
          </button>
        ) : null}
      </div>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {list.value === undefined ? null : list.value.length === 0 ? (
        <p class="sub">Empty. A machine that fails comes here for a while and is not picked again.</p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th scope="col">Machine</th>
                <th scope="col">Why</th>
                <th scope="col">Until</th>
                <th scope="col">
                  <span class="visually-hidden">Action</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.value.map((entry) => (
                <tr key={`${entry.account}${entry.systemId}`}>
                  <th scope="row">
                    {entry.hostname || entry.systemId} <code class="sub">{entry.systemId}</code>
                  </th>
                  <td>{entry.reason}</td>
                  <td>
                    <When at={entry.until} />
                  </td>
                  <td>
                    {canWrite.value ? (
                      <button
                        type="button"
                        class="button small"
                        aria-label={`Let ${entry.hostname || entry.systemId} be picked again`}
                        disabled={busy.value}
                        onClick={() =>
                          run(async () => {
                            await api(
                              'DELETE',
                              `${ask}/accounts/${entry.account}/quarantine/${entry.systemId}`,
                            );
                            await load();
                          })
                        }
                      >
                        Let it be picked again
                      </button>
                    ) : null}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {adding.value ? (
        <AddToQuarantine
          ask={ask}
          account={account}
          onDone={load}
          onClose={() => {
            adding.value = false;
          }}
        />
      ) : null}
    </section>
  );
}

function AddToQuarantine({
  ask,
  account,
  onDone,
  onClose,
}: {
  ask: string;
  account: string;
  onDone: () => Promise<void>;
  onClose: () => void;
}) {
  const systemId = useSignal('');
  const reason = useSignal('');
  return (
    <ConfirmDialog
      title="Do not pick a machine"
      verb="Add to quarantine"
      calm
      onClose={onClose}
      onConfirm={async () => {
        await api('POST', `${ask}/accounts/${account}/quarantine`, {
          systemId: systemId.value.trim(),
          reason: reason.value.trim(),
        });
        await onDone();
      }}
    >
      <TextField
        label="MAAS system id"
        value={systemId.value}
        required
        autofocus
        onInput={(value) => {
          systemId.value = value;
        }}
      />
      <TextField
        label="Why"
        value={reason.value}
        required
        onInput={(value) => {
          reason.value = value;
        }}
      />
    </ConfirmDialog>
  );
}

function Orphans({ ask, account }: { ask: string; account: string }) {
  const list = useSignal<(Orphan & { releasable?: boolean })[] | undefined>(undefined);
  const releasing = useSignal<Orphan | undefined>(undefined);
  const { busy, problem, run } = useTask();
  const path = `${ask}/accounts/${account}/orphans`;
  const load = async () => {
    list.value = await api<Orphan[]>('GET', path);
  };
  useEffect(() => {
    void run(load);
  }, [path]);
  return (
    <>
      <h3>Machines that no cluster claims</h3>
      {problem.value ? <ProblemBox problem={problem.value} /> : null}
      {list.value === undefined ? (
        busy.value ? (
          <Loading />
        ) : null
      ) : list.value.length === 0 ? (
        <p class="sub">None: every machine that is held belongs to a cluster.</p>
      ) : (
        <ul class="plain">
          {list.value.map((orphan) => (
            <li key={orphan.systemId} class="line">
              <strong>{orphan.hostname}</strong> <code>{orphan.systemId}</code>
              <span class="sub">
                {orphan.status}: {orphan.reason}
              </span>
              {canWrite.value && orphan.releasable ? (
                <button
                  type="button"
                  class="button small danger"
                  aria-label={`Release ${orphan.hostname}`}
                  onClick={() => {
                    releasing.value = orphan;
                  }}
                >
                  Release
                </button>
              ) : null}
            </li>
          ))}
        </ul>
      )}
      {releasing.value ? (
        <ConfirmDialog
          title={`Release ${releasing.value.hostname}`}
          verb="Release machine"
          onClose={() => {
            releasing.value = undefined;
          }}
          onConfirm={async () => {
            await api('POST', `${path}/${releasing.value?.systemId}/release`, {});
            await load();
          }}
        >
          <p>
            The machine is switched off and goes back to MAAS. What is on its disks is lost to the next user.
          </p>
        </ConfirmDialog>
      ) : null}
    </>
  );
}
