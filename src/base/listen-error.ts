/** A listener that could not be opened, told so that the reader knows which setting to change and why. */
import { PcgError } from './errors.ts';

const REASONS: Readonly<Record<string, { reason: string; fix: string }>> = {
  EADDRINUSE: { reason: 'another program listens there', fix: 'Stop that program or choose another port.' },
  EADDRNOTAVAIL: {
    reason: 'this host does not have the address',
    fix: 'Give an address of this host, or 0.0.0.0 for all of them.',
  },
  EACCES: {
    reason: 'this user may not',
    fix: 'Choose a port above 1023, or a directory that this user may write.',
  },
  EINVAL: { reason: 'the path is too long for a socket', fix: 'Give a path of at most 107 characters.' },
  ENOTFOUND: { reason: 'the name does not resolve', fix: 'Give an address of this host.' },
};

/** `where`: as it was asked for, `host:port` or a path. `field`: the flag or setting that says so. */
export function listenError(where: string, field: string, cause: unknown): PcgError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  const { reason, fix } = REASONS[code] ?? { reason: code, fix: undefined };
  return new PcgError('BAD_CONFIG', `cannot listen on ${where}: ${reason}`, { field, fix, cause });
}
