/**
 * Cuts a JSON array of objects into its elements while it arrives. A list of 1000 machines is 15-40 MB; read
 * this way it costs the memory of one machine at a time instead of text, tree and projection of all.
 * Works on bytes: the characters that matter for structure are ASCII and never part of others in UTF-8.
 */

const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

export interface ElementCutter {
  /** Takes the next bytes; returns the texts of the elements that they complete. Throws SyntaxError. */
  feed(chunk: Uint8Array): string[];
  /** The closing bracket of the array has come. */
  readonly complete: boolean;
}

export function createElementCutter(): ElementCutter {
  let phase: 'before' | 'between' | 'within' | 'after' = 'before';
  let depth = 0;
  let inString = false;
  let escaped = false;
  /** Bytes of the current element from earlier chunks. */
  let held: Uint8Array[] = [];

  const unexpected = (byte: number) =>
    new SyntaxError(`not a JSON array of objects: byte ${byte} ${phase} elements`);

  /** Moves over one byte of an element; true when it closes the element. */
  function closes(byte: number): boolean {
    if (inString) {
      if (escaped) escaped = false;
      else if (byte === BACKSLASH) escaped = true;
      else if (byte === QUOTE) inString = false;
      return false;
    }
    if (byte === QUOTE) inString = true;
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth += 1;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) depth -= 1;
    return depth === 0;
  }

  /** Moves over one byte outside of elements; true when an element starts with it. */
  function opens(byte: number): boolean {
    if (isSpace(byte)) return false;
    if (phase === 'before' && byte === OPEN_ARRAY) phase = 'between';
    else if (phase === 'between' && byte === CLOSE_ARRAY) phase = 'after';
    else if (phase === 'between' && byte === OPEN_OBJECT) return true;
    else if (phase !== 'between' || byte !== COMMA) throw unexpected(byte);
    return false;
  }

  return {
    feed(chunk) {
      const elements: string[] = [];
      let start = 0;
      for (let at = 0; at < chunk.length; at += 1) {
        const byte = chunk[at] ?? 0;
        if (phase === 'within') {
          if (!closes(byte)) continue;
          held.push(chunk.subarray(start, at + 1));
          elements.push(Buffer.concat(held).toString('utf8'));
          held = [];
          phase = 'between';
        } else if (opens(byte)) {
          phase = 'within';
          depth = 1;
          start = at;
        }
      }
      if (phase === 'within') held.push(chunk.subarray(start));
      return elements;
    },
    get complete() {
      return phase === 'after';
    },
  };
}
