/**
 * The MAAS API key `consumer_key:token_key:token_secret` as the user pastes it. Parts of other lengths
 * than 18:18:32 are accepted with a warning; anything that is not three parts of [A-Za-z0-9] is refused.
 */
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';

/** Lengths that every MAAS release so far generates. */
const EXPECTED_LENGTHS = [18, 18, 32] as const;
const PART_NAMES = ['consumer key', 'token key', 'token secret'] as const;

export interface ApiKey {
  readonly consumerKey: string;
  readonly tokenKey: string;
  readonly tokenSecret: Secret;
  /** Doubts worth showing, e.g. an unusual length. Never contains a part of the key. */
  readonly warnings: readonly string[];
}

/** Throws MAAS_KEY_INVALID; the message never repeats what was given. */
export function parseApiKey(key: Secret): ApiKey {
  const parts = key.reveal().trim().split(':');
  const [consumerKey, tokenKey, tokenSecret] = parts;
  if (parts.length !== 3 || !consumerKey || !tokenKey || !tokenSecret) {
    throw new PcgError(
      'MAAS_KEY_INVALID',
      `a MAAS API key has three parts separated by colons; this one has ${parts.filter(Boolean).length}`,
      { field: 'apiKey' },
    );
  }
  const odd = parts.findIndex((part) => !/^[A-Za-z0-9]+$/.test(part));
  if (odd >= 0) {
    throw new PcgError(
      'MAAS_KEY_INVALID',
      `the ${PART_NAMES[odd]} of the MAAS API key contains something other than letters and digits`,
      { field: 'apiKey' },
    );
  }
  const warnings = parts.flatMap((part, index) =>
    part.length === EXPECTED_LENGTHS[index]
      ? []
      : [`the ${PART_NAMES[index]} has ${part.length} characters, usually it has ${EXPECTED_LENGTHS[index]}`],
  );
  return { consumerKey, tokenKey, tokenSecret: new Secret(tokenSecret), warnings };
}
