/** One profile, or a new one made from another: what clusters are built from. Clusters take a change when they are upgraded. */
import { useSignal } from '@preact/signals';
import type { Profile } from '../../../contract/profile.ts';
import { api } from '../api.ts';
import { plural } from '../format.ts';
import { Empty, Loading, Notice, PageHead, ProblemBox } from '../parts/basics.tsx';
import { ConfirmDialog } from '../parts/confirm-dialog.tsx';
import { TextField } from '../parts/fields.tsx';
import { Icon } from '../parts/icons.tsx';
import { PackEditor } from '../parts/pack-editor.tsx';
import { Layers } from '../parts/profile-choice.tsx';
import { draftPack, inputOf, newAddon } from '../parts/profile-draft.ts';
import { useTask } from '../parts/task.ts';
import { go, route } from '../router.ts';
import { canWrite, clusters, profiles } from '../state.ts';

/** `new?from=<id>` is a copy that does not exist yet. */
export function ProfilePage({ id }: { id: string }) {
  const list = profiles.value;
  if (!list) return <Loading />;
  const from = id === 'new' ? (route.value.query.get('from') ?? list[0]?.id) : id;
  const profile = list.find((candidate) => candidate.id === from);
  if (!profile)
    return (
      <Empty icon="profile" title="This profile does not exist (any more)">
        <p>
          <a href="/profiles">All profiles</a>
        </p>
      </Empty>
    );
  if (!canWrite.value)
    return (
      <>
        <PageHead title={profile.name} lead={profile.description} />
        <section class="card">
          <Layers profile={profile} />
        </section>
      </>
    );
  return <Editor key={`${id}${profile.revision}`} profile={profile} isNew={id === 'new'} />;
}

function Editor({ profile, isNew }: { profile: Profile; isNew: boolean }) {
  const name = useSignal(isNew ? `${profile.name}-copy` : profile.name);
  const description = useSignal(profile.description);
  const packs = useSignal(profile.packs.map(draftPack));
  const removing = useSignal(false);
  const { busy, problem, run, errorOf } = useTask();
  const users = isNew ? [] : (clusters.value ?? []).filter(({ spec }) => spec.profile === profile.id);
  const submit = (event: Event) => {
    event.preventDefault();
    void run(async () => {
      const input = inputOf(
        { name: name.value, description: description.value, scope: profile.scope },
        packs.value,
      );
      const stored = isNew
        ? await api<Profile>('POST', '/profiles', input)
        : await api<Profile>('PUT', `/profiles/${profile.id}`, { ...input, revision: profile.revision });
      const others = (profiles.value ?? []).filter(({ id }) => id !== stored.id);
      profiles.value = [...others, stored].sort((a, b) => (a.name < b.name ? -1 : 1));
      go(isNew ? `/profiles/${stored.id}` : '/profiles');
    });
  };
  const overtaken = problem.value?.field === 'revision';
  return (
    <form class="wizard-body" onSubmit={submit}>
      <PageHead
        title={isNew ? 'New profile' : profile.name}
        lead={
          isNew
            ? `A copy of ${profile.name}; change what you need.`
            : `Revision ${profile.revision}, used by ${plural(users.length, 'cluster')}.`
        }
      >
        {isNew ? null : (
          <>
            <a class="button" href={`/profiles/new?from=${profile.id}`}>
              <Icon name="copy" /> Copy
            </a>
            <button
              type="button"
              class="button danger"
              disabled={users.length > 0}
              title={users.length > 0 ? 'Clusters use it' : undefined}
              onClick={() => {
                removing.value = true;
              }}
            >
              <Icon name="trash" />{' '}
              {users.length > 0 ? `Remove (used by ${plural(users.length, 'cluster')})` : 'Remove'}
            </button>
          </>
        )}
      </PageHead>
      {users.length > 0 ? (
        <Notice tone="info" icon="info">
          Clusters keep what they run until they are upgraded: open one and press Upgrade.
        </Notice>
      ) : null}
      <section class="card">
        <div class="grid2">
          <TextField
            label="Name"
            value={name.value}
            error={errorOf('name')}
            required
            onInput={(text) => {
              name.value = text.trim().toLowerCase();
            }}
          />
          <TextField
            label="Description"
            value={description.value}
            error={errorOf('description')}
            onInput={(text) => {
              description.value = text;
            }}
          />
        </div>
      </section>
      {packs.value.map((pack, index) => (
        <PackEditor
          key={index}
          pack={pack}
          at={`packs[${index}]`}
          errorOf={errorOf}
          onChange={(next) => {
            packs.value = packs.value.with(index, next);
          }}
          onRemove={
            pack.layer === 'addon'
              ? () => {
                  packs.value = packs.value.toSpliced(index, 1);
                }
              : undefined
          }
        />
      ))}
      <button
        type="button"
        class="button"
        onClick={() => {
          packs.value = [...packs.value, newAddon(packs.value.length)];
        }}
      >
        <Icon name="plus" /> Add add-on
      </button>
      {problem.value ? (
        <ProblemBox
          problem={problem.value}
          title={overtaken ? 'Somebody else changed the profile meanwhile' : 'The profile was not saved'}
        />
      ) : null}
      <div class="actions end sticky">
        <a class="button" href="/profiles">
          Cancel
        </a>
        {overtaken ? (
          <button
            type="button"
            class="button primary"
            onClick={() =>
              run(async () => {
                profiles.value = (await api<{ items: Profile[] }>('GET', '/profiles')).items;
              })
            }
          >
            Start again from the newest
          </button>
        ) : (
          <button type="submit" class="button primary" disabled={busy.value}>
            {busy.value ? 'Saving…' : isNew ? 'Add profile' : 'Save as the next revision'}
          </button>
        )}
      </div>
      {removing.value ? (
        <ConfirmDialog
          title={`Remove profile ${profile.name}`}
          verb="Remove profile"
          onClose={() => {
            removing.value = false;
          }}
          onConfirm={async () => {
            await api('DELETE', `/profiles/${profile.id}`);
            profiles.value = (profiles.value ?? []).filter(({ id }) => id !== profile.id);
            go('/profiles');
          }}
        >
          <p>No cluster uses it. It cannot be brought back.</p>
        </ConfirmDialog>
      ) : null}
    </form>
  );
}
