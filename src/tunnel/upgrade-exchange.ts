/**
 * Upgrades through a reverse proxy: the target's 101 or its refusal passes, then bytes both ways that nobody reads.
 */
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { PcgError } from '../base/errors.ts';
import { bodyOf, endToEnd, formatHead, isAnswer, notAnAnswer, type RawHeaders, reasonOf } from './headers.ts';
import { beginRequest, type Upstream } from './upstream-request.ts';

/**
 * What kubectl, dashboards and MAAS speak. Behind an upgrade to HTTP/2 (`h2c`) a client could send any request it
 * likes over a connection that the gateway has authenticated. For `shouldUpgradeCallback` of servers: an upgrade to
 * anything else is then a plain request, as the RFC allows.
 */
export function isCarriedUpgrade({ headers }: http.IncomingMessage): boolean {
  return /^(websocket|spdy\/3\.1)$/i.test(headers.upgrade ?? '');
}

export function upgradeExchange(
  request: http.IncomingMessage,
  socket: Duplex,
  head: Buffer,
  upstream: Upstream,
  fail: (error: unknown) => void,
): void {
  if (!isCarriedUpgrade(request))
    throw new PcgError('INVALID_INPUT', 'only WebSocket and SPDY/3.1 pass as upgrades', { field: 'upgrade' });
  const { hasBody, framing } = bodyOf(request);
  // it would be sent behind the answer, where nobody waits for it, or never
  if (hasBody) throw new PcgError('INVALID_INPUT', 'a request for an upgrade has no body', { field: 'body' });
  const outgoing = beginRequest(request, upstream, [
    ...framing,
    'Connection',
    'Upgrade',
    'Upgrade',
    request.headers.upgrade ?? '',
  ]);
  const onLeave = (): void => void outgoing.destroy();
  socket.once('close', onLeave);
  outgoing.on('error', (error) => {
    if (!socket.destroyed) fail(error);
  });
  outgoing.on('upgrade', (incoming: http.IncomingMessage, target: Duplex, early: Buffer) => {
    socket.off('close', onLeave);
    socket.write(formatHead(`HTTP/1.1 101 ${reasonOf(incoming)}`, incoming.rawHeaders));
    // bytes that came in one segment with either head belong to the new protocol
    if (early.length > 0) socket.write(early);
    if (head.length > 0) target.write(head);
    pipeBoth(socket, target);
  });
  outgoing.on('response', (incoming) => {
    if (!isAnswer(incoming)) {
      outgoing.destroy();
      return fail(notAnAnswer(incoming));
    }
    // the target refuses: its answer passes, and ends the connection
    const headers = [...endToEnd(incoming.rawHeaders), 'Connection', 'close'];
    socket.write(formatHead(`HTTP/1.1 ${incoming.statusCode} ${reasonOf(incoming)}`, headers));
    incoming.pipe(socket);
    incoming.on('error', () => socket.destroy());
  });
  outgoing.end();
}

/** Half-closes pass as half-closes, breaks as breaks. */
function pipeBoth(left: Duplex, right: Duplex): void {
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.once('close', () => {
      // nobody takes any more what `to` says; what it was told in full it may still deliver
      if (from.readableEnded && !to.writableFinished) to.once('finish', () => to.destroy());
      else to.destroy();
    });
  }
}

export function refuseUpgrade(socket: Duplex, { status, body }: { status: number; body: string }): void {
  if (socket.destroyed) return;
  const headers: RawHeaders = [
    'Content-Type',
    'application/json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Connection',
    'close',
  ];
  socket.write(formatHead(`HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? 'Error'}`, headers));
  socket.end(body);
}
