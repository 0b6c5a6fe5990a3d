import { describe, expect, it } from 'vitest';
import { PcgError } from '../../src/base/errors.ts';
import { parseManifests, renderPack, resolveValues } from '../../src/cluster/packs.ts';
import { type ManifestPack, AddonPackSchema } from '../../src/contract/profile.ts';
import { resolvedProfile } from '../support/node-input.ts';

const FACTS = {
  clusterName: 'demo',
  podCidr: '10.50.0.0/16',
  serviceCidr: '10.96.0.0/12',
  endpointHost: '10.20.0.200',
  endpointPort: 6443,
};

function pack(manifests: string, changes: Record<string, unknown> = {}): ManifestPack {
  return AddonPackSchema.parse({ layer: 'addon', name: 'thing', version: '1', manifests, ...changes });
}

function problem(run: () => unknown): PcgError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(PcgError);
    return error as PcgError;
  }
  return expect.fail('should have been refused');
}

const CONFIG = `apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: default}
data:
  text: "a \${word} b \${word}"
  number: "\${count}"
  foreign: "\${HOME} $word \${unknown_param}"
extra:
  count: "\${count}"
  flag: "\${flag}"
`;
const PARAMETERS = [
  { name: 'word', type: 'string', default: 'w' },
  { name: 'count', type: 'integer', default: 3 },
  { name: 'flag', type: 'boolean', default: false },
];

describe('a pack', () => {
  it('takes the text after :- for an optional parameter without a value', () => {
    const text = `apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {json: '{"mtu": \${mtu:-null}}', shell: "\${HOME:-/root}"}
`;
    const optional = pack(text, { parameters: [{ name: 'mtu', type: 'integer' }] });
    const data = (values: Record<string, number>) => renderPack(optional, values, FACTS)[0]?.['data'];
    expect(data({})).toEqual({ json: '{"mtu": null}', shell: '${HOME:-/root}' });
    expect(data({ mtu: 8950 })).toEqual({ json: '{"mtu": 8950}', shell: '${HOME:-/root}' });
  });

  it('of Flannel takes an MTU, and leaves it to Flannel without one', () => {
    const backend = (values: Record<string, string>) => {
      const config = renderPack(resolvedProfile().cni, values, FACTS).find(
        ({ kind }) => kind === 'ConfigMap',
      );
      const data = config?.['data'] as Record<string, string> | undefined;
      return (JSON.parse(data?.['net-conf.json'] ?? '{}') as { Backend?: unknown }).Backend;
    };
    expect(backend({})).toEqual({ Type: 'vxlan', MTU: null }); // Go leaves what is null at its own value
    expect(backend({ mtu: '8900' })).toEqual({ Type: 'vxlan', MTU: 8900 });
    expect(problem(() => backend({ mtu: 'big' })).field).toBe('spec.packValues.flannel.mtu');
  });

  it('gets its values typed where a string is nothing but the parameter, and leaves other ${...} alone', () => {
    const [object] = renderPack(
      pack(CONFIG, { parameters: PARAMETERS }),
      { flag: 'true', count: '7' },
      FACTS,
    );
    expect(object?.['data']).toEqual({
      text: 'a w b w',
      number: 7,
      foreign: '${HOME} $word ${unknown_param}',
    });
    expect(object?.['extra']).toEqual({ count: 7, flag: true });
  });

  it('cannot be broken out of by a value', () => {
    const evil = '"}\\nkind: ClusterRoleBinding # ${count}';
    const [object, ...rest] = renderPack(pack(CONFIG, { parameters: PARAMETERS }), { word: evil }, FACTS);
    expect(rest).toEqual([]);
    expect((object?.['data'] as Record<string, string> | undefined)?.['text']).toBe(`a ${evil} b ${evil}`);
    const newline = problem(() =>
      renderPack(pack(CONFIG, { parameters: PARAMETERS }), { word: 'a\nb' }, FACTS),
    );
    expect(newline.field).toBe('spec.packValues.thing.word');
  });

  it('takes values in the order cluster, profile, default, facts of the cluster', () => {
    const parameters = [
      { name: 'podCidr', type: 'cidr', required: true },
      { name: 'word', type: 'string', default: 'default' },
      { name: 'optional', type: 'string' },
    ];
    const base = pack('', { parameters, values: { word: 'profile' } });
    expect(resolveValues(base, {}, FACTS)).toEqual({ podCidr: '10.50.0.0/16', word: 'profile' });
    expect(resolveValues(base, { word: 'cluster', podCidr: '10.9.0.0/16' }, FACTS)).toEqual({
      podCidr: '10.9.0.0/16',
      word: 'cluster',
    });
  });

  it.each<[string, Record<string, unknown>, Record<string, string | number | boolean>]>([
    ['an unknown parameter', {}, { nope: 1 }],
    ['a missing required value', { parameters: [{ name: 'nope', type: 'string', required: true }] }, {}],
    ['a wrong network', { parameters: [{ name: 'nope', type: 'cidr' }] }, { nope: '10.0.0.0/33' }],
    ['text for a number', { parameters: [{ name: 'nope', type: 'integer' }] }, { nope: '1e9' }],
    ['text for a switch', { parameters: [{ name: 'nope', type: 'boolean' }] }, { nope: 'yes' }],
    ['a value off the list', { parameters: [{ name: 'nope', type: 'string', enum: ['a'] }] }, { nope: 'b' }],
    ['an endless value', { parameters: [{ name: 'nope', type: 'string' }] }, { nope: 'x'.repeat(5000) }],
    ['a name from the prototype', {}, { constructor: 'x' }],
  ])('refuses %s and names the field', (_what, changes, values) => {
    const error = problem(() => resolveValues(pack('', changes), values, FACTS));
    expect(error.code).toBe('INVALID_INPUT');
    expect(error.field).toMatch(/^spec\.packValues\.thing\.(nope|constructor)$/);
  });

  it('of the default profile renders with the pod network of the cluster', () => {
    const objects = renderPack(resolvedProfile().cni, { backend: 'host-gw' }, FACTS);
    const config = objects.find((object) => object.kind === 'ConfigMap')?.['data'] as Record<string, string>;
    expect(JSON.parse(config['net-conf.json'] ?? '')).toMatchObject({
      Network: '10.50.0.0/16',
      Backend: { Type: 'host-gw' },
    });
    expect(JSON.parse(config['cni-conf.json'] ?? '')).toMatchObject({ name: 'cbr0' });
    expect(JSON.stringify(objects)).not.toContain('${');
  });
});

