/** The page's smaller ways to change a site, in Debian's Chromium on the real API: details, certificates, quarantine. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ClusterDocument } from '../../src/contract/cluster.ts';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { eventually } from '../support/eventually.ts';
import { describeWith } from '../support/needs.ts';
import { ACCOUNT, expectUsable, node, signIn, siteWithCluster } from '../support/page-site.ts';
import { clusterStatus } from '../support/portal.ts';

const SSH_KEY = `ssh-ed25519 ${'A'.repeat(68)} ops@site`;

describeWith(['chromium'], "the page's details", () => {
  let browser: TestBrowser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.[Symbol.asyncDispose]());

  type Site = Awaited<ReturnType<typeof siteWithCluster>>;

  async function runs(s: Site): Promise<void> {
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({
        phase: 'Running',
        kubernetesVersion: 'v1.36.1',
        certificatesExpireAt: new Date(Date.now() + 20 * 86_400_000).toISOString(),
        progress: { done: 3, total: 3 },
        nodes: [node('prod-cp-1', { phase: 'Ready', tasks: [] })],
      }),
    );
    await eventually(async () => (await s.portal.call('GET', `/api/v1/clusters/${s.id}`)).body.provisioned);
  }

  const invalidLabel = (page: Page) =>
    page.evaluate(() => {
      const field = document.querySelector<HTMLInputElement>(
        '[role=dialog] [aria-invalid="true"], dialog [aria-invalid="true"]',
      );
      return field?.labels?.[0]?.textContent ?? '';
    });

  it('changes what describes a cluster and what its nodes get, marks the wrong field, and keeps the rest', async () => {
    await using s = await siteWithCluster();
    await runs(s);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await page.getByRole('button', { name: 'Change details' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Description').fill('orders of all shops');
    await dialog.getByLabel('Tags').fill('team-a, prod ,');
    await dialog.getByLabel('Reached without proxy').fill('10.0.0.0/8, .site.example');
    await dialog.getByLabel('NTP servers').fill('ntp1.example');
    await dialog.getByLabel('SSH public keys').fill(`${SSH_KEY}\n\n`);
    await dialog.getByLabel('HTTPS proxy').fill('proxy without scheme');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.getByText('Nothing was changed').waitFor();
    expect(await invalidLabel(page)).toContain('HTTPS proxy');
    expect(await dialog.getByLabel('Description').inputValue()).toBe('orders of all shops');

    await dialog.getByLabel('HTTPS proxy').fill('http://proxy.example:3128');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
    const { spec } = (await s.gateway.document('cluster', s.id, 2)).spec as ClusterDocument;
    expect(spec).toMatchObject({
      name: 'prod',
      description: 'orders of all shops',
      tags: ['team-a', 'prod'],
      nodes: {
        httpsProxy: 'http://proxy.example:3128',
        noProxy: ['10.0.0.0/8', '.site.example'],
        ntpServers: ['ntp1.example'],
        sshAuthorizedKeys: [SSH_KEY],
      },
    });
    expect(spec.nodes).not.toHaveProperty('httpProxy');
    await page.getByText('orders of all shops').waitFor();

    await page.getByRole('button', { name: 'Change details' }).click();
    await dialog.getByLabel('HTTPS proxy').fill('');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
    const after = (await s.gateway.document('cluster', s.id, 3)).spec as ClusterDocument;
    expect(after.spec.nodes).not.toHaveProperty('httpsProxy');
    expect(after.spec.nodes.noProxy).toEqual(['10.0.0.0/8', '.site.example']);
    await page.getByRole('button', { name: 'Change details' }).click();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await expectUsable(page);
  });

  it('renews certificates at a word, and shows why it could not', async () => {
    await using s = await siteWithCluster();
    await runs(s);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    const renew = page.getByRole('button', { name: 'Renew now' });
    await renew.click();
    const { actions } = (await s.gateway.document('cluster', s.id, 2)).spec as ClusterDocument;
    expect(actions).toMatchObject([{ kind: 'rotate-certificates' }]);
    await page.route('**/actions', (route) => route.abort());
    await renew.click();
    await page.getByRole('alert').waitFor();
    expect(await renew.isEnabled()).toBe(true);
  });

  it('keeps a machine from being picked: asks which and why, and shows what the gateway refuses (X6)', async () => {
    await using s = await siteWithCluster();
    const gateway = (await s.portal.call('GET', '/api/v1/gateways')).body.items[0].id as string;
    const question = `/v1/accounts/${ACCOUNT}/quarantine`;
    s.gateway.answer('GET /v1/quarantine', 200, []);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/gateways/${gateway}`);
    await page.getByRole('button', { name: 'Add machine' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('MAAS system id').and(page.locator(':focus')).waitFor();
    const add = dialog.getByRole('button', { name: 'Add to quarantine' });
    await add.click(); // the browser itself asks for what is required
    expect(s.gateway.asked.some(({ path }) => path === question)).toBe(false);
    await page.keyboard.type(' abc123 ');
    await dialog.getByLabel('Why').fill('a fan rattles');
    s.gateway.answer(`POST ${question}`, 507, {
      code: 'STORAGE_FAILED',
      message: 'the disk of the gateway is full',
      fix: 'Free space.',
      retryable: true,
      userFixable: true,
    });
    await add.click();
    await dialog.getByText('the disk of the gateway is full').waitFor();
    const entry = {
      account: ACCOUNT,
      systemId: 'abc123',
      hostname: 'tired-fox',
      reason: 'a fan rattles',
      since: new Date().toISOString(),
      until: new Date(Date.now() + 3_600_000).toISOString(),
    };
    s.gateway.answer(`POST ${question}`, 201, entry);
    s.gateway.answer('GET /v1/quarantine', 200, [entry]);
    await add.click();
    await dialog.waitFor({ state: 'detached' });
    await page.getByRole('row', { name: /tired-fox.*a fan rattles/ }).waitFor();
    expect(s.gateway.asked.findLast(({ path }) => path === question)?.body).toEqual({
      systemId: 'abc123',
      reason: 'a fan rattles',
    });
    await expectUsable(page);
  });
});
