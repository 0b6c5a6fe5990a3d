/** Which MAAS the live suites talk to: PCG_MAAS_URL, PCG_MAAS_API_KEY and, for a user without rights, PCG_MAAS_USER_KEY. */
import type { LiveOptions } from '../../conformance/live-site.ts';

/** Throws when it is not said: a live suite without a MAAS has proved nothing. */
export function liveMaas(): LiveOptions {
  const url = process.env['PCG_MAAS_URL'];
  const apiKey = process.env['PCG_MAAS_API_KEY'];
  const userKey = process.env['PCG_MAAS_USER_KEY'];
  if (!url || !apiKey)
    throw new Error(
      'set PCG_MAAS_URL (http://host:5240/MAAS) and PCG_MAAS_API_KEY (an admin key) to run the live suites',
    );
  return { url, apiKey, ...(userKey ? { userKey } : {}) };
}
