/** js-libp2p-yamux over a WebSocket: its streams as the bench wants them. */
import { yamux } from '@chainsafe/libp2p-yamux';
import { AbstractMultiaddrConnection } from '@libp2p/utils';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';

/** As libp2p's own WebSocket transport does it. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;
const quiet = Object.assign(() => {}, {
  error: () => {},
  trace: () => {},
  enabled: false,
  newScope: () => quiet,
});

class Connection extends AbstractMultiaddrConnection {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket, direction: 'inbound' | 'outbound') {
    super({ remoteAddr: {}, direction, log: quiet } as never);
    this.#socket = socket;
    socket.on('message', (bytes: Buffer) => this.onData(bytes));
    socket.on('close', () => this.onTransportClosed());
  }

  sendData(data: { byteLength: number; subarray(): Uint8Array }) {
    this.#socket.send(data.subarray(), () => {
      if (this.writableNeedsDrain && this.#socket.bufferedAmount === 0)
        this.dispatchEvent(new Event('drain') as never);
    });
    return { sentBytes: data.byteLength, canSendMore: this.#socket.bufferedAmount < MAX_BUFFERED_BYTES };
  }

  sendReset(): void {
    this.#socket.terminate();
  }
  async sendClose(): Promise<void> {
    this.#socket.close();
  }
  sendPause(): void {
    this.#socket.pause();
  }
  sendResume(): void {
    this.#socket.resume();
  }
}

export function muxer(socket: WebSocket, direction: 'inbound' | 'outbound') {
  const config = {
    enableKeepAlive: false,
    inactivityTimeout: 0,
    maxInboundStreams: 5000,
    maxOutboundStreams: 5000,
    maxEarlyStreams: 5000,
  };
  return yamux(config as never)().createStreamMuxer(new Connection(socket, direction) as never);
}

type YamuxStream = Awaited<ReturnType<ReturnType<typeof muxer>['createStream']>>;

/** Both ways with backpressure, until both are closed. */
export function joinYamux(stream: YamuxStream, socket: Socket): void {
  stream.addEventListener('message', (event) => {
    if (!socket.write(event.data.subarray())) stream.pause();
  });
  socket.on('drain', () => stream.resume());
  socket.on('data', (bytes: Buffer) => {
    if (stream.status !== 'open') return;
    if (!stream.send(bytes)) socket.pause();
  });
  stream.addEventListener('drain', () => void socket.resume());
  stream.addEventListener('remoteCloseWrite', () => void socket.end());
  stream.addEventListener('close', () => void socket.destroy());
  socket.on('end', () => void stream.close().catch(() => {}));
  socket.on('close', () => stream.status === 'open' && stream.abort(new Error('closed')));
  socket.on('error', () => {});
  socket.resume();
}
