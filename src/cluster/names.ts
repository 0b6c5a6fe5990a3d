/**
 * Names that the gateway gives: nodes `<cluster>-<pool>-<suffix>`, unique in the cluster and over time,
 * and ids of operations. No vowels in suffixes, so that no words appear by chance.
 */

const SUFFIX_ALPHABET = '23456789bcdfghjkmnpqrstvwxz';
const SUFFIX_LENGTH = 5;
/** RFC 1123 label: the name may become a label value and part of an agent name. */
const NAME_MAX = 63;

export type Random = () => number;

export function randomText(length: number, random: Random, alphabet: string = SUFFIX_ALPHABET): string {
  let text = '';
  for (let i = 0; i < length; i += 1) text += alphabet[Math.floor(random() * alphabet.length)] ?? alphabet[0];
  return text;
}

/** A fresh node name that is not in `taken`. */
export function nodeName(cluster: string, pool: string, taken: ReadonlySet<string>, random: Random): string {
  const room = NAME_MAX - SUFFIX_LENGTH - 1;
  const stem = `${cluster}-${pool}`.slice(0, room).replace(/-+$/, '');
  for (;;) {
    const name = `${stem}-${randomText(SUFFIX_LENGTH, random)}`;
    if (!taken.has(name)) return name;
  }
}

/** Names one attempt to claim a machine; part of the ownership stamp. */
export function operationId(random: Random): string {
  return randomText(8, random);
}
