/** What the simulated kubelet sends to who executes a command. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { ChannelOutput } from '../../../src/simulator/kubernetes/api/channel-output.ts';

const MIB = 1024 * 1024;

it('72: sends much output in small messages, in order, and answers a ping in the middle of it', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  try {
    await once(server, 'listening');
    const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const accepted = once(server, 'connection') as Promise<[WebSocket]>;
    const messages: Buffer[] = [];
    let beforePong: number | undefined;
    client.on('message', (data: Buffer) => {
      if (messages.length === 0) client.ping();
      messages.push(data);
    });
    client.on('pong', () => {
      beforePong = messages.length;
    });
    const closed = once(client, 'close');
    const [connection] = await accepted;

    // More than the sockets of both ends hold, so that the server has to wait for the client.
    const bytes = randomBytes(64 * MIB);
    const output = new ChannelOutput(connection);
    output.send(1, Buffer.alloc(0));
    output.send(1, bytes);
    output.send(3, Buffer.from('end'));
    await output.close(1000);
    expect(await closed).toEqual([1000, Buffer.alloc(0)]);

    expect(messages[0]).toEqual(Buffer.of(1));
    expect(Math.max(...messages.map((message) => message.length))).toBe(1 + 32 * 1024);
    expect(Buffer.concat(messages.slice(1, -1).map((message) => message.subarray(1))).equals(bytes)).toBe(
      true,
    );
    expect(messages.at(-1)).toEqual(Buffer.from('\u0003end'));
    expect(beforePong).toBeLessThan(messages.length);
  } finally {
    server.close();
  }
});

it('72: lets go when the client has gone', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  try {
    await once(server, 'listening');
    const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const [connection] = (await once(server, 'connection')) as [WebSocket];
    await once(client, 'open');
    client.pause();
    const output = new ChannelOutput(connection);
    output.send(1, Buffer.alloc(64 * MIB));
    const end = output.close(1000);
    client.terminate();
    await end;
    expect(connection.bufferedAmount).toBeLessThan(MIB);
  } finally {
    server.close();
  }
});
