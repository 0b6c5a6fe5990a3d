/**
 * Takes credentials out of a machine's own texts (installation logs, events) before they leave the site:
 * private keys, kubeadm tokens, OAuth values, passwords in URLs and in assignments. Line structure stays.
 */
const RULES: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  [
    /-----BEGIN ([A-Z ]*PRIVATE KEY)-----[\s\S]*?(?:-----END \1-----|$)/g,
    '-----BEGIN $1-----\n[secret]\n-----END $1-----',
  ],
  [/\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g, '[secret]'], // kubeadm bootstrap token
  [
    /(oauth_(?:token|signature|consumer_key|nonce|token_secret|consumer_secret)["']?\s*[=:]\s*["']?)[^"',&\s]+/gi,
    '$1[secret]',
  ],
  [/((?:consumer|token|client)[-_]?(?:key|secret)["']?\s*[=:]\s*["']?)[^"',&\s]+/gi, '$1[secret]'],
  [/((?:passw(?:or)?d|passphrase|certificate[-_]key|secret)["']?\s*[=:]\s*["']?)[^"',&\s]+/gi, '$1[secret]'],
  [/(authorization["']?\s*[=:]\s*)[^\n]+/gi, '$1[secret]'],
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^/\s:@]+:[^/\s@]+@/gi, '$1[secret]@'],
];

export function scrub(text: string): string {
  return RULES.reduce((clean, [pattern, replacement]) => clean.replace(pattern, replacement), text);
}
