/**
 * Which MAAS the live suites talk to: PCG_MAAS_URL, PCG_MAAS_API_KEY (an administrator's), and, as far as wanted,
 * PCG_MAAS_USER_KEY (of a user without rights) and PCG_MAAS_MACHINE (which machine the lifecycle part may use).
 */
import type { LiveOptions } from '../../conformance/live-door.ts';

/** Throws when it is not said: a live suite without a MAAS has proved nothing. */
export function liveMaas(): LiveOptions {
  const url = process.env['PCG_MAAS_URL'];
  const apiKey = process.env['PCG_MAAS_API_KEY'];
  const userKey = process.env['PCG_MAAS_USER_KEY'];
  const machine = process.env['PCG_MAAS_MACHINE'];
  if (!url || !apiKey)
    throw new Error(
      'set PCG_MAAS_URL (http://host:5240/MAAS) and PCG_MAAS_API_KEY (an administrator key) to run the live suites',
    );
  return { url, apiKey, ...(userKey ? { userKey } : {}), ...(machine ? { machine } : {}) };
}
