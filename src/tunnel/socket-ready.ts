/** Waiting for a socket to be usable, with exactly one outcome and nothing left behind. */
import type { Duplex } from 'node:stream';

/**
 * Of TCP connections to targets: a peer that lost its power says nothing, and a stream that waits for it takes a
 * place for ever. The system's own delay is two hours.
 */
export const NOTICES_LOSS = { keepAlive: true, keepAliveInitialDelay: 30_000 } as const;

/**
 * Resolves to the socket at its `event` (`connect`, `secureConnect`). Rejects with its error, or with the signal's
 * reason; the socket is destroyed then.
 */
export function socketReady<T extends Duplex>(socket: T, event: string, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      socket.off(event, onReady).off('error', onError);
      signal.removeEventListener('abort', onAbort);
    };
    const onReady = (): void => {
      finish();
      resolve(socket);
    };
    const onError = (error: unknown): void => {
      finish();
      socket.on('error', () => {}); // a second error of a given-up socket is nobody's
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => onError(signal.reason);
    if (signal.aborted) return onAbort();
    socket.once(event, onReady).once('error', onError);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
