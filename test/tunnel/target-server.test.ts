/** Servers that never listen still bound a head, and end what they carry. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { createTargetServer, httpTarget } from '../../src/tunnel/http.ts';

const OPEN = { target: 'maas:x', class: 2 } as const;

async function answerOf(stream: Duplex): Promise<string> {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  if (!stream.closed) await once(stream, 'close');
  return text;
}

describe('a server of a target', () => {
  it('refuses a head that never ends, each time that its connections had all gone', async () => {
    const server = createTargetServer((_request, response) => response.end('hello'), 100);
    for (let round = 0; round < 2; round += 1) {
      const quick = httpTarget(server, OPEN);
      quick.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      expect(await answerOf(quick)).toContain('hello');
      const slow = httpTarget(server, OPEN);
      slow.write('GET / HTTP/1.1\r\nHost:');
      expect(await answerOf(slow)).toMatch(/^HTTP\/1\.1 408 /);
    }
  });

  it('lets an answer last as long as it takes', async () => {
    const server = createTargetServer((_request, response) => {
      response.write('first ');
      setTimeout(() => response.end('last'), 400);
    }, 100);
    const stream = httpTarget(server, OPEN);
    stream.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await answerOf(stream)).toMatch(/first [\s\S]*last/);
  });

  it('ends all of its connections when told', async () => {
    const server = createTargetServer((_request, response) => void response.write('begun'));
    const stream = httpTarget(server, OPEN);
    stream.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(stream, 'data');
    const closed = once(stream, 'close');
    server.closeAllConnections();
    await closed;
    expect(stream.destroyed).toBe(true);
  });
});
