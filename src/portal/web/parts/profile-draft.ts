/** A profile while it is edited: texts as typed, turned into packs in one place. */
import type { Pack, Profile } from '../../../contract/profile.ts';

export interface DraftParameter {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'cidr';
  readonly description: string;
  readonly default: string;
  readonly required: boolean;
  /** What no field shows is kept. */
  readonly enum?: readonly string[] | undefined;
}

/** One pack; which fields count depends on its layer. */
export interface DraftPack {
  readonly layer: Pack['layer'];
  readonly name: string;
  readonly version: string;
  readonly image: string;
  readonly variant: 'stock' | 'prebaked';
  readonly kubernetesVersion: string;
  /** `name=value`, one a line. */
  readonly apiServerArgs: string;
  readonly kubeletArgs: string;
  readonly flavor: 'calico' | 'cilium' | 'flannel' | 'custom';
  readonly manifests: string;
  readonly parameters: readonly DraftParameter[];
  readonly values: Readonly<Record<string, string | number | boolean>>;
}

const EMPTY: Omit<DraftPack, 'layer' | 'name' | 'version'> = {
  image: 'ubuntu/noble',
  variant: 'stock',
  kubernetesVersion: '',
  apiServerArgs: '',
  kubeletArgs: '',
  flavor: 'custom',
  manifests: '',
  parameters: [],
  values: {},
};

export function draftPack(pack: Pack): DraftPack {
  const base = { ...EMPTY, layer: pack.layer, name: pack.name, version: pack.version };
  switch (pack.layer) {
    case 'os':
      return { ...base, image: pack.image, variant: pack.variant };
    case 'kubernetes':
      return {
        ...base,
        kubernetesVersion: pack.kubernetesVersion,
        apiServerArgs: asLines(pack.apiServerArgs),
        kubeletArgs: asLines(pack.kubeletArgs),
      };
    case 'cni':
    case 'addon':
      return {
        ...base,
        ...(pack.layer === 'cni' ? { flavor: pack.flavor } : {}),
        manifests: pack.manifests,
        values: pack.values,
        parameters: pack.parameters.map((parameter) => ({
          name: parameter.name,
          type: parameter.type,
          description: parameter.description,
          default: parameter.default === undefined ? '' : String(parameter.default),
          required: parameter.required,
          enum: parameter.enum,
        })),
      };
  }
}

export function newAddon(count: number): DraftPack {
  return { ...EMPTY, layer: 'addon', name: `addon-${count}`, version: '1' };
}

/** As a request gives it. */
export function toPack(draft: DraftPack): object {
  const { layer, name, version } = draft;
  switch (layer) {
    case 'os':
      return { layer, name, version, image: draft.image, variant: draft.variant };
    case 'kubernetes':
      return {
        layer,
        name,
        version,
        kubernetesVersion: draft.kubernetesVersion,
        apiServerArgs: fromLines(draft.apiServerArgs),
        kubeletArgs: fromLines(draft.kubeletArgs),
      };
    case 'cni':
    case 'addon':
      return {
        layer,
        name,
        version,
        ...(layer === 'cni' ? { flavor: draft.flavor } : {}),
        manifests: draft.manifests,
        values: draft.values,
        parameters: draft.parameters.map(toParameter),
      };
  }
}

function toParameter(draft: DraftParameter): object {
  const { default: text, enum: choices, ...rest } = draft;
  return {
    ...rest,
    ...(choices === undefined ? {} : { enum: choices }),
    ...(text === '' ? {} : { default: typed(text, draft.type) }),
  };
}

function typed(text: string, type: DraftParameter['type']): string | number | boolean {
  if (type === 'integer' && /^-?\d+$/.test(text)) return Number(text);
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

export function inputOf(
  profile: Pick<Profile, 'name' | 'description' | 'scope'>,
  packs: readonly DraftPack[],
) {
  const { name, description, scope } = profile;
  return { name, description, scope, packs: packs.map(toPack) };
}

function asLines(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n');
}

function fromLines(text: string): Record<string, string> {
  return Object.fromEntries(
    text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => {
        const at = line.indexOf('=');
        return at < 0 ? [line.trim(), ''] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
      }),
  );
}
