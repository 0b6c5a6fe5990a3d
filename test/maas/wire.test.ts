/** The door to MAAS against broken, slow, lying and hostile servers. */
import { once } from 'node:events';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { describeError, PcgError, toProblem } from '../../src/base/errors.ts';
import { createClusterPki, issueServerCertificate } from '../../src/kube/pki.ts';
import {
  clientOf,
  html,
  json,
  never,
  SECRET,
  serveHttp,
  serveScript,
  serveTcp,
  text,
  TOKEN,
} from '../support/maas-wire.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { ownPort } from '../support/own-port.ts';

const VERSION = { version: '3.5.13', subversion: '', capabilities: [] };
const codeOf = async (promise: Promise<unknown>): Promise<string> =>
  await promise.then(
    () => 'success',
    (error: unknown) => (error instanceof PcgError ? error.code : `not coded: ${String(error)}`),
  );

describe('secrets', () => {
  it('a 401 body that prints the true token secret reaches neither error nor log', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    await using region = await serveScript((_seen, out) => {
      out.writeHead(401, { 'content-type': 'text/html', 'www-authenticate': 'OAuth realm="OAuth"' });
      out.end(`Authorization Error: 'Invalid signature. Expected signature base string: &${SECRET}'`);
    });
    await using client = clientOf(region, { log });
    const error = await client.whoami(never()).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'MAAS_UNAUTHORIZED', retryable: false });
    const everything = [
      describeError(error),
      JSON.stringify(toProblem(error)),
      (error as Error).stack,
      ...lines,
    ].join('\n');
    for (const secret of [SECRET, TOKEN]) expect(everything).not.toContain(secret);
    expect(lines.length).toBeGreaterThan(0);
  });

  it('a key echoed in any other error is blanked', async () => {
    await using region = await serveScript((seen, out) =>
      text(out, 400, `you sent ${seen.headers.authorization}`),
    );
    await using client = clientOf(region);
    const error = await client.zones(never()).catch((caught: unknown) => caught);
    expect((error as Error).message).toContain('[secret]');
    expect((error as Error).message).not.toContain(SECRET);
  });

  it('says that a proxy may have removed the signature when MAAS saw none', async () => {
    await using region = await serveScript((_seen, out) => text(out, 401, 'Forbidden'));
    await using client = clientOf(region);
    await expect(client.whoami(never())).rejects.toMatchObject({
      details: { hint: expect.stringContaining('proxy') },
    });
  });
});

describe('clocks', () => {
  const skewed = (offsetMs: number) =>
    serveScript((seen, out) => {
      const region = Date.now() + offsetMs;
      const stamp = Number(/oauth_timestamp="(\d+)"/.exec(seen.headers.authorization ?? '')?.[1]) * 1000;
      const date = new Date(region).toUTCString();
      if (region - stamp > 300_000) {
        out.writeHead(401, { 'content-type': 'text/html', date, 'www-authenticate': 'OAuth realm="OAuth"' });
        return void out.end('Expired timestamp');
      }
      return json(out, { username: 'pcg', is_superuser: false }, 200, { date });
    });

  it("an old clock is learnt from MAAS's Date and the request is signed again", async () => {
    await using region = await skewed(3_600_000);
    await using client = clientOf(region);
    expect(await client.whoami(never())).toEqual({ username: 'pcg', isAdmin: false });
    expect(region.seen).toHaveLength(2);
    await client.whoami(never());
    expect(region.seen).toHaveLength(3); // learnt once
    expect(client.clockSkewMs).toBeGreaterThan(3_590_000);
    const nonces = region.seen.map(
      (seen) => /oauth_nonce="(\w+)"/.exec(seen.headers.authorization ?? '')?.[1],
    );
    expect(new Set(nonces).size).toBe(3);
  });

  it('a clock ahead of MAAS passes, and its skew is known', async () => {
    await using region = await skewed(-3_600_000);
    await using client = clientOf(region);
    await client.whoami(never());
    expect(region.seen).toHaveLength(1);
    expect(client.clockSkewMs).toBeLessThan(-3_590_000);
  });

  it('a key that is simply wrong is tried once', async () => {
    await using region = await serveScript((_seen, out) =>
      text(out, 401, 'Authorization Error', { 'www-authenticate': 'OAuth' }),
    );
    await using client = clientOf(region);
    expect(await codeOf(client.whoami(never()))).toBe('MAAS_UNAUTHORIZED');
    expect(region.seen).toHaveLength(1);
  });
});

