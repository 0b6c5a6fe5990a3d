/**
 * Joins a stream of the tunnel with what its target is here (a TCP socket, a pipe): bytes both ways with
 * backpressure, half-closes as half-closes, and resets as resets, never as ends.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { STREAM, StreamError, streamCodeOf } from './codes.ts';
import type { SessionStream } from './stream.ts';

/** Of a target's own buffer limit: what one turn brings may go beyond it, as long as the system takes it. */
const BURST = 2;

/** Joins until both ends are closed. Sockets must have been made with `allowHalfOpen: true`. */
export function join(stream: SessionStream, target: Duplex): void {
  let corked = false;
  const uncork = (): void => {
    corked = false;
    target.uncork();
    // asked only now: what the system took at once is no reason to wait
    if (target.writableLength >= target.writableHighWaterMark) stream.pause();
  };

  stream.on('data', (chunk: Buffer) => {
    // frames of one turn leave in one system call
    if (!corked) {
      corked = true;
      target.cork();
      process.nextTick(uncork);
    }
    target.write(chunk);
    if (target.writableLength >= BURST * target.writableHighWaterMark) stream.pause();
  });
  target.on('drain', () => stream.resume());
  stream.on('end', () => target.end());

  let targetEnded = target.readableEnded;
  target.on('data', (chunk: Buffer) => {
    if (!stream.write(chunk)) target.pause();
  });
  stream.on('drain', () => target.resume());
  target.on('end', () => {
    targetEnded = true;
    stream.end();
  });
  if (targetEnded) stream.end();
  // a target that was paused until it had somewhere to go flows now
  else target.resume();

  target.on('error', (error) => {
    stream.destroy(new StreamError(streamCodeOf(error), error.message, { cause: error }));
  });
  target.on('close', () => {
    if (!targetEnded && !stream.destroyed)
      stream.destroy(new StreamError(STREAM.PEER_RESET, 'the target closed without an end'));
  });
  stream.on('error', () => reset(target));
  stream.on('stop', () => {
    // nobody reads any more what the target says; it may still be listening
    target.removeAllListeners('data');
    target.resume();
    if (target.writableEnded) target.destroy();
  });
  stream.on('close', () => {
    if (!target.destroyed && !(stream.readableEnded && stream.writableFinished)) reset(target);
  });
}

/** An aborted stream must not look like a complete one to the target; only plain TCP can say so. */
function reset(target: Duplex): void {
  if (target.destroyed) return;
  if (target instanceof Socket && !(target instanceof TLSSocket) && target.remoteFamily !== undefined)
    target.resetAndDestroy();
  else target.destroy();
}
