/** A throwaway PostgreSQL on a unix socket in a temporary directory. PostgreSQL refuses root: then user `postgres` runs it. */
import { execFileSync } from 'node:child_process';
import { chownSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from './needs.ts';

export interface Postgres extends AsyncDisposable {
  /** An empty database of its own. */
  database(): string;
}

export async function startPostgres(): Promise<Postgres> {
  const directory = await mkdtemp(join(tmpdir(), 'pcg-pg-'));
  const asRoot = process.getuid?.() === 0;
  const run = (program: string, ...args: string[]) => {
    const path = findProgram(program) ?? program;
    const [file, rest] = asRoot ? ['runuser', ['-u', 'postgres', '--', path, ...args]] : [path, args];
    return execFileSync(file, rest, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  };
  if (asRoot) {
    const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
    chownSync(directory, id('-u'), id('-g'));
  }
  const data = join(directory, 'data');
  run('initdb', '-D', data, '-U', 'pcg', '-A', 'trust', '--no-sync');
  const settings = `-k ${directory} -c listen_addresses= -c fsync=off -c max_connections=60`;
  run('pg_ctl', '-D', data, '-w', '-l', join(directory, 'log'), '-o', settings, 'start');
  let count = 0;
  return {
    database() {
      count += 1;
      const name = `portal${count}`;
      run('createdb', '-h', directory, '-U', 'pcg', name);
      return `postgres://pcg@/${name}?host=${encodeURIComponent(directory)}`;
    },
    async [Symbol.asyncDispose]() {
      run('pg_ctl', '-D', data, '-m', 'immediate', 'stop');
      await rm(directory, { recursive: true, force: true });
    },
  };
}
