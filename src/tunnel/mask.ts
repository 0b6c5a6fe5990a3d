/**
 * The mask of WebSocket messages, four bytes at a time. Byte by byte, as `ws` does it without its native helper,
 * costs seven times as much: more than all the rest that a portal does with bulk.
 */

/** A key as bytes and as the word that the machine reads from them. */
const keyBytes = new Uint8Array(4);
const keyWord = new Uint32Array(keyBytes.buffer);

/** Masks or unmasks `bytes` in place with the four bytes of `key`, at any alignment. */
export function applyMask(bytes: Buffer, key: Uint8Array): void {
  const lead = Math.min(bytes.length, -bytes.byteOffset & 3);
  const words = (bytes.length - lead) >>> 2;
  maskBytes(bytes, key, 0, lead);
  if (words > 0) {
    // turned, so that it begins at the first whole word
    for (let index = 0; index < 4; index += 1) keyBytes[index] = key[(lead + index) & 3] as number;
    const word = keyWord[0] as number;
    const view = new Uint32Array(bytes.buffer, bytes.byteOffset + lead, words);
    for (let index = 0; index < words; index += 1) view[index] = (view[index] as number) ^ word;
  }
  maskBytes(bytes, key, lead + 4 * words, bytes.length);
}

function maskBytes(bytes: Buffer, key: Uint8Array, from: number, to: number): void {
  for (let index = from; index < to; index += 1)
    bytes[index] = (bytes[index] as number) ^ (key[index & 3] as number);
}
