/** Cluster profiles: which layers and packs a cluster is made of. */
import { Empty, Loading, PageHead } from '../parts/basics.tsx';
import { profiles } from '../state.ts';

export function ProfilesPage() {
  const list = profiles.value;
  return (
    <>
      <PageHead
        title="Profiles"
        lead="What clusters are made of: operating system, Kubernetes, network and add-ons."
      />
      {list === undefined ? (
        <Loading />
      ) : list.length === 0 ? (
        <Empty icon="profile" title="No profile" />
      ) : (
        <ul class="cards">
          {list.map((profile) => (
            <li key={profile.id} class="card">
              <div class="card-head">
                <h2>{profile.name}</h2>
                <span class="tag">revision {profile.revision}</span>
              </div>
              <p class="sub">{profile.description}</p>
              <ol class="layers">
                {profile.packs.map((pack) => (
                  <li key={pack.name}>
                    <span class="layer">{pack.layer}</span>
                    <strong>{pack.name}</strong>{' '}
                    {pack.layer === 'kubernetes' ? pack.kubernetesVersion : pack.version}
                    {'parameters' in pack && pack.parameters.length > 0 ? (
                      <span class="sub"> · {pack.parameters.map(({ name }) => name).join(', ')}</span>
                    ) : null}
                  </li>
                ))}
              </ol>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