describe('manifests', () => {
  it('are read as Go reads YAML: octal modes, yes as true, ports and dates as text, merge keys', () => {
    const [object] = parseManifests(
      'apiVersion: v1\nkind: X\nmetadata: {name: a}\nmode: 0644\nyes: yes\nport: 8080:80\ntime: 12:30:45\nday: 2026-01-02\nbase: &b {p: 1}\nmore: {<<: *b, q: 2}\n',
      'test',
    );
    expect(object).toMatchObject({
      mode: 420,
      port: '8080:80',
      time: '12:30:45',
      day: '2026-01-02',
      more: { p: 1, q: 2 },
    });
  });

  it('open Lists and skip empty documents', () => {
    const text =
      '# nothing\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: A, metadata: {name: a}}\n- {apiVersion: v1, kind: B, metadata: {name: b}}\n';
    expect(parseManifests(text, 'test').map((object) => object.kind)).toEqual(['A', 'B']);
  });

  it.each([
    ['apiVersion: v1\nkind: [', 'KUBE_REJECTED'],
    ['apiVersion: v1\nkind: A\nkind: B\nmetadata: {name: a}', 'KUBE_REJECTED'],
    ['just text', 'KUBE_REJECTED'],
    ['apiVersion: v1\nkind: A', 'KUBE_REJECTED'],
    ['- a\n- b', 'KUBE_REJECTED'],
  ])('refuse %j', (text, code) => {
    expect(problem(() => parseManifests(text, 'test')).code).toBe(code);
  });

  it('do not explode: aliases are limited', () => {
    const bomb = `apiVersion: v1\nkind: A\nmetadata: {name: a}\nl0: &l0 [x,x,x,x,x,x,x,x,x]\n${Array.from(
      { length: 9 },
      (_, index) => `l${index + 1}: &l${index + 1} [${Array(9).fill(`*l${index}`).join(',')}]`,
    ).join('\n')}\n`;
    expect(() => parseManifests(bomb, 'test')).toThrow();
  });
});
