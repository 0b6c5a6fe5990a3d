import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { GatewayStore, readAll, startGateway, startPortal, until } from '../support/tunnel-pair.ts';
import { tcpServer } from '../support/wire.ts';

/** Bytes between cuts: prime, so that cuts fall into every part of frames over the runs. */
const STEP = 151;
const LAST = 6100;

/** A pipe to `port` that breaks the first connection after `bytes` in one direction, then passes everything. */
function breakingPipe(port: number, direction: 'up' | 'down', bytes: number, breaks: number) {
  let connections = 0;
  return tcpServer((client) => {
    const breaking = connections++ < breaks;
    const upstream = connect(port, '127.0.0.1');
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    const [from, to] = direction === 'up' ? [client, upstream] : [upstream, client];
    to.pipe(from);
    let left = bytes;
    from.on('data', (chunk: Buffer) => {
      if (!breaking) return void to.write(chunk);
      if (left > 0) to.write(chunk.subarray(0, left));
      left -= chunk.length;
      if (left > 0) return;
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    });
  });
}

describe('a connection that is cut after any number of bytes', () => {
  it.each(['up', 'down'] as const)(
    '32, 33, 52: %s: in upgrade, handshake, sync or streams, three times in a row: all is delivered once',
    async (direction) => {
      for (let bytes = 0; bytes <= LAST; bytes += STEP) {
        await using portal = await startPortal();
        await using pipe = await breakingPipe(portal.port, direction, bytes, 3);
        const store = new GatewayStore();
        store.addEvents(12, { message: 'x'.repeat(100) });
        store.putSnapshot('gateway', 'gw-1', 1, { text: 'y'.repeat(500) });
        const stored = portal.storeOf('gw-1');
        for (const id of ['cl-1', 'cl-2', 'cl-3']) stored.want('cluster', id, 1, { text: 'z'.repeat(500) });
        await using _gateway = startGateway(portal, {
          store,
          random: () => 0,
          url: `ws://127.0.0.1:${pipe.port}/tunnel/v1`,
        });
        const stream = await portal.server.roster
          .tunnel('gw-1')
          .open({ target: 'agent', deadlineMs: 20_000 });
        stream.end('hello');
        // an open that was answered is on both ends: from there on the stream survives every cut
        const echoed = readAll(stream);
        await until(
          () =>
            stored.events.length === 12 &&
            stored.snapshots.length >= 1 &&
            store.documents.size === 3 &&
            stored.acknowledged.length >= 3,
        );
        expect(stored.events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        // a snapshot or document may be offered again by a new session, with the same number
        expect(new Set(stored.snapshots.map(({ revision }) => revision))).toEqual(new Set([1]));
        expect(new Set(stored.acknowledged.map(({ outcome }) => outcome)).has('applied')).toBe(true);
        expect((await echoed).toString()).toBe('hello');
      }
    },
  );
});
