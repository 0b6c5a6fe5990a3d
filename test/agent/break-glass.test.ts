/** The break-glass kubeconfig is for a person at the gateway; the portal may ask for it as long as it likes. */
import { expect, it } from 'vitest';
import { clusterRoutes } from '../../src/agent/api/clusters.ts';
import { createApiServer } from '../../src/agent/api/server.ts';
import { silentLog } from '../../src/base/log.ts';
import type { ClusterEngine } from '../../src/cluster/engine.ts';

it('gives the break-glass kubeconfig to the unix socket and never through the tunnel (X8)', async () => {
  const engine: Pick<ClusterEngine, 'breakGlassKubeconfig'> = {
    breakGlassKubeconfig: async (id) => (id === 'cl-1' ? 'kind: Config\n' : undefined),
  };
  const ask = async (caller: 'local' | 'tunnel', id: string) => {
    const routes = clusterRoutes({ engine: () => engine as ClusterEngine, events: async () => [] });
    const server = createApiServer(caller, silentLog, [routes]);
    const { statusCode, body } = await server.inject(`/v1/clusters/${id}/kubeconfig`);
    await server.close();
    return { statusCode, body };
  };
  expect(await ask('local', 'cl-1')).toEqual({ statusCode: 200, body: 'kind: Config\n' });
  expect((await ask('local', 'cl-2')).statusCode).toBe(404);
  const refused = await ask('tunnel', 'cl-1');
  expect(refused.statusCode).toBe(403);
  expect(refused.body).not.toContain('kind: Config');
});
