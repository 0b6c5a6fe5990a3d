/**
 * Saves etcd: the snapshot is spooled on the gateway, proved against the checksum that etcd puts at its end, and
 * only then stored; a short or damaged file never counts as a backup. Old ones go after the time they are kept. The disk
 * is that of the gateway's own records, without which it can do nothing at all: some of it always stays free.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, PcgError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type BlobStore, directoryBlobs } from '../../store/blobs.ts';
import { s3Blobs } from '../../store/s3.ts';
import type { SnapshotDoor, StepContext } from '../context.ts';
import { openCredentials } from './credentials.ts';

/** etcd ends a snapshot with the SHA-256 of what came before; the database itself is a multiple of this. */
const PAGE_BYTES = 512;
const DIGEST_BYTES = 32;
const HOUR_MS = 3_600_000;

const GIB = 2 ** 30;
/** Free space is looked at again after this much was written: what was announced may be wrong. */
const LOOK_BYTES = 16 * 2 ** 20;

/** `label` tells the snapshots of a cluster apart; one of the same label is replaced. Throws BACKUP_TARGET_FAILED, STORAGE_FAILED. */
export async function snapshotEtcd(
  context: StepContext,
  label: string,
  signal: AbortSignal,
): Promise<Readonly<Record<string, unknown>>> {
  const { snapshots } = context;
  if (snapshots === undefined)
    throw new PcgError('BACKUP_TARGET_FAILED', 'this gateway has no directory for snapshots');
  const { directory } = snapshots;
  const store = storeOf(context, directory);
  const name = `${context.document.id}/etcd-${label}.db`;
  // A scheduled snapshot may be under way beside the one of an upgrade.
  const file = join(spoolOf(directory), name.replace('/', '-'));
  try {
    await mkdir(spoolOf(directory), { recursive: true, mode: 0o700 });
    const { bytes, sha256 } = await download(file, store, context, signal);
    await store.put(name, file, sha256, signal);
    const removed = await expire(store, context, signal);
    return { stored: true, place: store.place, name, bytes, sha256, removed };
  } catch (error) {
    signal.throwIfAborted();
    throw isOfDisk(error) ? diskError(directory, error) : error;
  } finally {
    await rm(file, { force: true });
  }
}

/** What a gateway that was killed had begun: nobody goes on with it, and it holds every secret of a cluster. */
export async function clearSpool({ directory }: SnapshotDoor, log: Log): Promise<void> {
  try {
    await rm(spoolOf(directory), { recursive: true, force: true });
  } catch (error) {
    log.warn({ error: describeError(error) }, 'unfinished snapshots could not be deleted');
  }
}

function spoolOf(directory: string): string {
  return join(directory, '.spool');
}

/** Errors of files name the system call. */
function isOfDisk(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string';
}

function diskError(directory: string, cause: Error & { readonly code: string }): PcgError {
  const why = cause.code === 'ENOSPC' || cause.code === 'EDQUOT' ? 'its disk is full' : cause.code;
  return new PcgError('STORAGE_FAILED', `the snapshot cannot be kept in ${directory}: ${why}`, {
    details: { errno: cause.code },
    cause,
  });
}

/** Throws STORAGE_FAILED when less than the reserve would stay free beside `bytes` more. */
async function assertRoom(
  { directory, reserveBytes = GIB }: SnapshotDoor,
  bytes: number,
  keeps: 'kept here' | 'passes through',
): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free - bytes >= reserveBytes) return;
  const mib = (count: number) => `${Math.ceil(count / 2 ** 20)} MiB`;
  throw new PcgError(
    'STORAGE_FAILED',
    `no room for the snapshot in ${directory}: ${mib(bytes)} needed, ${mib(reserveBytes)} must stay free, ${mib(free)} are free`,
    {
      fix:
        keeps === 'kept here'
          ? 'Free space on the disk of the state directory, name a backup target, or shorten policies.backups.ttlHours.'
          : 'Free space on the disk of the state directory: a snapshot passes through it on its way to the backup target.',
      details: { neededBytes: bytes, reserveBytes, freeBytes: free },
    },
  );
}

function storeOf(context: StepContext, directory: string): BlobStore {
  const { target } = context.document.spec.policies.backups;
  if (target === undefined) return directoryBlobs(directory);
  const credentials = openCredentials(context);
  if (credentials === undefined)
    throw new PcgError('BACKUP_TARGET_FAILED', 'the backup target has no credentials for this gateway', {
      field: 'spec.policies.backups.target.credentials',
    });
  return s3Blobs({ ...target, ...credentials }, context.clock);
}

async function download(
  path: string,
  store: BlobStore,
  context: StepContext,
  signal: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const whole = createHash('sha256');
  const content = createHash('sha256');
  let tail: Buffer = Buffer.alloc(0);
  let bytes = 0;
  let lookAt = LOOK_BYTES;
  await using etcd = await context.etcd();
  const members = await etcd.health(signal);
  const announced = Math.max(0, ...members.map(({ dbSizeBytes }) => dbSizeBytes ?? 0));
  await makeRoom(announced, store, context, signal);
  const file = await open(path, 'w', 0o600);
  try {
    for await (const piece of etcd.snapshot(signal)) {
      if (bytes >= lookAt) {
        await makeRoom(0, store, context, signal);
        lookAt = bytes + LOOK_BYTES;
      }
      await file.writeFile(piece); // all of it, where `write` may take a part
      whole.update(piece);
      bytes += piece.byteLength;
      tail = Buffer.concat([tail, piece]);
      const known = Math.max(0, tail.length - DIGEST_BYTES);
      content.update(tail.subarray(0, known));
      tail = tail.subarray(known);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  if (bytes % PAGE_BYTES !== DIGEST_BYTES || !content.digest().equals(tail))
    throw new PcgError('BACKUP_TARGET_FAILED', 'the snapshot does not match its own checksum', {
      retryable: true,
      details: { bytes },
    });
  return { bytes, sha256: whole.digest('hex') };
}

/** Those whose time is over make room before a new one is there, but for the newest: it may be all that there is. */
async function makeRoom(
  bytes: number,
  store: BlobStore,
  context: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const { snapshots } = context;
  if (snapshots === undefined) return;
  const { target } = context.document.spec.policies.backups;
  const keeps = target === undefined ? 'kept here' : 'passes through';
  try {
    await assertRoom(snapshots, bytes, keeps);
  } catch (error) {
    const helps = error instanceof PcgError && keeps === 'kept here';
    if (!helps || (await expire(store, context, signal, 'but the newest')) === 0) throw error;
    await assertRoom(snapshots, bytes, keeps);
  }
}

async function expire(
  store: BlobStore,
  context: StepContext,
  signal: AbortSignal,
  which: 'all' | 'but the newest' = 'all',
): Promise<number> {
  const limit = context.clock.now() - context.document.spec.policies.backups.ttlHours * HOUR_MS;
  const blobs = await store.list(`${context.document.id}/etcd-`, signal);
  const newest = Math.max(...blobs.map(({ modifiedAt }) => modifiedAt));
  const old = blobs.filter(
    ({ modifiedAt }) => modifiedAt < limit && (which === 'all' || modifiedAt < newest),
  );
  for (const { name } of old) await store.delete(name, signal);
  return old.length;
}
