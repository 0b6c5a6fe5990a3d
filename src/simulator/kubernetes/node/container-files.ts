/** Files of one container, in memory, and the tar format that `kubectl cp` speaks. */

export interface ContainerFile {
  content: Buffer;
  mode: number;
}

/** Path -> file; directories exist where files lie below them or where they were made. */
export class ContainerFiles {
  readonly files = new Map<string, ContainerFile>();
  readonly directories = new Set(['/', '/tmp', '/etc', '/root', '/var', '/var/log']);

  constructor(initial: Record<string, string> = {}) {
    for (const [path, content] of Object.entries(initial)) this.write(path, Buffer.from(content));
  }

  write(path: string, content: Buffer, mode = 0o644): void {
    this.makeDirectory(parentOf(path));
    this.files.set(path, { content, mode });
  }

  makeDirectory(path: string): void {
    for (let at = path; at !== '/' && at !== ''; at = parentOf(at)) this.directories.add(at);
  }

  isDirectory(path: string): boolean {
    return this.directories.has(path);
  }

  /** Paths of files at or below. */
  below(path: string): string[] {
    const prefix = path === '/' ? '/' : `${path}/`;
    return [...this.files.keys()].filter((file) => file === path || file.startsWith(prefix)).sort();
  }

  children(path: string): string[] {
    const names = new Set<string>();
    const prefix = path === '/' ? '/' : `${path}/`;
    for (const entry of [...this.files.keys(), ...this.directories])
      if (entry.startsWith(prefix) && entry !== path)
        names.add(entry.slice(prefix.length).split('/')[0] ?? '');
    return [...names].filter(Boolean).sort();
  }
}

export const parentOf = (path: string) => path.slice(0, Math.max(1, path.lastIndexOf('/')));

/** `base` + relative or absolute path, without . and .. */
export function resolvePath(base: string, path: string): string {
  const parts: string[] = [];
  for (const part of (path.startsWith('/') ? path : `${base}/${path}`).split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

const BLOCK = 512;

/** One ustar archive of the files, with names relative to `directory`. */
export function packTar(files: ContainerFiles, paths: readonly string[], directory: string): Buffer {
  const blocks: Buffer[] = [];
  const add = (name: string, content: Buffer, mode: number, kind: '0' | '5') => {
    const head = Buffer.alloc(BLOCK);
    head.write(name.slice(0, 100), 0);
    head.write(`${mode.toString(8).padStart(7, '0')}\0`, 100);
    head.write('0000000\0', 108);
    head.write('0000000\0', 116);
    head.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
    head.write('00000000000\0', 136);
    head.write('        ', 148);
    head.write(kind, 156);
    head.write('ustar\x0000', 257);
    const sum = head.reduce((total, byte) => total + byte, 0);
    head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    blocks.push(head, content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK));
  };
  for (const path of paths) {
    const absolute = resolvePath(directory, path);
    const shown = path.replace(/^\/+/, '').replace(/\/$/, '');
    if (files.isDirectory(absolute)) add(`${shown}/`, Buffer.alloc(0), 0o755, '5');
    for (const file of files.below(absolute)) {
      const found = files.files.get(file);
      if (found)
        add(
          file === absolute ? shown : `${shown}${file.slice(absolute.length)}`,
          found.content,
          found.mode,
          '0',
        );
    }
  }
  return Buffer.concat([...blocks, Buffer.alloc(BLOCK * 2)]);
}

export function unpackTar(archive: Buffer, files: ContainerFiles, directory: string): void {
  let longName: string | undefined;
  for (let at = 0; at + BLOCK <= archive.length; ) {
    const head = archive.subarray(at, at + BLOCK);
    const text = (from: number, length: number) =>
      head
        .subarray(from, from + length)
        .toString('utf8')
        .split('\0')[0] ?? '';
    const name = longName ?? [text(345, 155), text(0, 100)].filter(Boolean).join('/');
    if (name === '') return;
    const size = Number.parseInt(text(124, 12).trim() || '0', 8);
    const kind = String.fromCharCode(head[156] ?? 0);
    const content = archive.subarray(at + BLOCK, at + BLOCK + size);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    longName = undefined;
    if (kind === 'L') longName = content.toString('utf8').replaceAll('\0', '');
    else if (kind === '5') files.makeDirectory(resolvePath(directory, name));
    else if (kind === '0' || kind === '\0')
      files.write(
        resolvePath(directory, name),
        Buffer.from(content),
        Number.parseInt(text(100, 8).trim() || '644', 8),
      );
  }
}
