/**
 * A port to listen on by number, for programs that cannot be told to take any, for servers that stop and come back, and
 * for places where nobody must listen. Whatever port the kernel chooses it may give to somebody else a moment later, also
 * as the near end of a connection; outside of its range only those take a port who name it.
 */
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type ListenOptions } from 'node:net';

const LOWEST = 10_000;
const HIGHEST = 65_535;

/** Free on 127.0.0.1 at this moment, and nobody else's who asks here for as long as this process lives. */
export async function ownPort(): Promise<number> {
  const [from, to] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number);
  if (from === undefined || to === undefined)
    throw new Error('the kernel does not tell which ports it gives');
  const below = Math.max(0, from - LOWEST);
  const all = below + Math.max(0, HIGHEST - to);
  if (all < 1_000) throw new Error(`the kernel gives nearly all ports by itself (${from} to ${to})`);
  for (;;) {
    const nth = Math.floor(Math.random() * all);
    const port = nth < below ? LOWEST + nth : to + 1 + nth - below;
    const claim = await listening({ path: `\0pcg-tests-port-${port}` });
    const server = claim && (await listening({ port, host: '127.0.0.1' }));
    if (!server) {
      claim?.close();
      continue; // somebody has it: another one will do
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Does not keep the process alive. A path that begins with a zero is a name that the kernel forgets with the process. */
async function listening(where: ListenOptions) {
  const server = createServer().unref();
  try {
    await once(server.listen(where), 'listening');
    return server;
  } catch {
    return undefined;
  }
}
