/** Output of commands over WebSocket channels, as a kubelet sends it. */
import type { WebSocket } from 'ws';

/** The kubelet copies what a command prints in pieces of this size. */
const PIECE_BYTES = 32 * 1024;

/**
 * What a server says on the channels of one WebSocket, in the order of the calls: in messages of at most 32 KiB,
 * each when the one before has been written. In one message a PONG would have to wait for its last byte, and a client
 * that pings gives up.
 */
export class ChannelOutput {
  readonly #connection: WebSocket;
  #written: Promise<void> = Promise.resolve();

  constructor(connection: WebSocket) {
    this.#connection = connection;
  }

  send(channel: number, chunk: Buffer): void {
    this.#written = this.#written.then(() => this.#inPieces(channel, chunk));
  }

  /** Resolves when everything was written or the connection is gone. */
  async close(code: number): Promise<void> {
    await this.#written;
    this.#connection.close(code);
  }

  async #inPieces(channel: number, chunk: Buffer): Promise<void> {
    const mark = Buffer.of(channel);
    for (let at = 0; at === 0 || at < chunk.length; at += PIECE_BYTES) {
      if (this.#connection.readyState !== this.#connection.OPEN) return;
      const message = Buffer.concat([mark, chunk.subarray(at, at + PIECE_BYTES)]);
      await new Promise<void>((resolve) => this.#connection.send(message, () => resolve()));
    }
  }
}
