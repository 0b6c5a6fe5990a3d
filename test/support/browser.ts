/** Debian's Chromium under playwright-core; every page fails the test for console errors and policy violations. */
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { GIVE_UP_MS } from './eventually.ts';
import { findProgram } from './needs.ts';

export interface TestBrowser extends AsyncDisposable {
  open(options?: BrowserContextOptions): Promise<TestPage>;
}

export interface TestPage extends AsyncDisposable {
  readonly page: Page;
  /** Console errors, exceptions, violations so far. */
  readonly faults: string[];
}

export async function startBrowser(): Promise<TestBrowser> {
  const browser: Browser = await chromium.launch({
    executablePath: findProgram('chromium') ?? 'chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
    timeout: 2 * GIVE_UP_MS,
  });
  return {
    async open(options = {}) {
      const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
      context.setDefaultTimeout(GIVE_UP_MS);
      const page = await context.newPage();
      const faults: string[] = [];
      page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text());
      });
      page.on('pageerror', (error) => faults.push(String(error)));
      return { page, faults, [Symbol.asyncDispose]: () => context.close() };
    },
    [Symbol.asyncDispose]: () => browser.close(),
  };
}
