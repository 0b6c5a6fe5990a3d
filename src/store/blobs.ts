/**
 * Files that outlive the cluster they come from (snapshots of etcd): put once, listed, deleted when they are old.
 * This is the port and its simplest form, a directory on the gateway; s3.ts is the other one.
 */
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface Blob {
  /** `<cluster>/<file>`; parts of letters, digits, dot, dash and underscore. */
  readonly name: string;
  /** Wall clock, milliseconds. */
  readonly modifiedAt: number;
}

export interface BlobStore {
  /** For people: where to look. */
  readonly place: string;
  /** Complete when it resolves; a blob of this name is replaced, and the file may be gone. `sha256`: its lower-case hex. */
  put(name: string, file: string, sha256: string, signal: AbortSignal): Promise<void>;
  list(prefix: string, signal: AbortSignal): Promise<Blob[]>;
  delete(name: string, signal: AbortSignal): Promise<void>;
}

/** Snapshots hold every secret of a cluster: nobody but the gateway's user reads them. */
const DIRECTORY_MODE = 0o700;

/** On the disk, not in memory: a snapshot that a power failure can take is none. */
async function flush(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}

/** `file` of `put` is on the file system of `directory`. */
export function directoryBlobs(directory: string): BlobStore {
  return {
    place: directory,
    async put(name, file) {
      const target = join(directory, name);
      await mkdir(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
      // Moved, not copied: it would take its size of the disk twice. A crash leaves it there or here, never a part of it.
      await flush(file);
      await rename(file, target);
      await flush(dirname(target));
    },
    async list(prefix) {
      const folder = join(directory, dirname(`${prefix}x`));
      const names = await readdir(folder).catch(() => []);
      const found: Blob[] = [];
      for (const entry of names) {
        const name = join(dirname(`${prefix}x`), entry);
        if (!name.startsWith(prefix)) continue;
        found.push({ name, modifiedAt: (await stat(join(directory, name))).mtimeMs });
      }
      return found;
    },
    async delete(name) {
      await rm(join(directory, name), { force: true });
    },
  };
}
