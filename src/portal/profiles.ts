/**
 * Cluster profiles: stored as written, resolved once per cluster generation into what a gateway needs.
 * Editing a profile raises its revision and leaves running clusters as they are until their next change.
 */
import { PcgError } from '../base/errors.ts';
import type { ClusterSpec } from '../contract/cluster.ts';
import { DEFAULT_PROFILE, SEED_PROFILES } from '../contract/default-profile.ts';
import {
  CLUSTER_PARAMETERS,
  type ManifestPack,
  type Pack,
  type Profile,
  ProfileSchema,
  type ResolvedProfile,
  ResolvedProfileSchema,
} from '../contract/profile.ts';
import { assertSupported } from '../kube/versions.ts';
import { newId } from './ids.ts';
import type { Portal } from './portal.ts';
import { isUniqueViolation } from './store/open.ts';

export type ProfileInput = Omit<Profile, 'id' | 'revision'>;
export type PackValues = Record<string, Record<string, string | number | boolean>>;

/** Parameters of these names take the cluster's own values: they must not be typed twice. */
function clusterValues(spec: ClusterSpec): Record<string, string> {
  return { podCidr: spec.network.podCidr, serviceCidr: spec.network.serviceCidr, clusterName: spec.name };
}

/** The default one first, the others by name. */
export async function listProfiles(portal: Portal): Promise<Profile[]> {
  const rows = await portal.db.selectFrom('profiles').select('body').orderBy('name', 'asc').execute();
  const profiles = rows.map((row) => ProfileSchema.parse(JSON.parse(row.body)));
  const rank = ({ id }: Profile) => (id === DEFAULT_PROFILE.id ? 0 : 1);
  return profiles.sort((a, b) => rank(a) - rank(b));
}

/** R26: a first cluster needs a profile, so a new portal has some. All of them or none: deleted ones stay deleted. */
export async function seedProfiles(portal: Portal): Promise<void> {
  if ((await listProfiles(portal)).length > 0) return;
  const rows = SEED_PROFILES.map((profile) => newRow(portal, profile));
  await portal.db
    .insertInto('profiles')
    .values(rows)
    .execute()
    .catch((error: unknown) => {
      // Another portal process on the same store was first.
      if (!isUniqueViolation(error)) throw error;
    });
}

function newRow(portal: Portal, profile: Profile) {
  const { id, name, revision } = profile;
  return { id, name, revision, body: JSON.stringify(profile), created_at: portal.clock.now() };
}

export async function findProfile(portal: Portal, id: string, field?: string): Promise<Profile> {
  const row = await portal.db.selectFrom('profiles').select('body').where('id', '=', id).executeTakeFirst();
  if (!row) throw new PcgError('NOT_FOUND', `there is no profile ${id}`, { field });
  return ProfileSchema.parse(JSON.parse(row.body));
}

export async function createProfile(portal: Portal, input: ProfileInput, id = newId('pr')): Promise<Profile> {
  const profile: Profile = { ...input, id, revision: 1 };
  checkPacks(profile.packs);
  try {
    await portal.db.insertInto('profiles').values(newRow(portal, profile)).execute();
  } catch (cause) {
    if (isUniqueViolation(cause))
      throw new PcgError('CONFLICT', `a profile ${profile.name} exists`, { field: 'name', cause });
    throw cause;
  }
  return profile;
}

/** Replaces the profile when `revision` is still the newest. */
export async function changeProfile(
  portal: Portal,
  id: string,
  revision: number,
  input: ProfileInput,
): Promise<Profile> {
  const current = await findProfile(portal, id);
  const profile: Profile = { ...input, id, revision: revision + 1 };
  checkPacks(profile.packs);
  const { numUpdatedRows } = await portal.db
    .updateTable('profiles')
    .set({ name: profile.name, revision: profile.revision, body: JSON.stringify(profile) })
    .where('id', '=', id)
    .where('revision', '=', revision)
    .executeTakeFirst();
  if (numUpdatedRows === 0n)
    throw new PcgError('CONFLICT', `the profile is at revision ${current.revision}, not ${revision}`, {
      field: 'revision',
    });
  return profile;
}

export async function removeProfile(portal: Portal, id: string): Promise<void> {
  await findProfile(portal, id);
  const users = await portal.db
    .selectFrom('clusters')
    .select(['id', 'name'])
    .where('profile_id', '=', id)
    .where('deleted_at', 'is', null)
    .execute();
  if (users.length > 0)
    throw new PcgError('CONFLICT', `${users.length} cluster(s) use this profile`, {
      details: { clusters: users },
    });
  await portal.db.deleteFrom('profiles').where('id', '=', id).execute();
}

