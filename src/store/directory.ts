/** Directories of durable state. */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { PcgError } from '../base/errors.ts';

/**
 * Makes the directory (0700) and those above that are missing. Throws STORAGE_FAILED with the system's reason.
 * One by one: Node's own `recursive` never returns where a file system (as /proc) lets nothing be made.
 */
export function makeDirectory(path: string): void {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
    const parent = dirname(path);
    if (parent !== path) makeDirectory(parent);
    mkdirSync(path, { mode: 0o700 });
  } catch (cause) {
    if (cause instanceof PcgError) throw cause;
    // another process was first
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new PcgError('STORAGE_FAILED', `cannot make the directory ${path}: ${reason}`, { cause });
  }
}
