/** The rules of the house that a linter cannot state: imports point down, doors are single, no machine paths. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const SRC = resolve(import.meta.dirname, '../../src');

/** Layer of each room; a module may import lower layers, its own room, and (L0 only) its neighbours. */
const LAYERS: Record<string, number> = {
  contract: 0,
  base: 0,
  tunnel: 1,
  maas: 1,
  kube: 1,
  store: 1,
  config: 1,
  cluster: 2,
  agent: 3,
  portal: 3,
  installer: 3,
  simulator: 3,
  cli: 4,
  'main.ts': 5,
};

/** Rooms that must not know each other although their layer would allow it. */
const FORBIDDEN: Record<string, readonly string[]> = {
  simulator: ['maas', 'kube', 'cluster', 'tunnel', 'store'],
  portal: ['maas', 'cluster'],
};

/** Outside things with one door each: package -> the only files that may import it at run time. */
const DOORS: Record<string, readonly RegExp[]> = {
  'node:sqlite': [/^store\/sqlite\.ts$/, /^portal\/store\//],
  ws: [/^tunnel\/socket\.ts$/, /^tunnel\/(dial|accept)\.ts$/, /^simulator\//, /^portal\/api\//, /^kube\//],
  'oauth-1.0a': [/^maas\/sign\.ts$/],
};

const files = readdirSync(SRC, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
  .map((entry) => join(entry.parentPath, entry.name));

const room = (path: string) => relative(SRC, path).split('/')[0] ?? '';

function importsOf(path: string): { specifier: string; typeOnly: boolean }[] {
  const text = readFileSync(path, 'utf8');
  const found = [
    ...text.matchAll(/^\s*(?:import|export)\s+(type\s+)?(?:[^'"`;]*?\s+from\s+)?['"]([^'"]+)['"]/gm),
  ];
  const dynamic = [...text.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g)];
  return [
    ...found.map((match) => ({ specifier: match[2] ?? '', typeOnly: match[1] !== undefined })),
    ...dynamic.map((match) => ({ specifier: match[1] ?? '', typeOnly: false })),
  ];
}

describe('the house', () => {
  it('has files to check', () => {
    expect(files.length).toBeGreaterThan(50);
  });

  it('imports point down only', () => {
    const wrong: string[] = [];
    for (const file of files) {
      const from = room(file);
      for (const { specifier } of importsOf(file)) {
        if (!specifier.startsWith('.')) continue;
        const to = room(resolve(dirname(file), specifier));
        const fromLayer = LAYERS[from];
        const toLayer = LAYERS[to];
        const legal =
          from === to ||
          (fromLayer !== undefined &&
            toLayer !== undefined &&
            (toLayer < fromLayer || (fromLayer === 0 && toLayer === 0))) === true;
        if (!legal || FORBIDDEN[from]?.includes(to)) wrong.push(`${relative(SRC, file)} -> ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('every outside thing has one door', () => {
    const wrong: string[] = [];
    for (const file of files) {
      const path = relative(SRC, file);
      for (const { specifier, typeOnly } of importsOf(file)) {
        const doors = DOORS[specifier];
        if (doors && !typeOnly && !doors.some((door) => door.test(path)))
          wrong.push(`${path} -> ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('every file says at its head what it is for', () => {
    const silent = files.filter((file) => !/^(#!.*\n)?\s*\/\*\*/.test(readFileSync(file, 'utf8')));
    expect(silent.map((file) => relative(SRC, file))).toEqual([]);
  });
});