describe('requests', () => {
  it('every retry is signed anew', async () => {
    await using region = await serveScript((_seen, out, index) =>
      index < 3 ? html(out, 502, '502 Bad Gateway') : json(out, VERSION),
    );
    await using client = clientOf(region);
    expect((await client.version(never())).minor).toBe(5);
    expect(new Set(region.seen.map((seen) => seen.headers.authorization)).size).toBe(4);
  });

  it('a redirect is not followed, and the error names where it leads', async () => {
    await using elsewhere = await serveScript((_seen, out) => json(out, VERSION));
    await using region = await serveScript((_seen, out) => {
      out.writeHead(301, { location: `${elsewhere.origin}/MAAS/api/2.0/` });
      out.end();
    });
    await using client = clientOf(region);
    await expect(
      client.machines.release('abc123', { erase: 'none', comment: '' }, never()),
    ).rejects.toMatchObject({
      code: 'MAAS_URL_INVALID',
      message: expect.stringContaining(elsewhere.origin),
    });
    expect(elsewhere.seen).toHaveLength(0);
  });

  it('paths always end with a slash and options of a POST are never in the query', async () => {
    await using region = await serveScript((_seen, out) => json(out, {}));
    await using client = clientOf(region, { limits: { attempts: 1 } });
    const signal = never();
    await Promise.allSettled([
      client.version(signal),
      client.whoami(signal),
      client.config('maas_name', signal),
      client.zones(signal),
      client.machines.get('abc123', signal),
      client.machines.list({ pools: ['a/b c'] }, signal),
      client.machines.allocate({ agentName: 'a', comment: '', pool: 'p', dryRun: true }, signal),
      client.machines.deploy('abc123', { image: 'ubuntu/noble', userData: '' }, signal),
      client.machines.release('abc123', { erase: 'full', comment: 'x' }, signal),
      client.machines.abort('abc123', '', signal),
      client.machines.setAnnotations('abc123', { a: 'b' }, signal),
      client.machines.powerOff('abc123', 'soft', signal),
      client.machines.markBroken('abc123', 'x', signal),
      client.releaseAddress('10.0.0.1', signal),
      client.updateDnsResource(1, [], signal),
      client.events({ after: 1 }, signal),
    ]);
    expect(region.seen.length).toBeGreaterThanOrEqual(16);
    for (const seen of region.seen) {
      expect(seen.path).toMatch(/\/$/);
      if (seen.method === 'GET') continue;
      expect([...seen.query.keys()].filter((key) => key !== 'op')).toEqual([]);
      expect(seen.headers['content-type']).toBe('application/x-www-form-urlencoded');
    }
  });

  it('an id that is not one never becomes a path', async () => {
    await using region = await serveScript((_seen, out) => json(out, {}));
    await using client = clientOf(region);
    for (const id of ['../users', 'a/b', '', 'a?op=release']) {
      expect(await codeOf(client.machines.get(id, never()))).toBe('INVALID_INPUT');
    }
    expect(region.seen).toHaveLength(0);
  });
});

