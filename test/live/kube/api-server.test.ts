import { describe, expect, it } from 'vitest';
import { startRealApiServer } from '../../support/api-server.ts';
import { apiServerSuite } from '../../support/api-server-suite.ts';

const assets = process.env['KUBEBUILDER_ASSETS'];

describe('the Kubernetes side, on a real kube-apiserver', () => {
  if (assets === undefined)
    it('has KUBEBUILDER_ASSETS set to a directory with kube-apiserver and etcd', () => {
      expect(assets).toBeDefined();
    });
  else apiServerSuite(() => startRealApiServer(assets));
});
