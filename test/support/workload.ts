/** A workload in a simulated cluster that evictions can move. */
import { R } from '../../src/simulator/kubernetes/api/resources.ts';
import type { SimCluster } from '../../src/simulator/kubernetes/node/cluster.ts';
import type { SimulatedSite } from './simulated-site.ts';

export function inside(site: SimulatedSite): SimCluster {
  const [cluster] = site.kubernetes.inside();
  if (!cluster) throw new Error('there is no cluster');
  return cluster;
}

/** Two replicas and, on request, a budget. */
export function deployWeb(site: SimulatedSite, budget?: { minAvailable: number }): void {
  const { core } = inside(site);
  const metadata = { name: 'web', namespace: 'default' };
  core.ensure(R.deployments, {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata,
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'web', image: 'registry.example/web:1' }] },
      },
    },
  });
  if (budget)
    core.ensure(R.pdbs, {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { ...metadata, name: 'web-budget' },
      spec: { ...budget, selector: { matchLabels: { app: 'web' } } },
    });
}

export const webPods = (site: SimulatedSite) =>
  inside(site)
    .core.store.list(R.pods)
    .filter(({ metadata }) => metadata.labels?.['app'] === 'web');

export const webReady = (site: SimulatedSite) =>
  webPods(site).filter(({ status }) => status?.phase === 'Running').length === 2;
