/** The kubeconfig for a person in the site: whose it is, where it leads, and when it ends. */
import { X509Certificate } from 'node:crypto';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { document, EngineHarness } from '../support/engine.ts';
import { FakeSite } from '../support/fake-site.ts';

it('a break-glass kubeconfig is an administrator at the endpoint, for a day', async () => {
  const site = new FakeSite(8);
  await using harness = new EngineHarness(site);
  await harness.want(document());
  const { endpoint } = await harness.phase('Running');
  const before = site.clock.now();
  const { clusters, users } = parse((await harness.engine.breakGlassKubeconfig('cl-demo')) ?? '');
  expect(clusters[0].cluster.server).toBe(`https://${endpoint}`);
  const pem = (text: string) => new X509Certificate(Buffer.from(text, 'base64'));
  const own = pem(users[0].user['client-certificate-data']);
  expect(own.verify(pem(clusters[0].cluster['certificate-authority-data']).publicKey)).toBe(true);
  expect(own.subject.split('\n').sort()).toEqual(['CN=break-glass', 'O=system:masters']);
  const hours = (own.validToDate.getTime() - before) / 3_600_000;
  expect(hours).toBeGreaterThan(23);
  expect(hours).toBeLessThan(25);
  expect(await harness.engine.breakGlassKubeconfig('cl-other')).toBeUndefined();
});