describe('answers', () => {
  it.each([
    ['an HTML page', 'text/html', '<html>login</html>'],
    ['broken JSON', 'application/json', '{"version": "3.5'],
    ['another shape', 'application/json', '{"hello": 1}'],
    ['an empty body', 'application/json', ''],
  ])('%s with status 200 is not a MAAS', async (_what, type, body) => {
    await using region = await serveHttp(
      (_incoming, out) => void out.writeHead(200, { 'content-type': type }).end(body),
    );
    await using client = clientOf(region);
    expect(await codeOf(client.version(never()))).toBe('MAAS_PROTOCOL');
  });

  it("a proxy's own 404 or 403 does not make a machine disappear", async () => {
    for (const status of [404, 403]) {
      await using proxy = await serveHttp(
        (_in, out) => void out.writeHead(status, { 'content-type': 'text/plain' }).end('page not found'),
      );
      await using client = clientOf(proxy);
      expect(await codeOf(client.machines.get('abc123', never()))).toBe('MAAS_PROTOCOL');
      expect((await client.machines.release('abc123', { erase: 'none', comment: '' }, never())).kind).toBe(
        'unknown',
      );
    }
  });

  it('a 404 without the usual headers counts when a region answers at that address', async () => {
    await using region = await serveScript((seen, out) =>
      seen.path === 'version/'
        ? json(out, VERSION)
        : void out.writeHead(404, { 'content-type': 'text/plain' }).end('no machine'),
    );
    await using client = clientOf(region);
    expect(await client.machines.get('abc123', never())).toBeUndefined();
  });

  it('one unreadable machine fails the whole list instead of reading as gone', async () => {
    await using region = await serveScript((_seen, out) =>
      json(out, [{ system_id: 'abc123', status: 4 }, { status: 4 }]),
    );
    await using client = clientOf(region);
    expect(await codeOf(client.machines.list({ pools: ['p'] }, never()))).toBe('MAAS_PROTOCOL');
  });

  it('nulls, stubs and fields of another type are tolerated', async () => {
    const odd = {
      system_id: 'abc123',
      status: 99,
      hostname: null,
      owner: null,
      zone: null,
      pool: { id: 1, __incomplete__: true },
      cpu_count: 'many',
      tag_names: ['ok', 7, null],
      ip_addresses: null,
      owner_data: { 'pcg.cluster': 'c1', odd: { nested: true } },
      interface_set: [
        { name: 'eth0', links: [{ mode: 'auto', subnet: { id: 1, __incomplete__: true } }] },
        null,
      ],
      future_field: 1,
    };
    await using region = await serveScript((_seen, out) => json(out, odd));
    await using client = clientOf(region);
    const machine = await client.machines.get('abc123', never());
    expect(machine).toMatchObject({
      status: 'unknown',
      zone: '',
      pool: '',
      cpuCount: 0,
      tags: ['ok'],
      ipAddresses: [],
    });
    expect(machine?.annotations).toEqual({ 'pcg.cluster': 'c1' });
  });

  it('megabytes that somebody wrote into a machine are not carried around', async () => {
    const vast = 'x'.repeat(3 << 20);
    await using region = await serveScript((_seen, out) =>
      json(out, {
        system_id: 'abc123',
        status: 4,
        status_message: vast,
        error_description: vast,
        owner_data: { vast, 'pcg.cluster': 'c1' },
      }),
    );
    await using client = clientOf(region);
    const machine = await client.machines.get('abc123', never());
    expect(JSON.stringify(machine).length).toBeLessThan(5000);
    expect(machine?.annotations).toEqual({ 'pcg.cluster': 'c1' });
  });

  it('another machine than the one asked for is refused', async () => {
    await using region = await serveScript((_seen, out) => json(out, { system_id: 'other1', status: 4 }));
    await using client = clientOf(region);
    expect(await codeOf(client.machines.get('abc123', never()))).toBe('MAAS_PROTOCOL');
  });

  it('an endless body is cut off', async () => {
    await using region = await serveHttp((_incoming, out) => {
      out.writeHead(200, { 'content-type': 'application/json' });
      const chunk = Buffer.alloc(1 << 20, 32);
      const more = (): void => {
        while (!out.destroyed && out.write(chunk));
        if (!out.destroyed) out.once('drain', more);
      };
      more();
    });
    await using client = clientOf(region);
    expect(await codeOf(client.version(never()))).toBe('MAAS_PROTOCOL');
  });

  it('the end of a long installation log is kept, from a whole line on', async () => {
    await using region = await serveScript((_seen, out) => {
      out.writeHead(200, { 'content-type': 'text/plain' });
      for (let line = 0; line < 20_000; line += 1) out.write(`line ${line} äöü\n`);
      out.end('last line\n');
    });
    await using client = clientOf(region);
    const output = await client.machines.installationOutput('abc123', 1000, never());
    expect(output?.length).toBeLessThanOrEqual(1000);
    expect(output).toMatch(/^line \d+ äöü\n/);
    expect(output?.endsWith('last line\n')).toBe(true);
  });
});

