/**
 * JSON-lines logging (pino). Constant messages, facts in fields {gateway, cluster, machine, task, attempt}.
 * Secrets are kept out twice: by the `Secret` type, which prints as [secret], and by redaction paths.
 */
import type { Writable } from 'node:stream';
import { type DestinationStream, type Logger, pino } from 'pino';
import { BoundedDestination } from './log-destination.ts';

export type Log = Logger;

const REDACTED_PATHS = [
  'apiKey',
  'password',
  'secret',
  'token',
  'authorization',
  'code',
  'privateKey',
  'userData',
  'key',
  '*.apiKey',
  '*.password',
  '*.secret',
  '*.token',
  '*.authorization',
  '*.privateKey',
  '*.userData',
  'headers.authorization',
  '*.headers.authorization',
  'proxy.password',
].filter((path) => path !== 'code'); // error codes are facts; pairing codes travel as Secret

/** Without `destination` to stdout. Streams are written to in bounded memory; others take every line. */
export function createLog(options: {
  name: string;
  level?: string;
  destination?: Writable | DestinationStream;
}): Log {
  const { destination = process.stdout } = options;
  const settings = {
    name: options.name,
    level: options.level ?? 'info',
    base: { program: options.name },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: REDACTED_PATHS, censor: '[secret]' },
  };
  return pino(settings, 'writableLength' in destination ? new BoundedDestination(destination) : destination);
}

export const silentLog: Log = pino({ level: 'silent' });

/** A value that cannot be logged, serialised or concatenated by accident. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  /** The one way to the plain text; call it at the edge that needs it. */
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}
