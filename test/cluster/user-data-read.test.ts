import { describe, expect, it } from 'vitest';
import { renderUserData } from '../../src/cluster/user-data.ts';
import { readKubeadmFile } from '../../src/simulator/kubernetes/node/kubeadm-config.ts';
import { clusterSpec, nodeInput, readCloudConfig, resolvedProfile } from '../support/node-input.ts';
import { testPki } from '../support/tls-server.ts';

// The simulator reads kubeadm's files as strictly as kubeadm and knows nothing of who wrote them.
describe("kubeadm's own strictness", () => {
  it.each(['v1.35.3', 'v1.36.1', 'v1.37.0'])(
    'accepts the files of all node kinds for %s',
    async (kubernetesVersion) => {
      const profile = resolvedProfile();
      const kubernetes = {
        ...profile.kubernetes,
        kubernetesVersion,
        apiServerArgs: { 'event-ttl': '2h' },
        kubeletArgs: { 'max-pods': '64' },
      };
      const spec = clusterSpec({
        network: { podCidr: '10.50.0.0/20' },
        nodes: { imageRepository: 'registry.internal/kubernetes' },
      });
      const minor = Number(kubernetesVersion.split('.')[1]);
      for (const kind of ['init', 'join-control-plane', 'worker'] as const) {
        const text = renderUserData(
          nodeInput(kind, await testPki(), { spec, profile: { ...profile, kubernetes } }),
        );
        const { files } = readCloudConfig(text);
        const path = kind === 'init' ? '/run/kubeadm/kubeadm.yaml' : '/run/kubeadm/kubeadm-join-config.yaml';
        const content = (files.get(path)?.content ?? '').replaceAll('__NODE_IP__', '10.20.0.11');
        const documents = readKubeadmFile(content, path, minor);
        if (kind === 'init')
          expect(documents).toMatchObject({ cluster: { kubernetesVersion }, init: {}, join: undefined });
        else expect(documents).toMatchObject({ cluster: undefined, init: undefined, join: {} });
      }
    },
  );
});
