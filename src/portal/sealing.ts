/**
 * Secrets that users give to the portal for a gateway. They are sealed to the gateway's key while the request is
 * handled; what is stored, shown and sent down cannot be opened here.
 */
import { PcgError } from '../base/errors.ts';
import type { ClusterSpec, ClusterSpecRequest } from '../contract/cluster.ts';
import { type BackupTarget, backupTargetContext } from '../contract/policies.ts';
import { isPublicKey, seal } from '../tunnel/identity.ts';
import { gatewayRow } from './gateways.ts';
import type { Portal } from './portal.ts';

export function sealTo(sealingKey: string, secret: string, context: string): string {
  if (!isPublicKey(sealingKey)) throw new PcgError('INTERNAL', "the gateway's sealing key is damaged");
  return seal(sealingKey, secret, context);
}

const FIELD = 'spec.policies.backups.target';

/**
 * The specification as it may be stored. `before`: the target that the cluster has already; its sealed credentials
 * stay in force while it points to the same bucket.
 */
export async function sealSpec(
  portal: Portal,
  gatewayId: string,
  request: ClusterSpecRequest,
  before?: BackupTarget,
): Promise<ClusterSpec> {
  const { target: asked, ...backups } = request.policies.backups;
  if (asked === undefined) return { ...request, policies: { ...request.policies, backups } };
  const { credentials, sealedCredentials, ...place } = asked;
  const stays = before?.url === place.url && before.bucket === place.bucket;
  if (
    credentials !== undefined &&
    sealedCredentials !== undefined &&
    sealedCredentials !== before?.sealedCredentials
  )
    throw new PcgError('INVALID_INPUT', 'give the credentials once: in the clear or sealed', {
      field: `${FIELD}.credentials`,
    });
  const given =
    credentials === undefined
      ? (sealedCredentials ?? (stays ? before.sealedCredentials : undefined))
      : sealTo(
          (await gatewayRow(portal, gatewayId)).sealing_key,
          JSON.stringify(credentials),
          backupTargetContext(place),
        );
  if (given === undefined)
    throw new PcgError('INVALID_INPUT', 'a backup target needs credentials', {
      field: `${FIELD}.credentials`,
      fix: 'Give accessKeyId and secretAccessKey; the portal seals them to the gateway and keeps no clear copy.',
    });
  if (!stays && given === before?.sealedCredentials)
    throw new PcgError('INVALID_INPUT', 'the credentials were sealed for another target', {
      field: `${FIELD}.credentials`,
      fix: 'Give the credentials of the new target.',
    });
  const target: BackupTarget = { ...place, sealedCredentials: given };
  return { ...request, policies: { ...request.policies, backups: { ...backups, target } } };
}

/** What tells two requests apart without telling secrets: the secret half of a key pair is left out. */
export function withoutSecrets(spec: ClusterSpecRequest): unknown {
  return JSON.parse(
    JSON.stringify(spec, (key, value: unknown) => (key === 'secretAccessKey' ? undefined : value)),
  );
}
