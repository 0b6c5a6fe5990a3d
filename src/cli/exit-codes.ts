/** Exit codes of every command, stable; `pcg help exit-codes` prints this table and a test walks it. */
import { PcgError } from '../base/errors.ts';
import { ERROR_CODES } from '../contract/errors.ts';

export const EXIT_CODES: readonly { code: number; meaning: string }[] = [
  { code: 0, meaning: 'ok' },
  { code: 1, meaning: 'failure' },
  { code: 2, meaning: 'wrong usage or input' },
  { code: 3, meaning: 'cancelled' },
  { code: 4, meaning: 'authentication or pairing refused' },
  { code: 5, meaning: 'preflight failed' },
  { code: 6, meaning: 'portal unreachable' },
  { code: 7, meaning: 'MAAS unreachable or refused' },
  { code: 8, meaning: 'still pending (timeout)' },
  { code: 9, meaning: 'conflict (running clusters, update in progress)' },
  { code: 10, meaning: 'not enough machines' },
  { code: 75, meaning: 'temporary failure, try again' },
  { code: 78, meaning: 'bad configuration' },
  { code: 130, meaning: 'interrupted (SIGINT)' },
  { code: 143, meaning: 'terminated (SIGTERM)' },
];

/** Name of the error that a first Ctrl-C or SIGTERM aborts everything with. */
export class SignalError extends Error {
  readonly signal: 'SIGINT' | 'SIGTERM';
  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`stopped by ${signal}`);
    this.name = 'SignalError';
    this.signal = signal;
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof SignalError) return error.signal === 'SIGINT' ? 130 : 143;
  return error instanceof PcgError ? ERROR_CODES[error.code].exit : 1;
}