describe('connections', () => {
  it('a closed port is unreachable, at once told from a wrong answer', async () => {
    await using client = clientOf({ origin: `http://127.0.0.1:${await ownPort()}` });
    expect(await codeOf(client.version(never()))).toBe('MAAS_UNREACHABLE');
  });

  it('a connection closed while idle costs nothing', async () => {
    let connections = 0;
    await using region = await serveTcp((socket) => {
      connections += 1;
      socket.once('data', () => {
        const body = JSON.stringify(VERSION);
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        );
        // Keep-alive is promised and broken, as nginx does after 65 s.
        socket.once('data', () => socket.destroy());
      });
    });
    await using client = clientOf(region);
    for (let call = 0; call < 4; call += 1) expect((await client.version(never())).version).toBe('3.5.13');
    expect(connections).toBeGreaterThanOrEqual(4);
  });

  it('a region that hangs is left at the deadline of the call, which the clock rules', async () => {
    await using region = await serveScript(() => {});
    const clock = new ManualClock();
    await using client = clientOf(region, { clock, limits: { attempts: 1 } });
    const code = codeOf(client.zones(never()));
    while (region.seen.length === 0) await new Promise(setImmediate);
    await clock.advance(59_000);
    await clock.advance(2_000);
    expect(await code).toBe('MAAS_UNREACHABLE');
    expect(clock.pending).toBe(0);
  });

  it('a body that stops half-way is left at the deadline, too', async () => {
    await using region = await serveScript((_seen, out) => {
      out.writeHead(200, { 'content-type': 'application/json' });
      out.write('[{"id": 1,');
    });
    const clock = new ManualClock();
    await using client = clientOf(region, { clock, limits: { attempts: 1 } });
    const code = codeOf(client.zones(never()));
    while (region.seen.length === 0) await new Promise(setImmediate);
    await clock.advance(61_000);
    expect(await code).toBe('MAAS_UNREACHABLE');
  });

  it('a look for one machine goes before waiting lists of whole pools', async () => {
    const held: (() => void)[] = [];
    await using region = await serveScript((_seen, out) => void held.push(() => json(out, [])));
    await using client = clientOf(region);
    const calls = [
      client.machines.list({ pools: ['a'] }, never()),
      client.machines.list({ pools: ['b'] }, never()),
      client.machines.list({ agentName: 'mine' }, never()),
    ];
    const pump = setInterval(() => held.shift()?.(), 1);
    await Promise.all(calls);
    clearInterval(pump);
    expect(region.seen.map((seen) => seen.query.toString())).toEqual(['pool=a', 'agent_name=mine', 'pool=b']);
  });

  it('an abort ends the call with its own reason, in the queue and in flight', async () => {
    await using region = await serveScript(() => {});
    await using client = clientOf(region);
    const stop = new AbortController();
    const calls = Array.from({ length: 8 }, () => client.zones(stop.signal).catch((error: unknown) => error));
    while (region.seen.length < 4) await new Promise(setImmediate);
    stop.abort(new Error('stopped by test'));
    for (const outcome of await Promise.all(calls))
      expect((outcome as Error).message).toBe('stopped by test');
    expect(region.seen).toHaveLength(4);
  });

  it('TLS with a private CA works with that CA and fails with a clear code without it', async () => {
    const pki = await createClusterPki({ nowMs: Date.now(), keyAlgorithm: 'ecdsa-p256' });
    const server = await issueServerCertificate(pki.ca, {
      commonName: 'maas',
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
      nowMs: Date.now(),
      validityMs: 3_600_000,
    });
    const tls = createTlsServer({ cert: server.certPem, key: server.keyPem }, (_in, out) =>
      json(out, VERSION),
    );
    tls.listen(0, '127.0.0.1');
    await once(tls, 'listening');
    const origin = `https://127.0.0.1:${(tls.address() as AddressInfo).port}`;
    await using trusting = clientOf({ origin }, { caPem: pki.ca.certPem });
    expect((await trusting.version(never())).version).toBe('3.5.13');
    await using distrustful = clientOf({ origin });
    expect(await codeOf(distrustful.version(never()))).toBe('TLS_FAILED');
    await using plain = clientOf({ origin: origin.replace('https', 'http') });
    expect(['MAAS_PROTOCOL', 'MAAS_UNREACHABLE']).toContain(await codeOf(plain.version(never())));
    tls.closeAllConnections();
    tls.close();
  });

  it('https towards a plain port fails at once', async () => {
    await using region = await serveScript((_seen, out) => json(out, VERSION));
    await using client = clientOf({ origin: region.origin.replace('http', 'https') });
    expect(await codeOf(client.version(never()))).toBe('TLS_FAILED');
  });
});

