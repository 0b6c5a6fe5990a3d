/** What a setting's value must be beyond its format. Each check answers with what is wrong, or undefined. */

export const LOG_LEVELS: readonly string[] = ['trace', 'debug', 'info', 'warn', 'error'];

const HIGHEST_PORT = 65_535;

export function logLevel(value: unknown): string | undefined {
  return LOG_LEVELS.includes(String(value)) ? undefined : `"${value}" is none of ${LOG_LEVELS.join(', ')}`;
}

export function atLeast(least: number): (value: unknown) => string | undefined {
  return (value) => (Number(value) >= least ? undefined : `${value} is less than ${least}`);
}

/** `host:port`, `[::1]:port`, a port alone, or empty for none. */
export function hostAndPort(value: unknown): string | undefined {
  const text = String(value);
  if (text === '') return undefined;
  const port = /^(?:(?:\[[^\]]*\]|[^:[\]]*):)?(\d+)$/.exec(text)?.[1];
  return port !== undefined && Number(port) <= HIGHEST_PORT ? undefined : `"${text}" is not host:port`;
}

/** The value is not quoted: it may hold a password. */
export function webUrl(value: unknown): string | undefined {
  return /^https?:/i.test(String(value)) ? undefined : 'it must start with http:// or https://';
}
