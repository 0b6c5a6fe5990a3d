/** `pcg demo` as the README promises it, and what its logs must never hold. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ENTRY } from '../support/program.ts';

function runDemo(
  args: string[],
): Promise<{ code: number | null; lines: Record<string, unknown>[]; stderr: string }> {
  const child = spawn(process.execPath, [ENTRY, 'demo', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    stderr += String(chunk);
  });
  return new Promise((resolve) => {
    child.once('close', (code) => {
      const lines = stdout
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      resolve({ code, lines, stderr });
    });
  });
}

describe('pcg demo', () => {
  it('--once --json ends with result ok, one event a line, and no secret in any log', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'pcg-demo-test-'));
    try {
      const { code, lines, stderr } = await runDemo([
        '--once',
        '--control-plane',
        '1',
        '--workers',
        '2',
        '--speed',
        '100',
        '--state-dir',
        directory,
      ]);
      expect(code, stderr).toBe(0);
      expect(lines.at(-1)).toMatchObject({
        result: 'ok',
        cluster: 'demo',
        durationMs: expect.any(Number),
        maasRequests: expect.any(Number),
        agentRestarts: 0,
      });
      const events = lines.filter(({ event }) => event === 'event');
      const seqs = events.map(({ seq }) => seq);
      expect(seqs, 'each event once').toEqual([...new Set(seqs)]);
      const reasons = events.map(({ reason }) => reason);
      expect(reasons).toEqual(
        expect.arrayContaining([
          'MachineAllocated',
          'NodeReady',
          'ClusterRunning',
          'MachineReleased',
          'ClusterDeleted',
        ]),
      );

      const logs = readdirSync(directory, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.log'))
        .map((name) => readFileSync(join(directory, name), 'utf8'))
        .join('\n');
      expect(logs).toContain('agent running');
      const password = String(lines.find(({ event }) => event === 'portal')?.['password']);
      expect(password.length).toBeGreaterThan(10);
      expect(logs).not.toContain(password);
      expect(logs).not.toMatch(/PRIVATE KEY|oauth_signature|"apiKey":"(?!\[secret\])/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it('with more nodes than machines ends with 10, says which rule rejects what, and leaves nothing behind', async () => {
    const { code, stderr } = await runDemo([
      '--once',
      '--machines',
      '6',
      '--workers',
      '50',
      '--speed',
      '200',
    ]);
    expect(code).toBe(10);
    expect(stderr).toMatch(/Error (NOT_ENOUGH_MACHINES|NO_MATCHING_MACHINE)/);
    expect(stderr).toContain('fix:');
  });

  it('with two control-plane nodes ends with 2 and names the field', async () => {
    const { code, stderr } = await runDemo(['--once', '--control-plane', '2', '--speed', '200']);
    expect(code).toBe(2);
    expect(stderr).toContain('spec.pools[0].size');
  });
});
