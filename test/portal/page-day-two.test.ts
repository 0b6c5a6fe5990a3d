/** Day 2 on the page, in Debian's Chromium on the real API: changes with their plans, policies, machines, people. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ClusterDocument, ClusterStatus, Task } from '../../src/contract/cluster.ts';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { eventually } from '../support/eventually.ts';
import { describeWith } from '../support/needs.ts';
import { ACCOUNT, expectUsable, node, signIn, siteWithCluster } from '../support/page-site.ts';
import { ADMIN, clusterStatus } from '../support/portal.ts';

const HOUR_MS = 3_600_000;

const plan = (state: 'preview' | 'running' = 'preview'): ClusterStatus['rollout'] => ({
  plan: 'p1',
  state,
  steps: [{ node: 'prod-cp-1', action: 'replace', reason: 'Kubernetes v1.36.1 -> v1.37.0' }],
});

const task = (changes: Partial<Task> = {}): Task => ({
  name: 'deploy',
  state: 'running',
  attempt: 1,
  startedAt: new Date(Date.now() - HOUR_MS).toISOString(),
  ...changes,
});

const problem = {
  code: 'DEPLOY_FAILED',
  message: 'the installation stopped at curtin',
  fix: 'Look at the disk.',
  retryable: true,
  userFixable: true,
} as const;

describeWith(['chromium'], 'the page on day 2', () => {
  let browser: TestBrowser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.[Symbol.asyncDispose]());

  type Site = Awaited<ReturnType<typeof siteWithCluster>>;

  /** Running, as the gateway reported it of this generation. */
  async function runs(s: Site, status: Partial<ClusterStatus> = {}): Promise<void> {
    s.gateway.report(
      'cluster',
      s.id,
      clusterStatus({
        phase: 'Running',
        kubernetesVersion: 'v1.36.1',
        progress: { done: 3, total: 3 },
        nodes: [node('prod-cp-1', { phase: 'Ready', tasks: [] })],
        ...status,
      }),
    );
    await eventually(async () => {
      const { body } = await s.portal.call('GET', `/api/v1/clusters/${s.id}`);
      return body.provisioned && body.status.observedGeneration === (status.observedGeneration ?? 1);
    });
  }

  const wanted = async (s: Site, generation: number) =>
    (await s.gateway.document('cluster', s.id, generation)).spec as ClusterDocument;

  const open = async (page: Page, name: string) => {
    await page.getByRole('button', { name, exact: true }).click();
    return page.getByRole('dialog');
  };

  it('scales a pool: asks for the machines that are new only, and says what is released', async () => {
    await using s = await siteWithCluster();
    await runs(s);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    const dialog = await open(page, 'Scale');
    const workers = dialog.getByRole('group', { name: 'Worker pool' });
    await workers.getByLabel('Size').fill('5');
    await dialog.getByText('7 machines fit, 2 wanted').waitFor();
    const asked = s.gateway.asked.findLast(({ path }) => path.endsWith('/explain'));
    expect(asked?.body).toMatchObject({ pools: [{ name: 'workers', size: 3 }] });
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
    expect((await wanted(s, 2)).spec.pools).toMatchObject([{ size: 1 }, { size: 5 }]);

    const again = await open(page, 'Scale');
    await again.getByRole('group', { name: 'Worker pool' }).getByLabel('Size').fill('1');
    // Meanwhile somebody else scales it as well.
    const { body } = await s.portal.call('GET', `/api/v1/clusters/${s.id}`);
    await s.portal.call('PUT', `/api/v1/clusters/${s.id}/spec`, {
      generation: 2,
      spec: { ...body.spec, description: 'not the same' },
    });
    await again.getByRole('button', { name: 'Save and release 4 machines' }).click();
    await again.getByText('Somebody else changed the cluster meanwhile').waitFor();
    await again.getByRole('button', { name: 'Start again from the newest' }).click();
    await again.getByRole('group', { name: 'Worker pool' }).getByLabel('Size').fill('-1');
    await again.getByRole('button', { name: /^Save/ }).click();
    await again.locator('[aria-invalid="true"]:focus').waitFor(); // a frame after it is marked
    await again.getByRole('group', { name: 'Worker pool' }).getByLabel('Size').fill('2');
    await again.getByRole('button', { name: 'Save and release 3 machines' }).click();
    await again.waitFor({ state: 'detached' });
    expect((await wanted(s, 4)).spec).toMatchObject({
      description: 'not the same',
      pools: [{}, { size: 2 }],
    });
  });

  it('shows which nodes an upgrade replaces and why; reject puts it back, approve lets it run (X15)', async () => {
    await using s = await siteWithCluster();
    await runs(s);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, '/profiles');
    await page.getByRole('link', { name: 'New profile' }).click();
    await page.getByLabel('Name', { exact: true }).first().fill('next');
    await page.getByLabel('Kubernetes version').fill('1.37');
    await page.getByRole('button', { name: 'Add profile' }).click();
    await page.getByText('give it like v1.36.1').first().waitFor();
    await page.getByLabel('Kubernetes version').fill('v1.37.0');
    await page.getByRole('button', { name: 'Add profile' }).click();
    await page.getByRole('heading', { name: 'next', level: 1 }).waitFor();

    await page.goto(`${s.portal.url}/clusters/${s.id}`);
    const upgrade = async () => {
      const dialog = await open(page, 'Upgrade');
      await dialog.getByLabel('Profile', { exact: true }).selectOption({ label: 'next, revision 1' });
      await dialog.getByText('Kubernetes v1.36.1 → v1.37.0').waitFor();
      await dialog.getByRole('button', { name: 'Make the plan' }).click();
      await dialog.waitFor({ state: 'detached' });
    };
    await upgrade();
    expect((await wanted(s, 2)).profile.kubernetes.kubernetesVersion).toBe('v1.37.0');
    const steps = plan()?.steps ?? [];
    await runs(s, {
      observedGeneration: 2,
      rollout: { plan: 'p1', state: 'preview', steps, error: problem },
    });
    await page
      .getByRole('region', { name: /Approve the change/ })
      .getByText(problem.fix)
      .waitFor();
    await page.getByRole('row', { name: /prod-cp-1 replace Kubernetes v1\.36\.1/ }).waitFor();
    await page.getByRole('button', { name: 'Reject' }).click();
    await page.getByText('Rejected; the gateway has not answered yet.').waitFor();
    expect((await wanted(s, 3)).profile.kubernetes.kubernetesVersion).toBe('v1.36.1');
    await runs(s, { observedGeneration: 3 });
    await page.getByText('Rejected').waitFor({ state: 'detached' });

    // The same plan again: the earlier answer was to another change.
    await upgrade();
    await wanted(s, 4);
    await runs(s, { observedGeneration: 4, rollout: plan() });
    await page.getByRole('button', { name: 'Approve and replace 1 node' }).click();
    expect((await wanted(s, 5)).actions).toMatchObject([{ kind: 'approve-rollout', plan: 'p1' }]);
    await runs(s, { observedGeneration: 5, rollout: plan('running') });
    await page.getByText('running', { exact: true }).waitFor();
    expect(await page.getByRole('button', { name: /Approve/ }).count()).toBe(0);
  });

  it('changes policies with credentials that only the gateway can read, runs one now, shows results (R111)', async () => {
    await using s = await siteWithCluster();
    await runs(s);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    const dialog = await open(page, 'Change policies');
    await dialog.getByLabel('Patch nodes, one at a time').selectOption('Another time');
    await dialog.getByLabel('Patch nodes, one at a time: cron expression').fill('often');
    await dialog.getByLabel('Maintenance window (minutes)').fill('90');
    await dialog.getByLabel('Renew the control plane').uncheck();
    await dialog.getByLabel("Bucket's address").fill('https://s3.example.test');
    await dialog.getByLabel('Bucket', { exact: true }).fill('backups');
    await dialog.getByLabel('Workloads with Velero').uncheck();
    await dialog.getByLabel('Hold a drain for pods without a controller').check();
    await dialog.getByLabel('Access key').fill('AKIA');
    await dialog.getByLabel('Secret key').fill('very-secret');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.getByText('give a five-field cron expression').first().waitFor();
    await dialog.getByLabel('Patch nodes, one at a time: cron expression').fill('0 4 * * 1');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
    const stored = await wanted(s, 2);
    expect(stored.spec.policies).toMatchObject({
      patching: { schedule: '0 4 * * 1', windowMinutes: 90 },
      certificates: { renewInPlace: false },
      backups: { workloads: false, target: { bucket: 'backups', sealedCredentials: expect.any(String) } },
      drain: { unmanagedPods: 'hold', localData: 'evict' },
    });
    expect(JSON.stringify(stored)).not.toContain('very-secret');
    const row = page.locator('[data-policy="cis"]');
    await row.getByRole('button', { name: 'Run CIS benchmark now' }).click();
    expect((await wanted(s, 3)).actions).toMatchObject([{ kind: 'run-policy', policy: 'cis' }]);
    await runs(s, {
      observedGeneration: 3,
      policies: [
        {
          policy: 'cis',
          state: 'succeeded',
          lastRunAt: new Date().toISOString(),
          summary: { pass: 80, fail: 1, failed: [{ id: '4.2.1', text: 'anonymous requests' }] },
        },
        { policy: 'restore', state: 'failed', summary: { backup: 'pcg-20260101010000' }, error: problem },
      ],
    });
    await row.getByText('pass 80 · fail 1').waitFor();
    await row.getByText('failed (1)').click();
    await row.getByText('4.2.1: anonymous requests').waitFor();
    const restore = page.locator('[data-policy="restore"]');
    await restore.getByText('backup pcg-20260101010000').waitFor();
    await restore.getByText(problem.message).waitFor();
    expect(await restore.getByRole('button').count()).toBe(0);
  });

  it('restores one of the backups that are listed, whole or some namespaces of it', async () => {
    await using s = await siteWithCluster();
    const backups = [
      { name: 'pcg-2', phase: 'Completed', completedAt: '2026-01-02T01:00:00Z' },
      { name: 'pcg-1', phase: 'FailedValidation', completedAt: '' },
    ];
    const at = new Date().toISOString();
    type Result = Omit<ClusterStatus['policies'][number], 'policy'>;
    const backup = (result: Result) => ({ policies: [{ policy: 'backup', lastRunAt: at, ...result }] });
    await runs(s, backup({ state: 'succeeded', summary: { phase: 'Completed', backups } }));
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    const dialog = await open(page, 'Restore pcg-2');
    expect(await page.getByRole('button', { name: 'Restore pcg-1' }).count()).toBe(0);
    await dialog.getByLabel('Namespaces').fill('shop, mail');
    await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
    expect((await wanted(s, 2)).actions).toMatchObject([
      { kind: 'restore-backup', backup: 'pcg-2', namespaces: ['shop', 'mail'] },
    ]);
    // After a backup that failed the earlier ones are still there.
    await runs(s, backup({ state: 'failed', summary: {}, error: { ...problem, details: { backups } } }));
    await page.getByText(problem.message).waitFor();
    await page.getByRole('button', { name: 'Restore pcg-2' }).waitFor();
  });

  it('deletes a backup that has ended, after a second question, and says why one could not be deleted', async () => {
    await using s = await siteWithCluster();
    const stuck = 'error deleting backup from object storage: AccessDenied';
    const backups = [
      { name: 'pcg-4', phase: 'InProgress', completedAt: '' },
      { name: 'pcg-3', phase: 'Completed', completedAt: '2026-01-03T01:00:00Z' },
      { name: 'pcg-2', phase: 'Failed', completedAt: '' },
      { name: 'pcg-1', phase: 'Deleting', completedAt: '', deletion: stuck },
      { phase: 'Completed' },
    ];
    const at = new Date().toISOString();
    await runs(s, {
      policies: [
        { policy: 'backup', state: 'succeeded', lastRunAt: at, summary: { backups } },
        { policy: 'delete-backup', state: 'failed', lastRunAt: at, summary: {}, error: problem },
      ],
    });
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    const deletion = page.locator('[data-policy="delete-backup"]');
    await deletion.getByText(problem.message).waitFor();
    expect(await deletion.getByRole('button').count()).toBe(0);
    const row = (name: string) => page.locator(`[data-backup="${name}"]`);
    await row('pcg-1').getByText(stuck).waitFor();
    const buttons = async (name: string) => await row(name).getByRole('button').allTextContents();
    expect(await buttons('pcg-4')).toEqual([]);
    expect((await buttons('pcg-3')).map((text) => text.trim())).toEqual(['Restore', 'Delete']);
    expect((await buttons('pcg-2')).map((text) => text.trim())).toEqual(['Delete']);
    expect((await buttons('pcg-1')).map((text) => text.trim())).toEqual(['Delete']);
    expect(await page.locator('[data-backup]').count()).toBe(4);

    const given = await open(page, 'Delete pcg-3');
    await given.getByText('There is no way back').waitFor();
    await given.getByRole('button', { name: 'Cancel' }).click();
    await given.waitFor({ state: 'detached' });
    const dialog = await open(page, 'Delete pcg-2');
    await dialog.getByRole('button', { name: 'Delete for good', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
    expect((await wanted(s, 2)).actions).toMatchObject([{ kind: 'delete-backup', backup: 'pcg-2' }]);
    expect((await wanted(s, 2)).actions).toHaveLength(1);
  });

  it('says of every node what it waits for, until when, and whether that is usual; and what went wrong, once (X13)', async () => {
    await using s = await siteWithCluster();
    const inFive = new Date(Date.now() + 5 * HOUR_MS).toISOString();
    const failing = { state: 'retrying', attempt: 3, error: problem } as const;
    await runs(s, {
      phase: 'Running',
      nodes: [
        node('prod-workers-1', {
          phase: 'Deploying',
          tasks: [task({ etaAt: inFive, slowerThanUsual: true, waitingFor: 'MAAS to install' })],
        }),
        node('prod-workers-2', { phase: 'Deploying', tasks: [task(failing)] }),
        node('prod-workers-3', { phase: 'Deploying', tasks: [task(failing)] }),
      ],
    });
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await page
      .getByText(/waits for MAAS to install · 1 h .*, done in [45] h .*, slower than usual/)
      .waitFor();
    const alert = page.getByRole('alert');
    await alert.getByText('2 nodes: prod-workers-2, prod-workers-3').waitFor();
    expect(await alert.count()).toBe(1);
    expect(await alert.textContent()).toMatch(/stopped at curtin.*Look at the disk\..*DEPLOY_FAILED/);
    await page.locator('[data-node="prod-workers-2"] summary').click();
    await page.getByRole('row', { name: /deploy retrying 3/ }).waitFor();
    await page.getByRole('button', { name: 'Maintain' }).click();
    await page.getByRole('button', { name: 'Drain and keep empty' }).click();
    expect((await wanted(s, 2)).actions).toMatchObject([
      { kind: 'maintenance', machine: 'prod-workers-2', on: true },
    ]);
  });

  it('lists and lifts quarantine, finds and releases orphans (X6, X16)', async () => {
    await using s = await siteWithCluster();
    const gateway = (await s.portal.call('GET', '/api/v1/gateways')).body.items[0].id as string;
    const entry = {
      account: ACCOUNT,
      systemId: 'abc123',
      hostname: 'tired-fox',
      reason: 'deployment failed twice',
      since: new Date().toISOString(),
      until: new Date(Date.now() + 3_600_000).toISOString(),
    };
    const orphan = {
      ...entry,
      systemId: 'def456',
      hostname: 'lost-owl',
      status: 'Deployed',
      cluster: '',
      node: '',
    };
    const at = `/v1/accounts/${ACCOUNT}`;
    const lift = `DELETE ${at}/quarantine/abc123`;
    const release = `POST ${at}/orphans/def456/release`;
    const done = () => s.gateway.asked.map(({ method, path }) => `${method} ${path}`);
    // Each list is empty once it was emptied, whenever the page looks.
    const unless = (emptied: string, list: object[]) => async () => ({
      status: 200,
      body: done().includes(emptied) ? [] : list,
    });
    s.gateway.answerBy('GET /v1/quarantine', unless(lift, [entry]));
    s.gateway.answer(lift, 204, undefined);
    s.gateway.answerBy(
      `GET ${at}/orphans`,
      unless(release, [
        { ...orphan, reason: 'its cluster is not known here', releasable: true },
        { ...orphan, systemId: 'ghi789', hostname: 'their-elk', reason: 'taken by hand', releasable: false },
      ]),
    );
    s.gateway.answer(release, 204, undefined);
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, `/gateways/${gateway}`);
    await page.getByRole('row', { name: /tired-fox.*deployment failed twice/ }).waitFor();
    await page.getByRole('button', { name: 'Let tired-fox be picked again' }).click();
    await page.getByText('Empty. A machine that fails').waitFor();
    await page.getByRole('button', { name: 'Look at MAAS now' }).click();
    await page.getByText('lost-owl').waitFor();
    expect(await page.getByRole('button', { name: 'Release their-elk' }).count()).toBe(0);
    await page.getByRole('button', { name: 'Release lost-owl' }).click();
    await page.getByRole('button', { name: 'Release machine' }).click();
    await page.getByText('None: every machine that is held').waitFor();
    expect(done()).toContain(lift);
    expect(done()).toContain(release);
  });

  it('keeps users with their roles, and tokens that work until they are revoked (R8)', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, '/users');
    const dialog = await open(page, 'Add user');
    await dialog.getByLabel('E-mail').fill('v@example.test');
    await dialog.getByLabel('Password').fill('short');
    await dialog.getByRole('button', { name: 'Add user' }).click();
    await dialog.locator('.field.invalid').waitFor();
    await dialog.getByLabel('Password').fill('only looking here');
    await dialog.getByRole('button', { name: 'Add user' }).click();
    await dialog.waitFor({ state: 'detached' });
    await page.getByLabel('Role of v@example.test').selectOption('project-admin');
    await eventually(async () => {
      const { body } = await s.portal.call('GET', '/api/v1/users');
      return body.items.some(({ role }: { role: string }) => role === 'project-admin');
    });
    expect(await page.getByLabel(`Role of ${ADMIN.email}`).isDisabled()).toBe(true);

    await page.getByRole('link', { name: 'API tokens' }).click();
    await page.getByLabel('Name').fill('ci');
    await page.getByRole('button', { name: 'Make token' }).click();
    const token = await page.getByLabel('New API token').textContent();
    const as = { authorization: `Bearer ${token}` };
    expect((await s.portal.call('GET', '/api/v1/me', undefined, as)).status).toBe(200);
    await page.getByRole('button', { name: 'Revoke ci' }).click();
    await page.getByRole('button', { name: 'Revoke token' }).click();
    await page.getByText('No token yet').waitFor();
    expect((await s.portal.call('GET', '/api/v1/me', undefined, as)).status).toBe(401);

    await using other = await browser.open();
    await other.page.goto(`${s.portal.url}/users`);
    await other.page.getByLabel('E-mail').fill('v@example.test');
    await other.page.getByLabel('Password').fill('only looking here');
    await other.page.getByRole('button', { name: 'Sign in' }).click();
    await other.page.getByText('There is nothing at this address').waitFor();
    expect(await other.page.getByRole('link', { name: 'Users' }).count()).toBe(0);
  });

  it('goes on where one was after the session ended, with what was typed', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page } = tab;
    await signIn(tab, s.portal, '/clusters/new');
    await page.getByLabel('Name', { exact: true }).fill('shop');
    await page.getByLabel('Description').fill('typed before');
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('zone rack-a: 8 ready').waitFor();
    await page.context().clearCookies();
    await page.getByRole('button', { name: 'Next' }).click();
    const dialog = page.getByRole('dialog', { name: 'Your session has ended' });
    await dialog.waitFor();
    expect(await dialog.getByLabel('E-mail').inputValue()).toBe(ADMIN.email);
    await dialog.getByLabel('Password').fill('wrong password here');
    await dialog.getByRole('button', { name: 'Sign in' }).click();
    await dialog.getByText('e-mail or password is wrong').waitFor();
    await dialog.getByLabel('Password').fill(ADMIN.password);
    await dialog.getByRole('button', { name: 'Sign in' }).click();
    await dialog.waitFor({ state: 'detached' });
    expect(new URL(page.url()).pathname).toBe('/clusters/new');
    await page.getByText('7 machines fit, 2 wanted').waitFor();
    await page.getByRole('button', { name: 'Profile' }).click();
    expect(await page.getByLabel('Description').inputValue()).toBe('typed before');
    expect(await page.getByLabel('Name', { exact: true }).inputValue()).toBe('shop');
  });

  it('waits for a portal that answers with errors, without throwing anybody out', async () => {
    await using s = await siteWithCluster();
    await using tab = await browser.open();
    const { page } = tab;
    let broken = false;
    await page.route('**/api/v1/**', (route) =>
      broken ? route.fulfill({ status: 502, body: '<h1>Bad gateway</h1>' }) : route.continue(),
    );
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await page.getByText('Live', { exact: true }).waitFor();
    broken = true;
    await page.reload();
    await page.getByText('Loading').waitFor();
    await page.waitForTimeout(3_500);
    expect(await page.getByLabel('Password').count()).toBe(0);
    broken = false;
    await page.getByRole('heading', { name: 'prod', level: 1 }).waitFor();
    broken = true;
    await page.getByRole('button', { name: 'Abort' }).click();
    await page.getByRole('button', { name: 'Abort and release' }).click();
    await page.getByText('The portal answered 502.').waitFor();
    await page.getByText('The page goes on by itself when the portal is back.').waitFor();
    broken = false;
    await page.getByRole('button', { name: 'Abort and release' }).click();
    await page.getByText('Deleting', { exact: true }).waitFor();
  });

  it('stays quick and usable with 100 nodes, long names and everything wrong at once', async () => {
    await using s = await siteWithCluster();
    const finished = (name: string): Task =>
      task({ name, state: 'succeeded', finishedAt: new Date().toISOString() });
    const nodes = Array.from({ length: 100 }, (_, n) =>
      node(`prod-${'very-long-pool-name-'.repeat(3)}${n}`, {
        phase: n % 10 === 0 ? 'Failed' : 'Deploying',
        tasks: [...['allocate', 'prepare', 'power'].map(finished), task({ attempt: 2 })],
        ...(n % 10 === 0 ? { error: { ...problem, message: 'x'.repeat(400) } } : {}),
      }),
    );
    await runs(s, {
      nodes,
      rollout: {
        plan: 'p1',
        state: 'preview',
        steps: nodes.map(({ name }) => ({ node: name, action: 'replace', reason: 'y'.repeat(80) })),
      },
    });
    await using tab = await browser.open({ viewport: { width: 360, height: 740 } });
    const { page } = tab;
    await signIn(tab, s.portal, `/clusters/${s.id}`);
    await page.locator('[data-node]').nth(99).waitFor();
    // What comes once, after the nodes: the stream, and the lists that the navigation counts.
    await page.locator('.live.live').waitFor({ state: 'attached' });
    await page.locator('nav .count').nth(1).waitFor({ state: 'attached' });
    await expectUsable(page);
    // The page redraws every second: texts that changed, never the elements around them.
    const redraws = await page.evaluate(
      () =>
        new Promise<{ texts: number; elements: number }[]>((resolve) => {
          const seen: { texts: number; elements: number }[] = [];
          new MutationObserver((records) => {
            const texts = records.filter(({ type }) => type === 'characterData').length;
            seen.push({ texts, elements: records.length - texts });
            if (seen.length === 3) resolve(seen);
          }).observe(document.body, { subtree: true, childList: true, characterData: true });
        }),
    );
    expect(redraws.map(({ elements }) => elements)).toEqual([0, 0, 0]);
    // at most how long each node runs, and how long its task does
    expect(Math.max(...redraws.map(({ texts }) => texts))).toBeLessThanOrEqual(2 * nodes.length + 10);
    await page.getByRole('button', { name: 'Need attention 10' }).click();
    expect(await page.locator('[data-node]').count()).toBe(10);
    expect(new URL(page.url()).search).toBe('?nodes=attention');
    expect(tab.faults).toEqual([]);
  });
});
