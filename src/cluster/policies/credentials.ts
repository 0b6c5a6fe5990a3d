/** Opens the credentials of a cluster's backup target, at the moment they are used and no earlier. */
import { PcgError } from '../../base/errors.ts';
import {
  type BackupCredentials,
  BackupCredentialsSchema,
  backupTargetContext,
} from '../../contract/policies.ts';
import type { SnapshotDoor, StepContext } from '../context.ts';

const FIELD = 'spec.policies.backups.target.credentials';

/** Undefined without a target, or when this gateway keeps no snapshots. Throws BACKUP_TARGET_FAILED. */
export function openCredentials({ document, snapshots }: StepContext): BackupCredentials | undefined {
  const { target } = document.spec.policies.backups;
  if (target?.sealedCredentials === undefined || snapshots === undefined) return undefined;
  const opened = parse(open(snapshots, target.sealedCredentials, backupTargetContext(target)));
  if (opened === undefined)
    throw new PcgError('BACKUP_TARGET_FAILED', 'the credentials of the backup target are malformed', {
      field: FIELD,
      fix: 'Enter the credentials of the backup target again.',
      retryable: false,
    });
  return opened;
}

function open(door: SnapshotDoor, sealed: string, context: string): string {
  try {
    return door.open(sealed, context);
  } catch (cause) {
    throw new PcgError(
      'BACKUP_TARGET_FAILED',
      'this gateway cannot open the credentials of the backup target',
      {
        field: FIELD,
        fix: 'Enter them again: they were sealed for another gateway or another target.',
        retryable: false,
        cause,
      },
    );
  }
}

/** A parser's message would quote the secret: no cause, no text. */
function parse(text: string): BackupCredentials | undefined {
  try {
    return BackupCredentialsSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
