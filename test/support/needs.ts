/**
 * Tests that need a Debian program: skipped with the program's name and its install line where it is
 * missing, failing in CI, where `.ci/run` installs what is needed.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Debian package that brings each program. */
const PACKAGES: Record<string, string> = {
  openssl: 'openssl',
  'cloud-init': 'cloud-init',
  etcd: 'etcd-server',
  etcdctl: 'etcd-client',
  chromium: 'chromium',
  squid: 'squid-openssl',
  tinyproxy: 'tinyproxy-bin',
  kubectl: 'kubernetes-client',
  shellcheck: 'shellcheck',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
  postgres: 'postgresql',
  tc: 'iproute2',
  ip: 'iproute2',
  script: 'bsdutils',
};

/** Full path of a program on PATH (or in the sbin directories and PostgreSQL's own), else undefined. */
export function findProgram(name: string): string | undefined {
  const directories = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/sbin',
    '/sbin',
    '/usr/lib/postgresql/15/bin',
  ];
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not in this directory: look on
    }
  }
  return undefined;
}

/**
 * `describe` for a suite that needs `programs`. Missing ones skip the suite and say how to install them;
 * with CI set the suite fails instead, so that CI cannot pass without them.
 */
export function describeWith(programs: readonly string[], title: string, body: () => void): void {
  const missing = programs.filter((program) => findProgram(program) === undefined);
  if (missing.length === 0) {
    describe(title, body);
    return;
  }
  const install = `apt-get install ${[...new Set(missing.map((program) => PACKAGES[program] ?? program))].join(' ')}`;
  if (process.env['CI']) {
    describe(title, () => {
      it(`has the programs it needs (${install})`, () => {
        expect(missing, `missing programs; run: ${install}`).toEqual([]);
      });
    });
    return;
  }
  describe.skip(`${title} [SKIPPED: needs ${missing.join(', ')}; run: ${install}]`, body);
}
