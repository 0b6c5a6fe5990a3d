/** The command as a process of its own: where it starts, and what every test gives to it. */
import { fileURLToPath } from 'node:url';

export const ENTRY = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** PATH, and where Node keeps what it compiled (test/support/compile-cache.ts); nothing else of the test's own. */
export function bareEnvironment(): Record<string, string> {
  const { PATH = '', NODE_COMPILE_CACHE } = process.env;
  return { PATH, ...(NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE }) };
}
