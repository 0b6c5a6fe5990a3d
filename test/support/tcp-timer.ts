import { readFileSync } from 'node:fs';

/** Milliseconds until Linux probes a silent TCP connection (IPv4) of this local port; undefined: it never will. */
export function probesInMs(localPort: number): number | undefined {
  const port = `:${localPort.toString(16).toUpperCase().padStart(4, '0')}`;
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)) {
    const [, local, , state, , timer] = line.trim().split(/\s+/);
    if (!local?.endsWith(port) || state !== '01') continue;
    const [kind, hundredths] = (timer ?? '').split(':');
    return kind === '02' ? Number.parseInt(hundredths ?? '', 16) * 10 : undefined;
  }
  throw new Error(`no connection has the local port ${localPort}`);
}
