/** Reads small text files that settings name; a missing one is a coded error that names the setting. */
import { readFileSync } from 'node:fs';
import { PcgError } from '../base/errors.ts';

export function readPem(path: string, setting: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new PcgError('BAD_CONFIG', `cannot read ${path}`, { field: setting, cause });
  }
}
