/** Upgraded requests: exec, attach and port-forward. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ApiCore } from './core.ts';
import type { ApiRequest } from './request.ts';
import { badRequest } from './status.ts';

/** Throws ApiError before the upgrade was answered. */
export async function serveStream(
  _core: ApiCore,
  request: ApiRequest,
  _message: IncomingMessage,
  _socket: Duplex,
  _head: Buffer,
): Promise<void> {
  throw badRequest(`cannot upgrade ${request.path}`);
}
