/** What tests of the page share: a portal with a scripted gateway and one cluster, signing in, and what every page must be. */
import type { Page } from 'playwright-core';
import { expect } from 'vitest';
import { steadyClock } from './steady-clock.ts';
import type { NodeStatus } from '../../src/contract/cluster.ts';
import type { TestPage } from './browser.ts';
import { connectGateway, type FakeGateway } from './fake-gateway.ts';
import { eventually } from './eventually.ts';
import { ADMIN, clusterSpec, testPortal, type TestPortal } from './portal.ts';

export const ACCOUNT = 'ca-site1';
const INVENTORY = {
  zones: [{ name: 'rack-a', ready: 8, fitGateway: 8 }],
  pools: [{ name: 'default', ready: 8, fitGateway: 8 }],
  domains: [{ name: 'maas', isDefault: true }],
  subnets: [{ id: 1, cidr: '10.0.0.0/24', name: 'lan', managed: true, available: 50 }],
  images: [],
};

export async function signIn({ page }: TestPage, portal: TestPortal, path = '/'): Promise<void> {
  await page.goto(`${portal.url}${path}`);
  await page.getByLabel('E-mail').fill(ADMIN.email);
  await page.getByLabel('Password').fill(ADMIN.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Main' }).waitFor();
}

export async function siteWithCluster(limits = {}) {
  await using stack = new AsyncDisposableStack();
  const state = { skewMs: 0 };
  const clock = { ...steadyClock, now: () => Date.now() + state.skewMs };
  const portal = stack.use(await testPortal({ page: true, clock, limits }));
  const { identity, paired } = await portal.pair('dc1');
  const gateway: FakeGateway = stack.use(await connectGateway(identity, paired));
  gateway.answer(`GET /v1/accounts/${ACCOUNT}/inventory`, 200, INVENTORY);
  gateway.answer(`POST /v1/accounts/${ACCOUNT}/explain`, 200, {
    feasible: true,
    pools: [{ pool: 'workers', wanted: 2, matching: 7, contested: 0, rejections: [] }],
    problems: [],
  });
  await eventually(async () => (await portal.call('GET', '/api/v1/cloud-accounts')).body.items.length === 1);
  const { body } = await portal.call('POST', '/api/v1/clusters?preflight=skip', {
    spec: clusterSpec(ACCOUNT),
  });
  const running = stack.move();
  return {
    portal,
    gateway,
    state,
    id: body.id as string,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

export const node = (name: string, changes: Partial<NodeStatus> = {}): NodeStatus => ({
  name,
  pool: 'cp',
  role: 'control-plane',
  phase: 'Deploying',
  systemId: 'abc123',
  hostname: 'quick-fox',
  zone: 'rack-a',
  addresses: ['10.0.0.5'],
  maintenance: false,
  tasks: [
    {
      name: 'deploy',
      state: 'retrying',
      attempt: 2,
      startedAt: new Date(Date.now() - 90_000).toISOString(),
      waitingFor: 'MAAS to install the operating system',
    },
  ],
  ...changes,
});

/** Nothing sticks out sideways, and nothing that can be pressed is without a name. */
export async function expectUsable(page: Page): Promise<void> {
  const facts = await page.evaluate(() => {
    const named = (element: Element) =>
      (element.getAttribute('aria-label') ?? '') +
      (element.textContent ?? '') +
      ((element as HTMLInputElement).labels?.[0]?.textContent ?? '');
    return {
      overflow: document.documentElement.scrollWidth - innerWidth,
      nameless: [...document.querySelectorAll('button, a, input, select, textarea')]
        .filter((element) => named(element).trim() === '')
        .map((element) => element.outerHTML),
      sticksOut:
        document.documentElement.scrollWidth <= innerWidth
          ? []
          : [...document.querySelectorAll('main *')]
              .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
              .filter((element) => !element.closest('.scroll, .tabs, pre'))
              .map(
                (element) => `${element.tagName} ${element.className} ${element.textContent?.slice(0, 40)}`,
              )
              .slice(-5),
      headings: document.querySelectorAll('h1').length,
      lang: document.documentElement.lang,
    };
  });
  expect(facts).toEqual({
    overflow: expect.any(Number),
    sticksOut: [],
    nameless: [],
    headings: 1,
    lang: 'en',
  });
  expect(facts.overflow).toBeLessThanOrEqual(0);
}
