import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AGENT_SETTINGS } from '../../src/config/agent-settings.ts';
import { loadSettings } from '../../src/config/settings.ts';

function file(text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'pcg-settings-')), 'pcg.yaml');
  writeFileSync(path, text);
  return path;
}

describe('settings', () => {
  it('prefers flag over environment over file over default, and says which one it was', () => {
    const path = file('pollActiveMs: 1\npollIdleMs: 2\nlogLevel: warn\n');
    const loaded = loadSettings(AGENT_SETTINGS, {
      file: path,
      environment: { PCG_POLL_IDLE_MS: '3', PCG_LOG_LEVEL: 'error', PCG_NO_PROXY: 'a, .b ,10.0.0.0/8' },
      flags: { logLevel: 'debug', socket: undefined },
    });
    expect(loaded.values).toMatchObject({
      pollActiveMs: 1,
      pollIdleMs: 3,
      logLevel: 'debug',
      noProxy: ['a', '.b', '10.0.0.0/8'],
      socket: undefined,
    });
    const origins = Object.fromEntries(loaded.describe().map((line) => [line.key, line.origin]));
    expect(origins).toMatchObject({
      pollActiveMs: 'file',
      pollIdleMs: 'environment',
      logLevel: 'flag',
      listen: 'default',
    });
  });

  it('takes an empty variable for none, except where empty means off', () => {
    const { values } = loadSettings(AGENT_SETTINGS, { environment: { PCG_LISTEN: '', PCG_LOG_LEVEL: '' } });
    expect(values).toMatchObject({ listen: '', logLevel: 'info' });
  });

  it('names the nearest key when the file holds an unknown one', () => {
    expect(() =>
      loadSettings(AGENT_SETTINGS, { file: file('maasURL: http://x\n'), environment: {} }),
    ).toThrowError(
      expect.objectContaining({ code: 'BAD_CONFIG', field: 'maasURL', fix: 'Did you mean "maasUrl"?' }),
    );
  });

  it.each([
    ['pollActiveMs', { PCG_POLL_ACTIVE_MS: 'soon' }],
    ['maasUrl', { PCG_MAAS_URL: '10.0.0.1' }],
    ['machineProxy', { PCG_MACHINE_PROXY: 'http://' }],
  ])('refuses a wrong %s and names it with its origin', (key, environment) => {
    expect(() => loadSettings(AGENT_SETTINGS, { environment })).toThrowError(
      expect.objectContaining({
        code: 'BAD_CONFIG',
        field: key,
        message: expect.stringContaining('environment'),
      }),
    );
  });

  it('reads secrets from a file, and shows neither them nor a password inside a proxy URL', () => {
    const path = file('abc:def:ghi\n');
    const loaded = loadSettings(AGENT_SETTINGS, {
      environment: { PCG_MAAS_API_KEY_FILE: path, PCG_HTTPS_PROXY: 'http://u:hunter2@proxy:3128' },
    });
    expect(loaded.values.maasApiKey).toBe('abc:def:ghi');
    const text = JSON.stringify(loaded.describe());
    expect(text).not.toContain('abc:def:ghi');
    expect(text).not.toContain('hunter2');
  });

  it('says which variable named a file that is not there', () => {
    expect(() =>
      loadSettings(AGENT_SETTINGS, { environment: { PCG_MAAS_API_KEY_FILE: '/nonexistent/key' } }),
    ).toThrowError(expect.objectContaining({ code: 'BAD_CONFIG', field: 'maasApiKey' }));
  });
});
