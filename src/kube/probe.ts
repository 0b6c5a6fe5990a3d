/**
 * Does anybody answer at an address that should be free? A TCP connection, whatever is behind it; a host that
 * refuses the port is a host too, but behind a proxy a refusal may be the proxy's own.
 */
import { type Clock, withDeadline } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { createDispatcher, send } from './dispatcher.ts';
import { asRecord, networkError } from './errors.ts';

/** Address resolution of a host on the same site takes milliseconds; nobody there = no answer at all. */
const PROBE_MS = 1_500;

export async function isAddressTaken(
  host: string,
  port: number,
  options: { readonly clock: Clock; readonly proxyUrl?: string | undefined },
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, proxyUrl } = options;
  const origin = `https://${host}:${port}`;
  // No CA is trusted: a server ends in a TLS error, which tells as much as an answer.
  const dispatcher = createDispatcher({ caPem: '', ...(proxyUrl === undefined ? {} : { proxyUrl }) }, 1);
  try {
    await withDeadline(clock, PROBE_MS, origin, signal, async (limited) => {
      const { body } = await send(dispatcher, { origin, path: '/', method: 'GET', signal: limited });
      await body.dump();
    });
    return true;
  } catch (error) {
    const typed = networkError(error, origin, signal);
    signal.throwIfAborted();
    const reason = typed instanceof PcgError ? asRecord(typed.details)['reason'] : undefined;
    return reason === 'tls' || (reason === 'refused' && proxyUrl === undefined);
  } finally {
    await dispatcher.destroy();
  }
}
