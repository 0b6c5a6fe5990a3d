/** X8: what belongs to the site stays there. No file, argument or environment of the portal holds its secrets. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from 'vitest';
import { startBucket } from '../support/bucket.ts';
import { Site } from '../support/site.ts';

/** A line from the middle of every private key in the gateway's record of its clusters. */
function privateKeyLines(path: string): string[] {
  using database = new DatabaseSync(path, { readOnly: true });
  const rows = database.prepare("SELECT value FROM records WHERE collection = 'clusters'").all();
  const text = rows.map((row) => String(row['value'])).join('\n');
  const keys = text.match(/-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END/gs) ?? [];
  return keys.flatMap((key) =>
    key.split(/\\n|\n/).filter((line) => line.length >= 60 && !line.includes('-----')),
  );
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

describe('secrets of a site', () => {
  it('the MAAS key, the keys of a cluster and of its backups are in no byte of the portal, and no secret is in any argument', async () => {
    await using site = await Site.start({ speed: 200 });
    const key = String(site.simulator.ready['adminKey']);
    const userKey = String(site.simulator.ready['userKey']);
    const [gateway] = ((await site.call('GET', '/api/v1/gateways')) as { items: { id: string }[] }).items;
    // A second account, whose key passes through the portal on its way to the gateway.
    await site.call('POST', '/api/v1/cloud-accounts', {
      name: 'second',
      gateway: gateway?.id,
      endpoint: site.maasUrl,
      apiKey: userKey,
    });
    await using s3 = await startBucket();
    const credentials = { accessKeyId: 'AKIDOFTHESITE', secretAccessKey: 'bucket/secret+of-the-site' };
    const target = { url: s3.url, bucket: 'backups', credentials };
    const cluster = await site.createCluster({
      ...site.spec({ controlPlane: 1, workers: 1 }),
      policies: { backups: { target, workloads: false } },
    });
    await site.waitForPhase(cluster.id, 'Running');
    await site.call('POST', `/api/v1/clusters/${cluster.id}/actions`, {
      kind: 'run-policy',
      policy: 'etcd-snapshot',
    });
    const answer = await site.until('snapshot', async () => {
      const now = await site.cluster(cluster.id);
      return now.status?.policies.some(({ lastRunAt }) => lastRunAt !== undefined) && now;
    });
    expect(answer.status?.policies).toEqual([
      expect.objectContaining({ policy: 'etcd-snapshot', state: 'succeeded' }),
    ]);
    expect(s3.seen.at(-1)).toContain(credentials.accessKeyId);
    const told = JSON.stringify([answer, await site.events(cluster.id)]);

    // Both keys, whole and in the parts that a database page or a JSON string may cut them into.
    const secrets = [
      ...[key, userKey].flatMap((one) => [one, one.split(':')[2] ?? one, one.split(':')[1] ?? one]),
      credentials.secretAccessKey,
    ];
    for (const secret of secrets) expect(told).not.toContain(secret);
    for (const program of [site.portal, site.agent, site.simulator]) {
      const argv = readFileSync(`/proc/${program?.pid}/cmdline`, 'utf8');
      for (const secret of secrets) expect(argv).not.toContain(secret);
    }
    const environment = readFileSync(`/proc/${site.portal?.pid}/environ`, 'utf8');
    expect(environment).not.toContain('PCG_PAIRING_CODE');
    // Everything stays as it lies there: no file comes or goes while they are read.
    await site.killAgent();
    site.portal?.kill('SIGKILL');
    await site.portal?.exited;

    // Sealed on the gateway's disk too: opened only while they are used.
    for (const file of filesBelow(join(site.directory, 'agent')))
      expect(readFileSync(file).includes(credentials.secretAccessKey), file).toBe(false);
    const clusterKeys = privateKeyLines(join(site.directory, 'agent', 'agent.db'));
    expect(clusterKeys.length).toBeGreaterThan(10);
    const portalFiles = readdirSync(site.directory).filter((name) => name.startsWith('portal'));
    expect(portalFiles).toEqual(expect.arrayContaining(['portal.db', 'portal.log']));
    for (const name of portalFiles) {
      const bytes = readFileSync(join(site.directory, name));
      for (const secret of secrets) expect(bytes.includes(secret), `${name} holds a secret`).toBe(false);
      // The portal holds keys of its own; of the cluster's keys, as the gateway has them, not one line.
      for (const line of clusterKeys)
        expect(bytes.includes(line), `${name} holds a cluster's key`).toBe(false);
      expect(bytes.includes('client-key-data'), `${name} holds a kubeconfig`).toBe(false);
    }
    for (const log of ['agent.log', 'portal.log', 'pair.log']) {
      const text = readFileSync(join(site.directory, log), 'utf8');
      for (const secret of secrets) expect(text, log).not.toContain(secret);
      expect(text, log).not.toMatch(/PRIVATE KEY|oauth_signature=/);
    }
  });
});
