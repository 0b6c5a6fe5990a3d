/** Another profile, its newest revision, or other parameters. What replaces nodes waits for approval. */
import { useSignal } from '@preact/signals';
import { profiles } from '../state.ts';
import { Notice } from './basics.tsx';
import { ChangeDialog, type ChangeProps } from './change-dialog.tsx';
import { packValues, typedValues, type TypedValues } from './draft.ts';
import { ProfileChoice } from './profile-choice.tsx';

export function ProfileDialog(props: ChangeProps) {
  const { spec, status } = props.cluster;
  const chosen = useSignal<{ profile: string; values: TypedValues }>({
    profile: spec.profile,
    values: typedValues(spec.packValues),
  });
  const { profile, values } = chosen.value;
  const known = profiles.value?.find(({ id }) => id === profile);
  const next = known?.packs.find((pack) => pack.layer === 'kubernetes')?.kubernetesVersion;
  const runs = status?.kubernetesVersion;
  return (
    <ChangeDialog
      {...props}
      wide
      title={`Profile of ${spec.name}`}
      verb="Make the plan"
      missing={known ? undefined : 'Choose a profile'}
      wanted={() => ({ ...spec, profile, packValues: packValues(values) })}
    >
      {(errorOf) => (
        <>
          <Notice tone="info" icon="info">
            {runs && next && runs !== next ? (
              <p>
                <strong>
                  Kubernetes {runs} → {next}
                </strong>
              </p>
            ) : null}
            <p>
              The gateway answers with a plan: which nodes are replaced, and why. Nothing moves before you
              approve it. Add-ons and their parameters change in place.
            </p>
          </Notice>
          <ProfileChoice
            profile={profile}
            values={values}
            errorOf={errorOf}
            onChange={(id, given) => {
              chosen.value = { profile: id, values: given };
            }}
          />
        </>
      )}
    </ChangeDialog>
  );
}
