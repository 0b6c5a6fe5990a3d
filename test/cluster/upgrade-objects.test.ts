/** What an upgrade changes in the cluster's own objects: the stored configuration and the images of its add-ons. */
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { documentInForce } from '../../src/cluster/in-force.ts';
import { withSettings } from '../../src/cluster/steps/upgrade.ts';
import { judgeCoreDns } from '../../src/kube/core-dns.ts';
import { retag } from '../../src/kube/image.ts';
import { resolvedProfile } from '../support/node-input.ts';
import { scene } from '../support/scenes.ts';

describe('an upgrade', () => {
  const profileOf = (kubernetesVersion: string, apiServerArgs: Record<string, string> = {}) => {
    const profile = resolvedProfile();
    return { ...profile, kubernetes: { ...profile.kubernetes, kubernetesVersion, apiServerArgs } };
  };

  it('change what is wanted of the stored configuration and nothing else', () => {
    const text =
      'apiServer:\n  certSANs: ["10.0.0.1"] # the VIP\nfeatureGates: {ControlPlaneKubeletLocalMode: true, PublicKeysECDSA: false}\nkubernetesVersion: v1.35.4\nnetworking: {podSubnet: 192.168.0.0/16}\n';
    const changed = withSettings(
      text,
      profileOf('v1.36.1', { 'audit-log-maxage': '30' }),
      'mirror.local/k8s',
    );
    expect(changed).toContain('# the VIP');
    expect(parse(changed)).toEqual({
      apiServer: {
        certSANs: ['10.0.0.1'],
        extraArgs: [
          { name: 'default-not-ready-toleration-seconds', value: '60' },
          { name: 'default-unreachable-toleration-seconds', value: '60' },
          { name: 'audit-log-maxage', value: '30' },
        ],
      },
      // Locked in 1.36 and to be removed: a kubeadm that no longer knows it refuses the whole configuration.
      featureGates: { PublicKeysECDSA: false },
      imageRepository: 'mirror.local/k8s',
      kubernetesVersion: 'v1.36.1',
      networking: { podSubnet: '192.168.0.0/16' },
    });
  });

  it('refuse a stored configuration that is no YAML', () => {
    expect(() => withSettings('- a\n- b: {', profileOf('v1.36.1'))).toThrow(/not YAML/);
  });

  it.each([
    [
      'registry.k8s.io/coredns/coredns:v1.13.1',
      'v1.36.1',
      { kind: 'move', image: 'registry.k8s.io/coredns/coredns:v1.14.2' },
    ],
    [
      'mirror.local:5000/coredns:v1.14.2',
      'v1.37.0',
      { kind: 'move', image: 'mirror.local:5000/coredns:v1.14.3' },
    ],
    ['registry.k8s.io/coredns/coredns:v1.14.3', 'v1.37.0', { kind: 'current' }],
    ['registry.k8s.io/coredns/coredns:v1.15.0', 'v1.37.0', { kind: 'current' }],
    ['registry.k8s.io/coredns/coredns:v1.13.1@sha256:abc', 'v1.36.1', { kind: 'own' }],
    ['registry.example/dns/coredns:patched', 'v1.36.1', { kind: 'own' }],
    ['registry.example/dns/unbound:1.0.0', 'v1.36.1', { kind: 'own' }],
  ])('judge CoreDNS %s for %s', (image, version, verdict) => {
    expect(judgeCoreDns(image, version)).toMatchObject(verdict);
  });

  it.each([
    ['registry.k8s.io/kube-proxy:v1.36.1', 'registry.k8s.io/kube-proxy:v1.37.0'],
    ['mirror.local:5000/k8s/kube-proxy:v1.36.1', 'mirror.local:5000/k8s/kube-proxy:v1.37.0'],
    ['mirror.local:5000/kube-proxy', 'mirror.local:5000/kube-proxy:v1.37.0'],
    ['registry.k8s.io/kube-proxy:v1.36.1@sha256:abc', 'registry.k8s.io/kube-proxy:v1.37.0'],
  ])('moves %s to the new tag', (before, after) => {
    expect(retag(before, 'v1.37.0')).toBe(after);
  });
});

describe('a node that is deployed while a new version is wanted', () => {
  const wanting = (variant: 'stock' | 'prebaked', servers: string[], controlPlaneVersion: string) => {
    const { document, record } = scene(
      Object.fromEntries(
        servers.map(
          (kubernetesVersion, index) => [`cp-${index}`, { shape: 'ready', kubernetesVersion }] as const,
        ),
      ),
      { record: { controlPlaneVersion } },
    );
    const { os, kubernetes } = document.profile;
    const profile = {
      ...document.profile,
      os: { ...os, variant },
      kubernetes: { ...kubernetes, kubernetesVersion: 'v1.37.0' },
    };
    const versionFor = (role: 'control-plane' | 'worker', init = false) =>
      documentInForce({ ...document, profile }, record, { role, init })?.profile.kubernetes.kubernetesVersion;
    return versionFor;
  };
  const OLD = ['v1.36.1', 'v1.36.1', 'v1.36.1'];

  it('gets the version that runs until the rollout is approved', () => {
    const versionFor = wanting('stock', OLD, 'v1.36.1');
    expect(versionFor('worker')).toBe('v1.36.1');
    expect(versionFor('control-plane')).toBe('v1.36.1');
  });

  it('waits when its image cannot be had in that version', () => {
    expect(wanting('prebaked', OLD, 'v1.36.1')('worker')).toBeUndefined();
  });

  it('as a worker waits while the control plane is between two versions: no kubelet is newer than an API server', () => {
    const versionFor = wanting('stock', ['v1.37.0', 'v1.36.1', 'v1.36.1'], 'v1.37.0');
    expect(versionFor('worker')).toBeUndefined();
    expect(versionFor('control-plane')).toBe('v1.37.0');
    expect(wanting('stock', ['v1.37.0', 'v1.37.0', 'v1.37.0'], 'v1.37.0')('worker')).toBe('v1.37.0');
  });
});
