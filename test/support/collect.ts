/** All that a stream says, without ending our half: Node's own consumers destroy a Duplex when its input ends. */
import type { Readable } from 'node:stream';

/** Resolves at 'end'; rejects with the stream's error, or when it closes without an end. */
export function collect(stream: Readable): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('closed without an end')));
  });
}
