/** The page in Debian's Chromium, with a gateway on a real tunnel behind the portal. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { steadyClock } from '../support/steady-clock.ts';
import { generateIdentity } from '../../src/tunnel/identity.ts';
import { pairWithPortal } from '../../src/tunnel/pair-client.ts';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { connectGateway } from '../support/fake-gateway.ts';
import { eventually } from '../support/eventually.ts';
import { describeWith } from '../support/needs.ts';
import { ACCOUNT, expectUsable, node, signIn, siteWithCluster } from '../support/page-site.ts';
import { clusterStatus, testPortal } from '../support/portal.ts';

describeWith(['chromium'], 'the page', () => {
  let browser: TestBrowser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.[Symbol.asyncDispose]());

  it('turns the instructions into the live pairing, and shows the words of both ends (R30, R35)', async () => {
    await using portal = await testPortal({ page: true });
    await using tab = await browser.open();
    const { page, faults } = tab;
    await signIn(tab, portal, '/gateways/new');
    await page.getByLabel('Name of the gateway').fill('berlin-dc1');
    await page.getByRole('button', { name: 'Get pairing code' }).click();
    const code = (await page.getByLabel('Pairing code', { exact: true }).textContent()) ?? '';
    expect(code).toMatch(/^([0-9A-Z]{5}-){5}[0-9A-Z]{5}$/);
    await page.getByText('valid for 23 h 59 min').or(page.getByText('valid for 24 h 0 min')).waitFor();
    for (const way of ['Container', 'Debian package', 'Silent install']) {
      await page.getByRole('tab', { name: way }).click();
      expect(await page.getByLabel(`Commands: ${way}`).textContent()).toContain(code);
    }
    const identity = generateIdentity();
    const paired = await pairWithPortal({ portalUrl: portal.url, code, identity, clock: steadyClock });
    await page.getByText('berlin-dc1 is paired').waitFor();
    await page.getByText(paired.words).waitFor();
    await using _gateway = await connectGateway(identity, paired);
    await page.getByText('It is connected.').waitFor();
    await page.getByRole('link', { name: 'Open gateway' }).click();
    await page.getByRole('heading', { name: 'berlin-dc1', level: 1 }).waitFor();
    await page.getByText('Connected', { exact: true }).waitFor();
    expect(faults).toEqual([]);
  });

  it('shows provisioning live: machines, tasks with attempts and durations, events once and in order (R113)', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page, faults } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await page.getByText('The gateway has not begun yet.').waitFor();
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({
        nodes: [node('prod-cp-1'), node('prod-cp-2', { systemId: 'def456' })],
        progress: { done: 2, total: 8 },
      }),
    );
    await page.locator('[data-node="prod-cp-1"]').waitFor();
    expect(await page.locator('[data-node]').count()).toBe(2);
    await page.getByText('waits for MAAS to install').first().waitFor();
    expect(await page.locator('[data-node="prod-cp-1"] .now').textContent()).toMatch(
      /\d+ min \d+ s, attempt 2/,
    );
    await page.getByText('2 of 8 steps').waitFor();
    await page.locator('[data-node="prod-cp-1"] summary').press('Enter');
    await page
      .locator('[data-node="prod-cp-1"]')
      .getByRole('row', { name: /deploy retrying 2/ })
      .waitFor();
    for (let n = 0; n < 30; n += 1)
      s.gateway.emit({ cluster: s.id, reason: 'MachineAllocated', message: `number ${n}` });
    await page.getByText('number 29').waitFor();
    // The tab loses its stream and resumes: nothing is shown twice.
    await page.context().setOffline(true);
    for (let n = 30; n < 40; n += 1)
      s.gateway.emit({ cluster: s.id, reason: 'NodeReady', message: `number ${n}` });
    await page.context().setOffline(false);
    await page.getByText('number 39').waitFor();
    const shown = await page.locator('.events .what').allTextContents();
    const numbers = shown.map((text) => Number(/number (\d+)/.exec(text)?.[1])).reverse();
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, n) => n));
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({ phase: 'Running', nodes: [node('prod-cp-1', { phase: 'Ready' })] }),
    );
    await page.getByText('Running', { exact: true }).first().waitFor();
    expect(faults.filter((fault) => !fault.includes('ERR_INTERNET_DISCONNECTED'))).toEqual([]);
  });

  it('does not let an answer that comes late hide what the stream has told since', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page } = tab;
    const asked = Promise.withResolvers<void>();
    const late = Promise.withResolvers<void>();
    let questions = 0;
    await page.route(`**/api/v1/clusters/${s.id}`, async (route) => {
      questions += 1;
      // The second one is asked when the stream begins: answered by the portal now, heard of by the page later.
      if (questions !== 2) return await route.continue();
      const response = await route.fetch();
      asked.resolve();
      await late.promise;
      await route.fulfill({ response });
    });
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await asked.promise;
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({ phase: 'Running', nodes: [node('prod-cp-1', { phase: 'Ready' })] }),
    );
    await page.locator('[data-node="prod-cp-1"]').waitFor();
    const answered = page.waitForEvent('requestfinished', (request) => request.url().endsWith(s.id));
    late.resolve();
    await answered;
    s.gateway.emit({ cluster: s.id, message: 'after the answer' });
    await page.getByText('after the answer').waitFor();
    expect(await page.locator('[data-node="prod-cp-1"]').count()).toBe(1);
    expect(await page.getByText('The gateway has not begun yet.').count()).toBe(0);
  });

  it('never shows stale green: Unknown with a time while the gateway is away (X11)', async () => {
    await using s = await siteWithCluster({ staleAfterMs: 0 });
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({ phase: 'Running', nodes: [node('prod-cp-1', { phase: 'Ready' })] }),
    );
    await using tab = await browser.open();
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await tab.page.getByText('Running', { exact: true }).first().waitFor();
    await s.gateway.disconnect();
    await tab.page.getByText('Unknown (was Running)').waitFor();
    await tab.page.getByText('Unknown (was Ready)').waitFor();
    await tab.page.getByText('is not connected').waitFor();
    expect(await tab.page.locator('.badge.good').count()).toBe(0);
  });

  it('deletes with the name typed, and opens Force delete after a countdown (R121-R124)', async () => {
    await using s = await siteWithCluster();
    s.gateway.report('cluster', s.id, clusterStatus({ phase: 'Running' }));
    await eventually(async () => (await s.portal.call('GET', `/api/v1/clusters/${s.id}`)).body.provisioned);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await page.getByRole('button', { name: 'Delete' }).click();
    const dialog = page.getByRole('dialog', { name: 'Delete cluster prod' });
    expect(await dialog.getByRole('button', { name: 'Delete cluster' }).isDisabled()).toBe(true);
    await dialog.getByLabel('Type prod to confirm').fill('pro');
    expect(await dialog.getByRole('button', { name: 'Delete cluster' }).isDisabled()).toBe(true);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Delete' }).click();
    await dialog.getByLabel('Type prod to confirm').fill('prod');
    await page.keyboard.press('Enter');
    const force = page.getByRole('button', { name: /Force delete in 1[45] min/ });
    await force.waitFor();
    expect(await force.isDisabled()).toBe(true);
    s.state.skewMs = 15 * 60_000;
    await page.reload();
    await page.getByRole('button', { name: 'Force delete', exact: true }).click();
    await page.getByLabel('Type prod to confirm').fill('prod');
    await page.getByRole('button', { name: 'Force delete', exact: true }).last().click();
    await page.getByText('force delete is on its way').waitFor();
    s.gateway.report('cluster', s.id, clusterStatus({ phase: 'Deleted' }));
    await page.getByText('Deleted', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Clusters' }).first().click();
    await page.getByText('No cluster yet').waitFor();
    await page.getByLabel('Deleted in the last 72 h').check();
    await page.getByRole('link', { name: 'prod' }).waitFor();
    await page.waitForURL((url) => url.search === '?deleted=72h');
    expect(tab.faults).toEqual([]);
  });

  it('creates a cluster with the wizard, checking placement as one types (R100-R113, X4)', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, '/clusters/new');
    const next = page.getByRole('button', { name: 'Next' });
    expect(await next.isDisabled()).toBe(true);
    await page.getByLabel('Name', { exact: true }).fill('shop');
    await next.click();
    await page.getByText('zone rack-a: 8 ready').waitFor();
    await next.click();
    await page.getByText('7 machines fit, 2 wanted').waitFor();
    s.gateway.answer(`POST /v1/accounts/${ACCOUNT}/explain`, 200, {
      feasible: false,
      pools: [
        {
          pool: 'workers',
          wanted: 20,
          matching: 7,
          contested: 3,
          rejections: [{ rule: 'cpu', count: 4, machines: [], example: 'fox has 2 CPUs' }],
          nearestFix: 'Ask for 2 CPUs: 4 more machines fit.',
        },
      ],
      problems: [
        {
          code: 'NOT_ENOUGH_MACHINES',
          message: 'workers wants 20',
          fix: 'Add machines.',
          retryable: false,
          userFixable: true,
          field: 'pools[1].size',
        },
      ],
    });
    await page.getByRole('group', { name: 'Worker pool' }).getByLabel('Size').fill('20');
    await page.getByText('Ask for 2 CPUs: 4 more machines fit.').waitFor();
    await page.getByText('This cannot be placed now.').waitFor();
    await next.click();
    await next.click();
    await page.getByRole('button', { name: 'Create cluster' }).click();
    await page.getByText('The cluster was not created').waitFor();
    // Back at the step that holds the field.
    s.gateway.answer(`POST /v1/accounts/${ACCOUNT}/explain`, 200, {
      feasible: true,
      pools: [],
      problems: [],
    });
    await page.getByRole('group', { name: 'Worker pool' }).getByLabel('Size').fill('2');
    await next.click();
    await next.click();
    await page.getByRole('button', { name: 'Create cluster' }).click();
    await page.getByRole('heading', { name: 'shop', level: 1 }).waitFor();
    const { body } = await s.portal.call('GET', '/api/v1/clusters');
    expect(body.items.map(({ spec }: { spec: { name: string } }) => spec.name)).toEqual(['prod', 'shop']);
  });

  it('keeps filters in the URL', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, '/clusters?q=nothing');
    await page.getByText('No cluster matches the filters').waitFor();
    await page.getByRole('searchbox').fill('pro');
    await page.getByRole('link', { name: 'prod' }).waitFor();
    await page.getByLabel('State').selectOption('Running');
    await page.waitForURL((url) => url.search === '?q=pro&phase=Running');
    await page.reload();
    await page.getByText('No cluster matches the filters').waitFor();
  });

  it('works from 360 px, light and dark, without faults or anything sticking out', async () => {
    await using s = await siteWithCluster();
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({ nodes: [node('a-rather-long-node-name-control-plane-abcde')] }),
    );
    for (const colorScheme of ['light', 'dark'] as const) {
      await using tab = await browser.open({ viewport: { width: 360, height: 740 }, colorScheme });
      await signIn(tab, s.portal);
      const gateway = (await s.portal.call('GET', '/api/v1/gateways')).body.items[0].id;
      for (const path of [
        '/clusters',
        `/clusters/${s.id}`,
        '/clusters/new',
        '/gateways',
        `/gateways/${gateway}`,
        '/gateways/new',
        '/accounts',
        '/profiles',
        '/nowhere',
      ]) {
        await tab.page.goto(`${s.portal.url}${path}`);
        await tab.page.locator('main h1, .empty h2').first().waitFor();
        if (path !== '/nowhere') await expectUsable(tab.page);
      }
      const background = await tab.page.evaluate(
        () => getComputedStyle(document.documentElement).backgroundColor,
      );
      expect(background).toBe(colorScheme === 'dark' ? 'rgb(14, 16, 20)' : 'rgb(246, 247, 249)');
      expect(tab.faults).toEqual([]);
    }
  });

  it('is served under a strict policy, in less than 200 KiB', async () => {
    await using portal = await testPortal({ page: true });
    const page = await fetch(portal.url, { headers: { accept: 'text/html' } });
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    const html = await page.text();
    expect(html).not.toMatch(/<script(?![^>]*src=)|style=/);
    const files = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path);
    expect(files.length).toBeGreaterThanOrEqual(3);
    let bytes = gzipSync(html).length;
    for (const file of files) {
      const answer = await fetch(`${portal.url}${file}`);
      expect(answer.status).toBe(200);
      bytes += gzipSync(Buffer.from(await answer.arrayBuffer())).length;
    }
    expect(bytes).toBeLessThan(200 * 1024);
    expect((await fetch(`${portal.url}/clusters/cl-x`, { headers: { accept: 'text/html' } })).status).toBe(
      200,
    );
    expect((await fetch(`${portal.url}/assets/none.js`)).status).toBe(404);
  });
});
