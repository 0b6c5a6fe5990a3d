/**
 * Saves etcd: the snapshot is spooled on the gateway, proved against the checksum that etcd puts at its end, and
 * only then stored; a short or damaged file never counts as a backup. Old ones go after the time they are kept.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PcgError } from '../../base/errors.ts';
import { type BlobStore, directoryBlobs } from '../../store/blobs.ts';
import { s3Blobs } from '../../store/s3.ts';
import type { StepContext } from '../context.ts';
import { openCredentials } from './credentials.ts';

/** etcd ends a snapshot with the SHA-256 of what came before; the database itself is a multiple of this. */
const PAGE_BYTES = 512;
const DIGEST_BYTES = 32;
const HOUR_MS = 3_600_000;

export async function snapshotEtcd(
  context: StepContext,
  startedAt: number,
  signal: AbortSignal,
): Promise<Readonly<Record<string, unknown>>> {
  const { snapshots } = context;
  if (snapshots === undefined)
    throw new PcgError('BACKUP_TARGET_FAILED', 'this gateway has no directory for snapshots');
  const { backups } = context.document.spec.policies;
  const store = storeOf(context, snapshots.directory);
  const name = `${context.document.id}/etcd-${new Date(startedAt).toISOString().replace(/[:.]/g, '-')}.db`;
  const spool = join(snapshots.directory, '.spool');
  await mkdir(spool, { recursive: true, mode: 0o700 });
  const file = join(spool, `${context.document.id}.db`);
  try {
    const { bytes, sha256 } = await download(file, context, signal);
    await store.put(name, file, sha256, signal);
    const removed = await expire(store, context, backups.ttlHours * HOUR_MS, signal);
    return { stored: true, place: store.place, name, bytes, sha256, removed };
  } finally {
    await rm(file, { force: true });
  }
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
  context: StepContext,
  signal: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const whole = createHash('sha256');
  const content = createHash('sha256');
  let tail: Buffer = Buffer.alloc(0);
  let bytes = 0;
  await using etcd = await context.etcd();
  const file = await open(path, 'w', 0o600);
  try {
    for await (const piece of etcd.snapshot(signal)) {
      await file.write(piece);
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

async function expire(
  store: BlobStore,
  context: StepContext,
  ttlMs: number,
  signal: AbortSignal,
): Promise<number> {
  const limit = context.clock.now() - ttlMs;
  const blobs = await store.list(`${context.document.id}/etcd-`, signal);
  const old = blobs.filter(({ modifiedAt }) => modifiedAt < limit);
  for (const { name } of old) await store.delete(name, signal);
  return old.length;
}
