/**
 * Talks to systemd through /usr/bin/systemd-notify (plain Node cannot send to a unix datagram socket; the
 * unit sets NotifyAccess=all). Without NOTIFY_SOCKET it does nothing. The watchdog rings from the event
 * loop, so a blocked loop is noticed.
 */
import { execFile } from 'node:child_process';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

/** systemd-notify is a process per message: not more often than this, ms. */
const MIN_WATCHDOG_INTERVAL_MS = 15_000;

export interface SystemdNotifier extends Disposable {
  ready(): void;
  /** Shown by `systemctl status`. Repeats of the same text are not sent. */
  status(text: string): void;
  stopping(): void;
}

export function createSystemdNotifier(options: {
  environment: Readonly<Record<string, string | undefined>>;
  clock: Clock;
  log: Log;
}): SystemdNotifier {
  const { environment, clock, log } = options;
  if (!environment['NOTIFY_SOCKET']) return { ready() {}, status() {}, stopping() {}, [Symbol.dispose]() {} };

  const send = (...args: string[]) => {
    execFile('systemd-notify', args, (error) => {
      if (error) log.warn({ err: error }, 'systemd-notify failed');
    });
  };
  let timer: Disposable | undefined;
  const watchdogUsec = Number(environment['WATCHDOG_USEC'] ?? 0);
  if (watchdogUsec > 0) {
    const intervalMs = Math.max(MIN_WATCHDOG_INTERVAL_MS, watchdogUsec / 1000 / 2);
    const ring = () => {
      send('WATCHDOG=1');
      timer = clock.timer(intervalMs, ring);
    };
    timer = clock.timer(intervalMs, ring);
  }
  let lastStatus = '';
  return {
    ready: () => send('--ready'),
    status(text) {
      if (text !== lastStatus) send(`--status=${text}`);
      lastStatus = text;
    },
    stopping: () => send('STOPPING=1'),
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}
