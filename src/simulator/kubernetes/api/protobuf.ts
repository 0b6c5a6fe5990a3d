/**
 * Kubernetes' protobuf bodies, for the few small kinds that newer kubectl sends in no other form (it prefers
 * protobuf for typed creates and has no way back). Everything else is refused with 415.
 */
import type { Json } from './json.ts';
import { KINDS, type Shape, text } from './protobuf-kinds.ts';

/** The envelope's magic: "k8s" and a zero. */
const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00]);

/** undefined for a kind that is not known here. Throws RangeError for bytes that are no message. */
export function decodeProtobuf(body: Buffer): Json | undefined {
  if (!body.subarray(0, 4).equals(MAGIC)) return undefined;
  const envelope = decode(body.subarray(4), {
    1: { name: 'type', type: { 1: text('apiVersion'), 2: text('kind') } },
  });
  const { apiVersion, kind } = envelope.type ?? {};
  const shape = KINDS[`${apiVersion}/${kind}`] ?? KINDS[kind];
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
    else if (known.type === 'boolean') value[known.name] = field.value !== 0n;
    else if (known.type === 'integer or string') value[known.name] = integerOrString(bytesOf(field));
    else if (known.type === 'map' || known.type === 'bytes' || known.type === 'quantities')
      value[known.name] = { ...value[known.name], ...mapEntry(bytesOf(field), known.type) };
    else if (known.type === 'strings')
      value[known.name] = [...(value[known.name] ?? []), field.bytes?.toString('utf8') ?? ''];
    else if (known.type === 'string') {
      const string = field.bytes?.toString('utf8') ?? '';
      if (string !== '') value[known.name] = string;
    } else if (field.bytes && 'inline' in known.type) {
      Object.assign(value, decode(field.bytes, known.type.inline as Shape));
    } else if (field.bytes && 'each' in known.type) {
      value[known.name] = [...(value[known.name] ?? []), decode(field.bytes, known.type.each as Shape)];
    } else if (field.bytes) value[known.name] = decode(field.bytes, known.type as Shape);
  }
  return value;
}

const bytesOf = (field: { bytes: Buffer | undefined }) => field.bytes ?? Buffer.alloc(0);

/** One entry of a map; a quantity is a message with its text. */
function mapEntry(bytes: Buffer, type: 'map' | 'bytes' | 'quantities'): Record<string, string> {
  const entry = [...fields(bytes)];
  const part = (number: number) =>
    bytesOf(entry.find((item) => item.number === number) ?? { bytes: undefined });
  const raw = type === 'quantities' ? bytesOf([...fields(part(2))][0] ?? { bytes: undefined }) : part(2);
  return { [part(1).toString('utf8')]: raw.toString(type === 'bytes' ? 'base64' : 'utf8') };
}

function integerOrString(bytes: Buffer): number | string {
  const parts = [...fields(bytes)];
  const part = (number: number) => parts.find((item) => item.number === number);
  return part(1)?.value === 1n
    ? bytesOf(part(3) ?? { bytes: undefined }).toString('utf8')
    : Number(BigInt.asIntN(64, part(2)?.value ?? 0n));
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