/** Profile + overrides + the cluster's own values: every parameter has a value of its type, nothing unknown was named. */
export function resolveProfile(profile: Profile, spec: ClusterSpec): ResolvedProfile {
  const at = 'spec.packValues';
  const { packValues } = spec;
  const own = clusterValues(spec);
  for (const name of Object.keys(packValues)) {
    const pack = profile.packs.find((candidate) => candidate.name === name);
    if (!pack || !('manifests' in pack))
      throw new PcgError('INVALID_INPUT', `profile ${profile.name} has no pack "${name}" with parameters`, {
        field: `${at}.${name}`,
        fix: `Packs with parameters: ${parameterised(profile).join(', ') || 'none'}.`,
      });
  }
  const filled = profile.packs.map((pack) =>
    'manifests' in pack ? fill(pack, packValues[pack.name] ?? {}, own, `${at}.${pack.name}`) : pack,
  );
  const only = <L extends Pack['layer']>(layer: L) =>
    filled.filter((pack): pack is Extract<Pack, { layer: L }> => pack.layer === layer);
  return ResolvedProfileSchema.parse({
    id: profile.id,
    name: profile.name,
    revision: profile.revision,
    os: only('os')[0],
    kubernetes: only('kubernetes')[0],
    cni: only('cni')[0],
    addons: only('addon'),
  });
}

function parameterised(profile: Profile): string[] {
  return profile.packs
    .filter((pack) => 'parameters' in pack && pack.parameters.length > 0)
    .map((pack) => pack.name);
}

function fill<P extends ManifestPack>(
  pack: P,
  overrides: PackValues[string],
  own: Record<string, string>,
  at: string,
): P {
  const known = new Set(pack.parameters.map((parameter) => parameter.name));
  for (const name of Object.keys(overrides))
    if (!known.has(name))
      throw new PcgError('INVALID_INPUT', `pack ${pack.name} has no parameter "${name}"`, {
        field: `${at}.${name}`,
        fix: `Its parameters: ${[...known].join(', ') || 'none'}.`,
      });
  const values: PackValues[string] = {};
  for (const parameter of pack.parameters) {
    const { name } = parameter;
    const value = overrides[name] ?? own[name] ?? pack.values[name] ?? parameter.default;
    const field = `${at}.${parameter.name}`;
    if (value === undefined) {
      // The gateway knows the cluster's own networks and endpoint.
      if (parameter.required && !CLUSTER_PARAMETERS.includes(parameter.name))
        throw new PcgError('INVALID_INPUT', `give ${parameter.name}`, { field });
      continue;
    }
    const wrong = mistake(parameter, value);
    if (wrong) throw new PcgError('INVALID_INPUT', `${parameter.name} ${wrong}`, { field });
    values[parameter.name] = value;
  }
  return { ...pack, values };
}

function mistake(
  parameter: ManifestPack['parameters'][number],
  value: string | number | boolean,
): string | undefined {
  switch (parameter.type) {
    case 'integer':
      if (!Number.isSafeInteger(value)) return 'must be a whole number';
      break;
    case 'boolean':
      if (typeof value !== 'boolean') return 'must be true or false';
      break;
    case 'cidr':
      if (typeof value !== 'string' || !/^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/.test(value))
        return 'must be a network like 10.1.0.0/16';
      break;
    case 'string':
      if (typeof value !== 'string') return 'must be text';
      break;
  }
  if (parameter.enum && !parameter.enum.includes(String(value)))
    return `must be one of ${parameter.enum.join(', ')}`;
  return undefined;
}

/** One OS, one Kubernetes that can be installed, one CNI; names unique. */
function checkPacks(packs: readonly Pack[]): void {
  for (const layer of ['os', 'kubernetes', 'cni'] as const) {
    const count = packs.filter((pack) => pack.layer === layer).length;
    if (count !== 1)
      throw new PcgError('INVALID_INPUT', `a profile needs exactly one ${layer} pack, this has ${count}`, {
        field: 'packs',
      });
  }
  const seen = new Set<string>();
  packs.forEach((pack, index) => {
    if (pack.layer === 'kubernetes')
      assertSupported(pack.kubernetesVersion, `packs[${index}].kubernetesVersion`);
    if (seen.has(pack.name))
      throw new PcgError('INVALID_INPUT', `pack name "${pack.name}" is used twice`, {
        field: `packs[${index}].name`,
      });
    seen.add(pack.name);
  });
}
