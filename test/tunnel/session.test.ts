import { createHash, randomBytes } from 'node:crypto';
import { Duplex, duplexPair } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { unhurriedClock } from '../support/unhurried-clock.ts';
import { PcgError } from '../../src/base/errors.ts';
import { STREAM } from '../../src/tunnel/codes.ts';
import { SessionSlot } from '../../src/tunnel/session-slot.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SessionPair } from '../support/session-pair.ts';
import { until } from '../support/tunnel-pair.ts';

/** A target that sends back what it gets. */
const echo = async (): Promise<Duplex> => {
  const [near, far] = duplexPair();
  far.pipe(far);
  return near;
};

const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

describe('session', () => {
  it('carries bytes both ways and half-closes', async () => {
    await using pair = await SessionPair.connected({ clock: unhurriedClock, gatewayTarget: echo });
    const stream = await pair.portal.open({ target: 'agent' });
    const data = randomBytes(3_000_000);
    stream.end(data);
    expect(sha(await buffer(stream))).toBe(sha(data));
    await until(() => pair.portal.streams === 0 && pair.gateway.streams === 0);
  });

  it('continues streams byte-exact after a cut', async () => {
    await using pair = await SessionPair.connected({ clock: unhurriedClock, gatewayTarget: echo });
    const stream = await pair.portal.open({ target: 'agent' });
    const data = randomBytes(6_000_000);
    stream.end(data);
    const read = buffer(stream);
    for (let cut = 0; cut < 5; cut += 1) {
      await new Promise((resolve) => setTimeout(resolve, 3));
      pair.link.cut();
      const met = await pair.connect();
      expect(met.gateway.kind).toBe('resumed');
    }
    expect(sha(await read)).toBe(sha(data));
  });

  it('26: whoever opens through a slot hears of a dial that nobody answers as CONN_TIMEOUT, from the peer', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock, gatewayTarget: () => new Promise(() => {}) });
    const slot = new SessionSlot(clock, () => new PcgError('GATEWAY_OFFLINE', 'not connected'));
    slot.replace(pair.portal);
    const opening = slot.open({ target: 'tcp:hole.site:80' }).catch((error: unknown) => error);
    await clock.advance(16_000);
    expect(await opening).toMatchObject({ streamCode: STREAM.CONN_TIMEOUT });
    expect([pair.portal.streams, pair.gateway.streams]).toEqual([0, 0]);
  });

  it('ends streams with SESSION_LOST after the grace time', async () => {
    const clock = new ManualClock();
    await using pair = await SessionPair.connected({ clock, gatewayTarget: echo });
    const opening = pair.portal.open({ target: 'agent' });
    await clock.settle(20);
    const stream = await opening;
    const failed = new Promise<Error>((resolve) => stream.once('error', resolve));
    pair.link.cut();
    await clock.advance(119_000);
    expect(pair.portal.state.kind).toBe('detached');
    await clock.advance(2_000);
    expect(pair.portal.state.kind).toBe('closed');
    expect(await failed).toMatchObject({ code: 'ERR_TUNNEL_SESSION_LOST' });
  });
});
