import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { STREAM, StreamError } from '../../src/tunnel/codes.ts';
import { targetKind, tunnelMetrics } from '../../src/tunnel/metrics.ts';
import type { TunnelStream } from '../../src/tunnel/ports.ts';
import { collect } from '../support/collect.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { scrape } from '../support/scrape.ts';
import { SessionPair } from '../support/session-pair.ts';

describe('metrics', () => {
  it('has every metric of the specification', async () => {
    const registry = new Registry();
    tunnelMetrics(registry);
    expect(
      registry
        .getMetricsAsArray()
        .map(({ name }) => name.replace('pcg_tunnel_', ''))
        .toSorted(),
    ).toEqual(
      [
        'state',
        'reconnects',
        'handshake_seconds',
        'rtt_seconds',
        'inflight_bytes',
        'inflight_cap_bytes',
        'replay_bytes',
        'resumes',
        'refused',
        'event_loop_lag_seconds',
        'send_queue_seconds',
        'streams_open',
        'stream_open_seconds',
        'stream_bytes',
        'streams_stalled',
        'sync_lag_seconds',
        'denied',
      ].toSorted(),
    );
    expect(tunnelMetrics(registry)).toBe(tunnelMetrics(registry));
  });

  it('counts what streams carry, what is stalled, resumed and denied', async () => {
    const clock = new ManualClock();
    const registry = new Registry();
    const stalled: TunnelStream[] = [];
    const pair = await SessionPair.connected({
      clock,
      metrics: tunnelMetrics(registry),
      gatewayTarget: async (open) => {
        if (open.target === 'tcp:10.0.0.1:22') throw new StreamError(STREAM.DENIED);
        return (stream) => void stalled.push(stream);
      },
    });
    const opening = pair.portal.open({ target: 'kube:alpha' });
    const denied = pair.portal.open({ target: 'tcp:10.0.0.1:22' }).catch(() => {});
    await clock.advance(100);
    const stream = await opening;
    await denied;
    for (let count = 0; count < 20; count += 1) stream.write(Buffer.alloc(65_536));
    await clock.advance(100);
    let seen = await scrape(registry);
    expect(seen.get('pcg_tunnel_state{state="attached"}')).toBe(2);
    expect(seen.get('pcg_tunnel_streams_open{target="kube"}')).toBe(2);
    expect(seen.get('pcg_tunnel_streams_stalled')).toBe(1);
    expect(seen.get('pcg_tunnel_denied')).toBe(1);
    expect(seen.get('pcg_tunnel_stream_open_seconds_count{result="ok"}')).toBe(2);
    pair.link.cut();
    const met = pair.connect();
    await clock.settle(20);
    await met;
    const answers = stalled.map((one) => collect(one));
    stream.end();
    await clock.advance(1_000);
    await Promise.all(answers);
    seen = await scrape(registry);
    expect(seen.get('pcg_tunnel_resumes{result="ok"}')).toBe(2);
    expect(seen.get('pcg_tunnel_stream_bytes{target="kube",direction="out"}')).toBe(20 * 65_536);
    expect(seen.get('pcg_tunnel_stream_bytes{target="kube",direction="in"}')).toBe(20 * 65_536);
    for (const one of stalled) one.end();
    await clock.advance(100);
    await pair[Symbol.asyncDispose]();
  });

  it('#56: sessions that are over leave nothing behind', async () => {
    const clock = new ManualClock();
    const registry = new Registry();
    const lines = new Set<number>();
    for (let round = 0; round < 5; round += 1) {
      await using pair = await SessionPair.connected({
        clock,
        metrics: tunnelMetrics(registry),
        gatewayTarget: async () => (stream) => void stream.resume().on('error', () => {}),
      });
      const opening = pair.portal.open({ target: `kube:cluster-${round}` });
      await clock.settle(10);
      (await opening).write('x');
      await clock.settle(10);
      await pair[Symbol.asyncDispose]();
      const seen = await scrape(registry);
      expect(seen.get('pcg_tunnel_state{state="attached"}')).toBe(0);
      expect(seen.get('pcg_tunnel_replay_bytes')).toBe(0);
      lines.add(seen.size);
    }
    expect(lines.size).toBe(1);
  });

  it('a peer cannot invent label values', () => {
    expect(
      ['agent', 'maas:x', 'kube:y', 'tcp:a:1', 'portal', 'evil', 'constructor:1', ''].map(targetKind),
    ).toEqual(['agent', 'maas', 'kube', 'tcp', 'portal', 'other', 'other', 'other']);
  });
});
