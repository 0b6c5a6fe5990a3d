/** What people are told: rights of a key, black boxes of failed machines, and nothing that is secret. */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { collectBlackbox } from '../../src/maas/blackbox.ts';
import { rightsReport } from '../../src/maas/rights.ts';
import { scrub } from '../../src/maas/scrub.ts';
import { clientOf, json, never, serveScript, text, wireMachine } from '../support/maas-wire.ts';
import { ManualClock } from '../support/manual-clock.ts';

describe('rights report', () => {
  const region = (isAdmin: boolean, denied: readonly string[] = [], version = '3.6.2') =>
    serveScript((seen, out) => {
      if (denied.includes(seen.path)) return text(out, 403, '');
      switch (seen.path) {
        case 'version/':
          return json(out, { version, subversion: '', capabilities: [] });
        case 'users/':
          return json(out, { username: 'pcg', is_superuser: isAdmin });
        case 'events/':
          return json(out, { events: [] });
        case 'maas/':
          return json(out, 30);
        case 'subnets/':
          return json(out, [{ id: 1, cidr: '10.0.0.0/24' }]);
        case 'boot-resources/':
          return json(out, [{ name: 'ubuntu/noble', architecture: 'amd64/ga-24.04' }]);
        case 'machines/':
        case 'ipaddresses/':
          return json(out, []);
        default:
          return json(out, [{ id: 1, name: 'default', description: '' }]);
      }
    });

  it('finds a normal user sufficient, names what it lacks, and changes nothing', async () => {
    await using maas = await region(false);
    await using client = clientOf(maas);
    const report = await rightsReport(client, never());
    expect(report).toMatchObject({ username: 'pcg', isAdmin: false, sufficient: true, support: 'supported' });
    expect(report.rights.filter((right) => right.verdict === 'denied').map((right) => right.id)).toEqual([
      'dns.write',
      'machines.mark_fixed',
      'machines.read_all',
      'machines.commission',
    ]);
    expect(maas.seen.every((seen) => seen.method === 'GET')).toBe(true);
    expect(maas.seen.some((seen) => seen.path === 'machines/' && !seen.query.has('id'))).toBe(false);
  });

  it('warns of an administrator, whose key could touch the machines of others', async () => {
    await using maas = await region(true);
    await using client = clientOf(maas);
    const report = await rightsReport(client, never());
    expect(report.rights.every((right) => right.verdict === 'granted')).toBe(true);
    expect(report.remarks.join()).toContain('administrator');
  });

  it('is insufficient without a right that everything needs', async () => {
    await using maas = await region(false, ['subnets/', 'events/']);
    await using client = clientOf(maas);
    const report = await rightsReport(client, never());
    expect(report.sufficient).toBe(false);
    expect(report.rights.find((right) => right.id === 'subnets.read')).toMatchObject({
      verdict: 'denied',
      code: 'MAAS_FORBIDDEN',
    });
    expect(report.rights.find((right) => right.id === 'events.read')?.weight).toBe('optional');
  });

  it('says when the version is too old or unknown', async () => {
    await using old = await region(false, [], '2.9.2');
    await using client = clientOf(old);
    expect((await rightsReport(client, never())).support).toBe('too-old');
  });
});

describe('black box', () => {
  it('keeps events and the end of the installation log, without credentials', async () => {
    await using maas = await serveScript((seen, out) => {
      if (seen.path === 'events/') {
        return json(out, {
          events: [
            {
              id: 2,
              node: 'abc123',
              level: 'ERROR',
              type: 'Failed',
              description: 'token=abcdef.0123456789abcdef',
            },
          ],
        });
      }
      if (seen.path.startsWith('nodes/'))
        return text(out, 200, 'curtin: failed\nkubeadm join --token abcdef.0123456789abcdef\n');
      return json(out, wireMachine('abc123', 11, { error_description: 'power on failed' }));
    });
    await using client = clientOf(maas);
    const box = await collectBlackbox({ client, clock: systemClock }, 'abc123', never());
    expect(box).toMatchObject({
      systemId: 'abc123',
      missing: [],
      machine: { status: 'failed_deployment', errorDescription: 'power on failed' },
    });
    expect(box.installationOutput).toContain('curtin: failed');
    expect(box.events).toHaveLength(1);
    expect(JSON.stringify(box)).not.toContain('0123456789abcdef');
  });

  it('names what it could not read instead of failing, and a machine without a log has none', async () => {
    await using maas = await serveScript((seen, out) => {
      if (seen.path === 'events/') return text(out, 403, 'no');
      if (seen.path.startsWith('nodes/'))
        return text(out, 400, 'No current installation script set exists for this node.');
      return json(out, wireMachine('abc123', 11));
    });
    await using client = clientOf(maas);
    const box = await collectBlackbox({ client, clock: systemClock }, 'abc123', never());
    expect(box.missing).toEqual([{ part: 'events', code: 'MAAS_FORBIDDEN' }]);
    expect(box.installationOutput).toBeUndefined();
  });

  it('is bounded in time, since the release waits for it', async () => {
    await using maas = await serveScript(() => {});
    await using client = clientOf(maas);
    const clock = new ManualClock();
    const collecting = collectBlackbox({ client, clock }, 'abc123', never());
    while (maas.seen.length === 0) await new Promise(setImmediate);
    await clock.advance(60_000);
    await clock.advance(1);
    expect((await collecting).missing.map((missing) => missing.code)).toEqual([
      'DEADLINE',
      'DEADLINE',
      'DEADLINE',
    ]);
  });
});

describe('scrubbing', () => {
  it.each([
    ['-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\n-----END RSA PRIVATE KEY-----', 'MIIEabc'],
    ['-----BEGIN PRIVATE KEY-----\nMIIEcut', 'MIIEcut'],
    ['kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef', '0123456789abcdef'],
    ['oauth_token_secret="SeCrEt123"', 'SeCrEt123'],
    ["{'consumer_key': 'CkCk', 'token_key': 'TkTk', 'token_secret': 'TsTs'}", 'TsTs'],
    ['password: hunter2', 'hunter2'],
    ['http_proxy=http://user:pass123@proxy:3128', 'pass123'],
    ['Authorization: OAuth oauth_signature="%26abc"', '%26abc'],
    ['--certificate-key=0a1b2c', '0a1b2c'],
  ])('%s', (line, secret) => {
    expect(scrub(line)).not.toContain(secret);
    expect(scrub(line)).toContain('[secret]');
  });

  it('leaves an ordinary log alone', () => {
    const log =
      'Get:1 http://archive.ubuntu.com/ubuntu noble InRelease\npackage token-ring 1.2.3 installed\n';
    expect(scrub(log)).toBe(log);
  });
});
