/** An S3 bucket in memory, path style: put, list, delete. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Keeps what is put, and refuses a body that is not what its header announces. */
export async function startBucket() {
  const objects = new Map<string, Buffer>();
  const seen: string[] = [];
  const state = { refuse: false };
  let gate: Promise<void> | undefined;
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const path = (request.url ?? '').split('?')[0] ?? '';
    seen.push(String(request.headers.authorization));
    await gate;
    if (state.refuse) {
      response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>');
      return;
    }
    if (createHash('sha256').update(body).digest('hex') !== request.headers['x-amz-content-sha256']) {
      response.writeHead(400).end('<Error><Code>XAmzContentSHA256Mismatch</Code></Error>');
      return;
    }
    if (request.method === 'PUT') objects.set(path, body);
    if (request.method === 'DELETE') objects.delete(path);
    const entries = [...objects.keys()].map(
      (key) =>
        `<Contents><Key>${key.replace('/backups/', '')}</Key><LastModified>${key.includes('etcd-2020') ? '2020-01-01T00:00:00Z' : new Date().toISOString()}</LastModified></Contents>`,
    );
    response.end(request.method === 'GET' ? `<ListBucketResult>${entries.join('')}</ListBucketResult>` : '');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    objects,
    seen,
    /** From now on every request is answered 403. */
    refuseAll: () => {
      state.refuse = true;
    },
    /** From now on no request is answered, until what this returns is called. */
    hold: () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}