describe('a region in trouble', () => {
  it('a burst of 500, 502 and HTML 409 after a database restart is outlasted', async () => {
    await using region = await serveScript((_seen, out, index) => {
      if (index === 0) return text(out, 500, 'server closed the connection unexpectedly');
      if (index === 1) return html(out, 409, 'Error: Conflict Error', { 'retry-after': '5' });
      if (index === 2) return html(out, 502, '502 Bad Gateway');
      return json(out, [{ id: 1, name: 'default', description: '' }]);
    });
    await using client = clientOf(region);
    expect(await client.zones(never())).toEqual([{ id: 1, name: 'default', description: '' }]);
  });

  it('Retry-After is waited for, but not for ever', async () => {
    const waits: number[] = [];
    const clock = {
      ...systemClock,
      sleep: async (ms: number) => void waits.push(ms),
    };
    await using region = await serveScript((seen, out) =>
      text(out, 503, 'no rack', { 'retry-after': seen.path === 'zones/' ? '10' : '86400' }),
    );
    await using client = clientOf(region, { clock });
    expect(await codeOf(client.zones(never()))).toBe('MAAS_RACK_DISCONNECTED');
    expect(waits).toHaveLength(4);
    for (const wait of waits) expect(wait).toBeGreaterThanOrEqual(10_000);
    expect(await codeOf(client.tags(never()))).toBe('MAAS_RACK_DISCONNECTED');
    expect(waits).toHaveLength(4);
  });

  it('never more than four requests are in flight, one list and one allocate of them', async () => {
    let now = 0;
    let most = 0;
    const kinds = { list: 0, allocate: 0 };
    const mostOf = { list: 0, allocate: 0 };
    await using region = await serveScript(async (seen, out) => {
      const kind =
        seen.query.get('op') === 'allocate' ? 'allocate' : seen.path === 'machines/' ? 'list' : undefined;
      most = Math.max(most, ++now);
      if (kind) mostOf[kind] = Math.max(mostOf[kind], ++kinds[kind]);
      for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
      now -= 1;
      if (kind) kinds[kind] -= 1;
      json(out, kind === 'allocate' ? { system_id: 'abc123', status: 10 } : []);
    });
    await using client = clientOf(region);
    await Promise.all(
      Array.from({ length: 60 }, (_, index) => {
        if (index % 3 === 0) return client.machines.list({ pools: ['p'] }, never());
        if (index % 3 === 1)
          return client.machines.allocate({ agentName: 'a', comment: '', pool: 'p' }, never());
        return client.zones(never());
      }),
    );
    expect(most).toBeLessThanOrEqual(4);
    expect(most).toBeGreaterThan(1);
    expect(mostOf).toEqual({ list: 1, allocate: 1 });
  });

  it('reads go on while deploys wait for slow BMCs', async () => {
    const held: (() => void)[] = [];
    await using region = await serveScript((seen, out) => {
      if (seen.method === 'POST')
        held.push(() => json(out, { system_id: seen.path.split('/')[1], status: 9 }));
      else json(out, []);
    });
    await using client = clientOf(region);
    const deploys = Array.from({ length: 10 }, (_, index) =>
      client.machines.deploy(`abc12${index}`, { image: 'ubuntu/noble', userData: '' }, never()),
    );
    while (held.length < 3) await new Promise(setImmediate);
    expect(await client.zones(never())).toEqual([]);
    const pump = setInterval(() => held.shift()?.(), 1);
    const outcomes = await Promise.all(deploys);
    clearInterval(pump);
    expect(outcomes.every((outcome) => outcome.kind === 'accepted')).toBe(true);
  });

  it('an allocation does not stand in line behind deployments that wait for slow BMCs', async () => {
    const held: (() => void)[] = [];
    await using region = await serveScript((seen, out) => {
      if (seen.query.get('op') === 'allocate') return json(out, { system_id: 'abc999', status: 10 });
      held.push(() => json(out, { system_id: seen.path.split('/')[1], status: 9 }));
    });
    await using client = clientOf(region);
    const deploys = Array.from({ length: 5 }, (_, index) =>
      client.machines.deploy(`abc12${index}`, { image: 'ubuntu/noble', userData: '' }, never()),
    );
    while (held.length < 3) await new Promise(setImmediate);
    const request = { agentName: 'a', comment: '', systemId: 'abc999' };
    expect((await client.machines.allocate(request, never())).kind).toBe('allocated');
    expect(held).toHaveLength(3);
    const pump = setInterval(() => held.shift()?.(), 1);
    await Promise.all(deploys);
    clearInterval(pump);
  });

  it('on a slow region an allocation counts among the calls that leave a slot for reads', async () => {
    let time = 0;
    let slow = true;
    const held: (() => void)[] = [];
    const clock = { ...systemClock, monotonic: () => time };
    await using region = await serveScript((seen, out) => {
      if (slow) time += 6_000;
      if (seen.method === 'GET') return json(out, []);
      held.push(() => json(out, { system_id: seen.path.split('/')[1] || 'abc999', status: 9 }));
    });
    await using client = clientOf(region, { clock });
    for (let call = 0; call < 5; call += 1) await client.zones(never());
    expect(client.pressure).toBe(2);
    slow = false;
    const deploy = client.machines.deploy('abc120', { image: 'ubuntu/noble', userData: '' }, never());
    while (held.length < 1) await new Promise(setImmediate);
    const allocate = client.machines.allocate({ agentName: 'a', comment: '', systemId: 'abc999' }, never());
    expect(await client.zones(never())).toEqual([]);
    expect(held).toHaveLength(1);
    const pump = setInterval(() => held.shift()?.(), 1);
    await Promise.all([deploy, allocate]);
    clearInterval(pump);
  });

  it('a slow region gets fewer requests until it is quick again', async () => {
    let slow = true;
    let time = 0;
    const clock = { ...systemClock, monotonic: () => time };
    await using region = await serveScript((_seen, out) => {
      if (slow) time += 6_000;
      json(out, []);
    });
    await using client = clientOf(region, { clock });
    for (let call = 0; call < 5; call += 1) await client.zones(never());
    expect(client.pressure).toBe(2);
    slow = false;
    for (let call = 0; call < 10; call += 1) await client.zones(never());
    expect(client.pressure).toBe(0);
  });
});
