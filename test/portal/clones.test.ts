/** Two agents with one identity, as whoever runs the portal learns of them. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { eventually } from '../support/eventually.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { describeWith } from '../support/needs.ts';
import { expectUsable, signIn } from '../support/page-site.ts';
import { testPortal } from '../support/portal.ts';

it('54: a clone that is refused is in the metrics and at its gateway for an hour', async () => {
  const state = { skewMs: 0 };
  const clock = { ...steadyClock, now: () => Date.now() + state.skewMs };
  await using portal = await testPortal({ clock });
  const { identity, paired } = await portal.pair('dc1');
  const clones = async () => (await portal.call('GET', '/api/v1/gateways')).body.items[0].clone;
  await using _one = await connectGateway(identity, paired);
  expect(await clones()).toBeUndefined();
  {
    await using _other = await connectGateway(identity, paired);
    await eventually(async () => (await clones()) !== undefined);
  } // it would try again, and be refused again at a later hour
  expect(await clones()).toEqual({
    refusedAt: expect.stringMatching(/^20/),
    remoteAddresses: ['127.0.0.1', '127.0.0.1'],
  });
  expect((await portal.call('GET', '/metrics')).body).toMatch(/^pcg_portal_duplicate_gateways_total [1-9]/m);
  state.skewMs = 59 * 60_000;
  expect(await clones()).toBeDefined();
  state.skewMs = 61 * 60_000;
  expect(await clones()).toBeUndefined();
});

describeWith(['chromium'], 'the page', () => {
  let browser: TestBrowser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.[Symbol.asyncDispose]());

  it('54: shows at once that two agents use one identity, in the list and at the gateway, and what to do', async () => {
    await using portal = await testPortal({ page: true });
    await using tab = await browser.open();
    const { page, faults } = tab;
    const { identity, paired } = await portal.pair('dc1');
    await using _one = await connectGateway(identity, paired);
    await signIn(tab, portal, '/gateways');
    await page.getByText('Connected', { exact: true }).waitFor();
    expect(await page.getByText('Two agents').count()).toBe(0);
    await using _other = await connectGateway(identity, paired);
    await page.getByText('Two agents', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'dc1' }).click();
    const notice = page.getByRole('status').filter({ hasText: "Two agents use this gateway's identity" });
    await notice.waitFor();
    expect(await notice.textContent()).toMatch(/They came from 127\.0\.0\.1\.[\s\S]*systemctl stop pcg/);
    await expectUsable(page);
    expect(faults).toEqual([]);
  });
});
