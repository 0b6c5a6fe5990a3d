/** What the reader of `ws` keeps of messages that come in fragments, or byte by byte: it reads whatever is not one whole binary frame. */
import type { IncomingMessage } from 'node:http';
import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { MAX_MESSAGE_BYTES } from '../../src/tunnel/carrier.ts';
import { CLOSE } from '../../src/tunnel/codes.ts';
import { MAX_FRAGMENTS, READER_LIMITS, webSocketCarrier } from '../../src/tunnel/socket.ts';
import { liveMemory } from '../support/live-memory.ts';
import { until } from '../support/tunnel-pair.ts';

const MIB = 1024 * 1024;
const BINARY_BEGINS = 0x02;
const CONTINUES = 0x00;
const ENDS = 0x80;
const PONG = 0x8a;

/** Masked with zeros, as clients must mask. */
function frame(first: number, payload: Buffer): Buffer {
  const { length } = payload;
  const header =
    length < 126
      ? [first, 0x80 | length]
      : length < 65_536
        ? [first, 0xfe, length >> 8, length & 255]
        : [first, 0xff, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255];
  return Buffer.concat([Buffer.from(header), Buffer.alloc(4), payload]);
}

/** The portal's end of an upgraded connection whose bytes come in exactly the pieces that are sent. */
async function upgraded() {
  const [client, server] = duplexPair();
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    closeTimeout: 50,
    ...READER_LIMITS,
  } as object);
  const request = {
    method: 'GET',
    headers: {
      upgrade: 'websocket',
      connection: 'upgrade',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    },
  } as unknown as IncomingMessage;
  const webSocket = await new Promise<WebSocket>((resolve) =>
    sockets.handleUpgrade(request, server as never, Buffer.alloc(0), resolve),
  );
  webSocket.on('error', () => {});
  client.resume();
  const messages: Buffer[] = [];
  const closes: number[] = [];
  webSocketCarrier(webSocket).bind({
    message: (data) => void messages.push(Buffer.from(data)),
    closed: (code) => void closes.push(code),
    drained() {},
  });
  return { client, messages, closes, [Symbol.dispose]: () => webSocket.terminate() };
}

/** Each byte in memory of its own, as a path that drips delivers them. */
async function drip(to: Duplex, bytes: Buffer, over: () => boolean = () => false): Promise<void> {
  for (let at = 0; at < bytes.length && !over(); at += 1) {
    to.write(Buffer.from(Uint8Array.of(bytes[at] as number)));
    if (at % 256 === 255) await setImmediate();
  }
  await setImmediate();
}

it('#12: a message in fragments that drips in byte by byte is read, in little more than its size', async () => {
  using end = await upgraded();
  const half = Buffer.alloc(1500, 1);
  const rest = Buffer.alloc(1500, 2);
  await drip(end.client, Buffer.concat([frame(BINARY_BEGINS, half), frame(ENDS | CONTINUES, rest)]));
  expect(end.messages).toEqual([Buffer.concat([half, rest])]);
  const before = await liveMemory();
  const wire = frame(BINARY_BEGINS, Buffer.alloc(MAX_MESSAGE_BYTES - 10));
  await drip(end.client, wire.subarray(0, wire.length - 1), () => end.closes.length > 0);
  expect((await liveMemory()) - before).toBeLessThan(2 * MIB);
  // more pieces than any path makes of a frame
  await until(() => end.closes.length > 0);
  expect(end.closes).toEqual([CLOSE.PROTOCOL]);
});

it('#12: fragments of one byte hold neither the bytes around them nor more than a bound of them', async () => {
  using end = await upgraded();
  // what one read of a socket brings: a byte that is kept, and pongs that are not
  const pong = frame(PONG, Buffer.alloc(125));
  const around = Buffer.concat(Array.from({ length: 480 }, () => pong));
  const before = await liveMemory();
  let most = 0;
  for (let count = 0; count < 500 && end.closes.length === 0; count += 1) {
    const fragment = frame(count === 0 ? BINARY_BEGINS : CONTINUES, Buffer.from('x'));
    end.client.write(Buffer.concat([fragment, around]));
    await setImmediate();
    if (count % 64 === 0) most = Math.max(most, (await liveMemory()) - before);
  }
  await until(() => end.closes.length > 0);
  expect(end.closes).toEqual([CLOSE.PROTOCOL]);
  expect(most).toBeLessThan(24 * MIB);
});

it('#12: a middle box may cut a message of the largest size into pieces of a kilobyte', async () => {
  using end = await upgraded();
  const pieces = MAX_MESSAGE_BYTES / 1024;
  expect(pieces).toBeLessThan(MAX_FRAGMENTS);
  for (let piece = 0; piece < pieces; piece += 1) {
    const first = (piece === 0 ? BINARY_BEGINS : CONTINUES) | (piece === pieces - 1 ? ENDS : 0);
    end.client.write(frame(first, Buffer.alloc(1024, piece)));
  }
  await setImmediate();
  expect(end.messages.map(({ length }) => length)).toEqual([MAX_MESSAGE_BYTES]);
});
