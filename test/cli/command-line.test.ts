/** The command as a user meets it: exit codes, messages, streams. Real processes. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EXIT_CODES, exitCodeOf } from '../../src/cli/exit-codes.ts';
import { PcgError } from '../../src/base/errors.ts';
import { ERROR_CODES, type ErrorCode } from '../../src/contract/errors.ts';
import { GIVE_UP_MS } from '../support/eventually.ts';
import { bareEnvironment, ENTRY } from '../support/program.ts';

function pcg(args: string[], environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, ...args], {
    env: { ...bareEnvironment(), PCG_LISTEN: '', ...environment },
    encoding: 'utf8',
    timeout: 2 * GIVE_UP_MS,
  });
  return { status, stdout, stderr };
}

function directory() {
  const path = mkdtempSync(join(tmpdir(), 'pcg-cli-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += String(chunk);
      if (text.includes('\n')) resolve(text.split('\n')[0] ?? '');
    });
    child.once('exit', (code) => reject(new Error(`ended with ${String(code)} before a line`)));
  });
}

describe('pcg', () => {
  it('prints its version as text and as JSON', () => {
    expect(pcg(['version'])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^pcg \d+\.\d+\.\d+/),
    });
    expect(JSON.parse(pcg(['--json', 'version']).stdout)).toMatchObject({ version: expect.any(String) });
  });

  it('ends with 2 on a wrong command, option or value, and says which on stderr', () => {
    expect(pcg(['demoo'])).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('demo') });
    expect(pcg(['demo', '--machine', '3'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--machines'),
    });
    expect(pcg(['demo', '--workers', '-1'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--workers'),
    });
    expect(pcg(['simulate', '--fault', 'lost-replay'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('lost-reply'),
    });
  });

  it('lists every exit code that an error can end with', () => {
    const listed = new Set(EXIT_CODES.map(({ code }) => code));
    const used = Object.keys(ERROR_CODES).map((code) => exitCodeOf(new PcgError(code as ErrorCode, 'x')));
    expect(used.filter((code) => !listed.has(code))).toEqual([]);
    expect(pcg(['help', 'exit-codes']).stdout.trim().split('\n')).toHaveLength(EXIT_CODES.length);
  });

  it('lists every variable that its programs read, with the files that may hold secrets', () => {
    const { stdout } = pcg(['help', 'environment']);
    for (const name of [
      'PCG_STATE_DIR',
      'PCG_MAAS_API_KEY_FILE',
      'PCG_TLS_CERT',
      'PCG_TLS_KEY',
      'PCG_TLS_CA',
      'PCG_KUBE_PORT',
      'PCG_TRUST_PROXY',
      'PCG_ADMIN_PASSWORD_FILE',
      'PCG_PAIRING_CODE_FILE',
      'PCG_PORTAL_URL',
      'PCG_PORTAL_TOKEN_FILE',
    ])
      expect(stdout).toContain(name);
  });

  it('ends with 78 before anything starts when the portal cannot use its certificate', () => {
    using files = directory();
    const pem = join(files.path, 'bad.pem');
    writeFileSync(pem, 'no certificate');
    const store = ['--port', '0', '--store', join(files.path, 'portal.db')];
    for (const [args, field] of [
      [['--tls-cert', pem], 'tls-key'],
      [['--tls-cert', pem, '--tls-key', pem], 'tls-cert'],
      [['--tls-ca', pem], 'tls-ca'],
      [['--tls-ca', join(files.path, 'absent')], 'tls-ca'],
      [['--tls-cert', join(files.path, 'absent'), '--tls-key', pem], 'tls-cert'],
    ] as const) {
      const result = pcg(['portal', ...store, ...args]);
      expect(result.status).toBe(78);
      expect(result.stderr).toMatch(new RegExp(`Error BAD_CONFIG: .*\\n\\s+field: ${field}`));
    }
  });

  it.each([
    ['every caller behind a load balancer by itself with --trust-proxy', ['--trust-proxy'], 401],
    ['nobody by what he writes about himself without it', [], 429],
  ])('limits %s', async (_what, flags, other) => {
    using files = directory();
    const store = ['--port', '0', '--kube-port', '0', '--store', join(files.path, 'portal.db')];
    const portal = spawn(process.execPath, [ENTRY, 'portal', '--json', ...store, ...flags], {
      env: bareEnvironment(),
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      const { url } = JSON.parse(await firstLine(portal)) as { url: string };
      const signIn = async (from: string) => {
        const headers = { 'content-type': 'application/json', 'x-forwarded-for': `192.0.2.9, ${from}` };
        const body = JSON.stringify({ email: 'admin@localhost', password: 'not this one' });
        return (await fetch(`${url}/api/v1/session`, { method: 'POST', headers, body })).status;
      };
      const answers: number[] = [];
      while (answers.at(-1) !== 429 && answers.length < 20) answers.push(await signIn('192.0.2.1'));
      expect(answers.at(-1)).toBe(429);
      expect(await signIn('192.0.2.2')).toBe(other);
    } finally {
      const gone = portal.exitCode ?? once(portal, 'exit');
      portal.kill('SIGTERM');
      await gone; // its directory goes next
    }
  });

  it('ends with 78 on bad configuration and names setting, origin and fix', () => {
    const result = pcg(['config', 'validate'], { PCG_POLL_ACTIVE_MS: 'soon' });
    expect(result.status).toBe(78);
    expect(result.stderr).toMatch(/Error BAD_CONFIG: .*pollActiveMs.*environment/);
    expect(result.stderr).toContain('fix:');
    expect(result.stderr).not.toContain('    at ');
  });

  it('says how to start the agent when none answers', () => {
    using state = directory();
    const result = pcg(['status', '--state-dir', state.path]);
    expect(result.status).toBe(75);
    expect(result.stderr).toContain('pcg agent');
  });

  it('refuses a second agent on the same state with 9, and starts again after kill -9', async () => {
    using state = directory();
    const start = () =>
      spawn(process.execPath, [ENTRY, 'agent', '--json', '--state-dir', state.path], {
        env: { ...bareEnvironment(), PCG_LISTEN: '' },
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    const first = start();
    expect(JSON.parse(await firstLine(first))).toMatchObject({ event: 'ready' });
    expect(pcg(['agent', '--state-dir', state.path])).toMatchObject({
      status: 9,
      stderr: expect.stringContaining('CONFLICT'),
    });
    expect(pcg(['status', '--state-dir', state.path]).stdout).toContain('not paired');
    first.kill('SIGKILL');
    await new Promise((resolve) => first.once('exit', resolve));
    const second = start();
    expect(JSON.parse(await firstLine(second))).toMatchObject({ event: 'ready' });
    second.kill('SIGTERM');
    const code = await new Promise((resolve) => second.once('exit', resolve));
    expect(code).toBe(0);
  });

  it('refuses a damaged store with a code and leaves it alone', () => {
    using state = directory();
    writeFileSync(join(state.path, 'agent.db'), "this is no database, but it is somebody's data".repeat(100));
    const result = pcg(['agent', '--state-dir', state.path]);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain('Error STORAGE_FAILED');
  });
});
