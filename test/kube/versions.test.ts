import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import {
  assertSupported,
  assertUpgrade,
  compareVersions,
  judgeUpgrade,
  kubeletFits,
  parseVersion,
} from '../../src/kube/versions.ts';

describe('Kubernetes versions', () => {
  it('are read with and without v and suffixes, and refused otherwise', () => {
    expect(parseVersion('v1.36.1')).toEqual({ major: 1, minor: 36, patch: 1 });
    expect(parseVersion('1.37.0-rc.1+abc')).toEqual({ major: 1, minor: 37, patch: 0 });
    for (const text of ['', 'v1.36', 'latest', 'v1.36.x']) expect(() => parseVersion(text)).toThrow(PcgError);
  });

  it('are ordered as numbers, not as text', () => {
    expect(compareVersions('v1.36.10', 'v1.36.9')).toBeGreaterThan(0);
    expect(compareVersions('v1.9.0', 'v1.36.0')).toBeLessThan(0);
    expect(compareVersions('v1.36.1', '1.36.1')).toBe(0);
  });

  it.each([
    ['v1.36.1', 'v1.36.1', 'same'],
    ['v1.36.1', 'v1.36.4', 'allowed'],
    ['v1.36.1', 'v1.37.0', 'allowed'],
    ['v1.35.1', 'v1.37.0', 'skips-minor'],
    ['v1.36.4', 'v1.36.1', 'downgrade'],
    ['v1.37.0', 'v1.36.9', 'downgrade'],
    ['v1.36.1', 'v2.0.0', 'skips-minor'],
  ])('from %s to %s: %s', (current, target, wanted) => {
    const verdict = judgeUpgrade(current, target);
    expect(verdict.kind === 'refused' ? verdict.reason : verdict.kind).toBe(wanted);
    if (verdict.kind === 'refused')
      expect(() => assertUpgrade(current, target)).toThrow(wanted === 'downgrade' ? 'downgrade' : 'skips');
    else assertUpgrade(current, target);
  });

  it.each([
    ['v1.36.0', 'v1.36.9', true],
    ['v1.33.0', 'v1.36.0', true],
    ['v1.32.9', 'v1.36.0', false],
    ['v1.37.0', 'v1.36.0', false],
  ])('a kubelet %s under an API server %s: %s', (kubelet, server, fits) => {
    expect(kubeletFits(kubelet, server)).toBe(fits);
  });

  it('outside 1.35 to 1.37 are refused with the list of what is possible', () => {
    for (const version of ['v1.35.0', 'v1.36.1', 'v1.37.4']) assertSupported(version);
    for (const version of ['v1.34.9', 'v1.38.0'])
      expect(() => assertSupported(version)).toThrow('not supported');
  });
});
