/**
 * The last wall between MAAS's texts and our logs. MAAS 401 bodies print the true token secret, so every
 * text that leaves this module passes here: known parts of the key are blanked, control characters and
 * length are bounded.
 */
import type { ApiKey } from './api-key.ts';

/** Characters of foreign text that a message or a log line may carry. */
export const SHOWN_TEXT_CHARS = 400;

export type Redact = (text: string) => string;

export function createRedact(key: ApiKey): Redact {
  // Longest first, so that a part contained in another one leaves no remainder.
  const parts = [key.tokenSecret.reveal(), key.tokenKey, key.consumerKey].sort((a, b) => b.length - a.length);
  return (text) => {
    let clean = text;
    for (const part of parts) clean = clean.replaceAll(part, '[secret]');
    // A signature of another key (a proxy that re-signs): "&<secret>" as MAAS prints it.
    clean = clean.replace(/(?:&|%26)[A-Za-z0-9]{24,}/g, '&[secret]');
    clean = clean.replace(/[\p{Cc}\s]+/gu, ' ').trim();
    return clean.length > SHOWN_TEXT_CHARS ? `${clean.slice(0, SHOWN_TEXT_CHARS)}...` : clean;
  };
}
