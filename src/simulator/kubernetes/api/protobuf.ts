/**
 * Kubernetes' protobuf bodies, for the few small kinds that newer kubectl sends in no other form (it prefers
 * protobuf for typed creates and has no way back). Everything else is refused with 415.
 */
import type { Json } from './json.ts';

/** The envelope's magic: "k8s" and a zero. */
const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00]);

type Field = {
  readonly name: string;
  /** `map`: string to string; `bytes`: string to base64; `each`: a list of objects. */
  readonly type: 'string' | 'integer' | 'strings' | 'map' | 'bytes' | Shape | { readonly each: Shape };
};
interface Shape {
  readonly [number: number]: Field;
}

const text = (name: string): Field => ({ name, type: 'string' });
const RESOURCE: Shape = {
  1: text('namespace'),
  2: text('verb'),
  3: text('group'),
  4: text('version'),
  5: text('resource'),
  6: text('subresource'),
  7: text('name'),
};
const PATH: Shape = { 1: text('path'), 2: text('verb') };
const METADATA: Shape = {
  1: text('name'),
  2: text('generateName'),
  3: text('namespace'),
  11: { name: 'labels', type: 'map' },
  12: { name: 'annotations', type: 'map' },
};
const object = (spec: Shape): Shape => ({
  1: { name: 'metadata', type: METADATA },
  2: { name: 'spec', type: spec },
});

const number = (name: string): Field => ({ name, type: 'integer' });
const CONTAINER: Shape = {
  1: text('name'),
  2: text('image'),
  3: { name: 'command', type: 'strings' },
  4: { name: 'args', type: 'strings' },
  6: {
    name: 'ports',
    type: {
      each: { 1: text('name'), 2: number('hostPort'), 3: number('containerPort'), 4: text('protocol') },
    },
  },
  7: { name: 'env', type: { each: { 1: text('name'), 2: text('value') } } },
};
const TEMPLATE: Shape = {
  1: { name: 'metadata', type: METADATA },
  2: {
    name: 'spec',
    type: { 2: { name: 'containers', type: { each: CONTAINER } }, 3: text('restartPolicy') },
  },
};

const KINDS: Record<string, Shape> = {
  Namespace: { 1: { name: 'metadata', type: METADATA } },
  ServiceAccount: { 1: { name: 'metadata', type: METADATA } },
  ConfigMap: {
    1: { name: 'metadata', type: METADATA },
    2: { name: 'data', type: 'map' },
    3: { name: 'binaryData', type: 'bytes' },
  },
  Secret: {
    1: { name: 'metadata', type: METADATA },
    2: { name: 'data', type: 'bytes' },
    3: text('type'),
    4: { name: 'stringData', type: 'map' },
  },
  Deployment: object({
    1: number('replicas'),
    2: { name: 'selector', type: { 1: { name: 'matchLabels', type: 'map' } } },
    3: { name: 'template', type: TEMPLATE },
  }),
  Job: object({
    1: number('parallelism'),
    2: number('completions'),
    6: { name: 'template', type: TEMPLATE },
    7: number('backoffLimit'),
  }),
  SelfSubjectAccessReview: object({
    1: { name: 'resourceAttributes', type: RESOURCE },
    2: { name: 'nonResourceAttributes', type: PATH },
  }),
  SelfSubjectRulesReview: object({ 1: text('namespace') }),
  SelfSubjectReview: { 1: { name: 'metadata', type: METADATA } },
  TokenReview: object({ 1: text('token'), 2: { name: 'audiences', type: 'strings' } }),
  TokenRequest: object({
    1: { name: 'audiences', type: 'strings' },
    4: { name: 'expirationSeconds', type: 'integer' },
  }),
};

/** undefined for a kind that is not known here. Throws RangeError for bytes that are no message. */
export function decodeProtobuf(body: Buffer): Json | undefined {
  if (!body.subarray(0, 4).equals(MAGIC)) return undefined;
  const envelope = decode(body.subarray(4), {
    1: { name: 'type', type: { 1: text('apiVersion'), 2: text('kind') } },
  });
  const shape = KINDS[envelope.type?.kind];
  if (!shape) return undefined;
  for (const { number, bytes } of fields(body.subarray(4)))
    if (number === 2 && bytes) return { ...envelope.type, ...decode(bytes, shape) };
  return undefined;
}

function decode(bytes: Buffer, shape: Shape): Json {
  const value: Record<string, Json> = {};
  for (const field of fields(bytes)) {
    const known = shape[field.number];
    if (!known) continue;
    if (known.type === 'integer') value[known.name] = Number(BigInt.asIntN(64, field.value));
    else if (known.type === 'map' || known.type === 'bytes') {
      const entry = [...fields(field.bytes ?? Buffer.alloc(0))];
      const part = (number: number) => entry.find((item) => item.number === number)?.bytes ?? Buffer.alloc(0);
      const content = part(2).toString(known.type === 'map' ? 'utf8' : 'base64');
      value[known.name] = { ...value[known.name], [part(1).toString('utf8')]: content };
    } else if (known.type === 'strings')
      value[known.name] = [...(value[known.name] ?? []), field.bytes?.toString('utf8') ?? ''];
    else if (known.type === 'string') {
      const string = field.bytes?.toString('utf8') ?? '';
      if (string !== '') value[known.name] = string;
    } else if (field.bytes && 'each' in known.type) {
      value[known.name] = [...(value[known.name] ?? []), decode(field.bytes, known.type.each as Shape)];
    } else if (field.bytes) value[known.name] = decode(field.bytes, known.type as Shape);
  }
  return value;
}

function* fields(bytes: Buffer): Generator<{ number: number; value: bigint; bytes: Buffer | undefined }> {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes.readUInt8(at);
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const number = key >> 3;
    if ((key & 7) === 0) yield { number, value: varint(), bytes: undefined };
    else if ((key & 7) === 2) {
      const length = Number(varint());
      if (at + length > bytes.length) throw new RangeError('a field is longer than its message');
      yield { number, value: 0n, bytes: bytes.subarray(at, at + length) };
      at += length;
    } else throw new RangeError(`wire type ${key & 7} is not used by these kinds`);
  }
}
