/** Cluster profiles: which layers and packs a cluster is made of. */
import { Empty, Loading, PageHead } from '../parts/basics.tsx';
import { Icon } from '../parts/icons.tsx';
import { Layers } from '../parts/profile-choice.tsx';
import { canWrite, profiles } from '../state.ts';

export function ProfilesPage() {
  const list = profiles.value;
  return (
    <>
      <PageHead
        title="Profiles"
        lead="What clusters are made of: operating system, Kubernetes, network and add-ons."
      >
        {canWrite.value && list && list.length > 0 ? (
          <a class="button primary" href="/profiles/new">
            <Icon name="plus" /> New profile
          </a>
        ) : null}
      </PageHead>
      {list === undefined ? (
        <Loading />
      ) : list.length === 0 ? (
        <Empty icon="profile" title="No profile" />
      ) : (
        <ul class="cards">
          {list.map((profile) => (
            <li key={profile.id} class="card link">
              <div class="card-head">
                <h2>
                  <a href={`/profiles/${profile.id}`}>{profile.name}</a>
                </h2>
                <span class="tag">revision {profile.revision}</span>
              </div>
              <p class="sub">{profile.description}</p>
              <Layers profile={profile} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
