/** Certificates as the `openssl` program makes them, in files, the way an administrator has them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface OpensslFiles extends Disposable {
  readonly directory: string;
  readonly caPem: string;
  readonly caFile: string;
  /** Where `issue` writes; what the portal is told. */
  readonly pair: { readonly cert: string; readonly key: string };
  /** A new key and a certificate of the CA for localhost, written over `pair` (or elsewhere in the directory). */
  issue(
    commonName: string,
    options?: { days?: number; to?: { readonly cert: string; readonly key: string } },
  ): void;
}

export function opensslFiles(): OpensslFiles {
  const directory = mkdtempSync(join(tmpdir(), 'pcg-openssl-'));
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    '2',
    '-subj',
    '/CN=test CA',
  );
  const pair = { cert: at('cert.pem'), key: at('key.pem') };
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  return {
    directory,
    caFile: at('ca.pem'),
    caPem: readFileSync(at('ca.pem'), 'utf8'),
    pair,
    issue(commonName, { days = 1, to = pair } = {}) {
      openssl('req', ...key, '-keyout', to.key, '-out', 'request', '-subj', `/CN=${commonName}`);
      openssl(
        ...['x509', '-req', '-in', 'request', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
        ...['-extfile', 'names', '-out', to.cert, '-days', String(days)],
      );
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}
