/** What the columns of tables are made of. */
import type { Json, KubeObject } from './json.ts';

export interface Column {
  readonly name: string;
  readonly cell: (object: KubeObject, now: number) => Json;
  /** Shown only with -o wide. */
  readonly wide?: boolean;
  readonly type?: string;
}

/** 45s, 12m, 3h4m, 5d: the short form of kubectl. */
export function shortAge(since: string | undefined, now: number): string {
  if (!since) return '<unknown>';
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return minutes % 60 ? `${hours}h${minutes % 60}m` : `${hours}h`;
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  return days < 8 && hours % 24 ? `${days}d${hours % 24}h` : `${days}d`;
}

export const NAME: Column = { name: 'Name', cell: (object) => object.metadata.name };
export const AGE: Column = {
  name: 'Age',
  cell: (object, now) => shortAge(object.metadata.creationTimestamp, now),
};

export const count = (name: string, read: (object: KubeObject) => Json): Column => ({
  name,
  type: 'integer',
  cell: (object) => read(object) ?? 0,
});

export function printLabels(labels: Json): string {
  const list = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return list.length > 0 ? list.join(',') : '<none>';
}
