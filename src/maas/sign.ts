/**
 * OAuth 1.0a, method PLAINTEXT, as MAAS reads it. Every attempt gets its own header: a nonce is burned by
 * any request that commits. MAAS skips header parts that contain "realm" anywhere, so nonces are hex.
 */
import { randomBytes } from 'node:crypto';
import OAuth from 'oauth-1.0a';
import type { ApiKey } from './api-key.ts';

/** 128 bits; hexadecimal letters cannot spell "realm". */
const NONCE_BYTES = 16;

export interface Signer {
  /** A fresh Authorization header for a request that is sent at `epochMs`. */
  authorization(epochMs: number): string;
}

export function createSigner(key: ApiKey): Signer {
  return {
    authorization(epochMs) {
      // The consumer secret of MAAS is always the empty string (undefined would be signed as a word).
      const oauth = new OAuth({
        consumer: { key: key.consumerKey, secret: '' },
        signature_method: 'PLAINTEXT',
      });
      oauth.getNonce = () => randomBytes(NONCE_BYTES).toString('hex');
      oauth.getTimeStamp = () => Math.floor(epochMs / 1000);
      // PLAINTEXT covers neither method, URL nor body; a constant keeps queries out of the library.
      const signed = oauth.authorize(
        { url: 'http://maas/', method: 'GET' },
        { key: key.tokenKey, secret: key.tokenSecret.reveal() },
      );
      return oauth.toHeader(signed).Authorization;
    },
  };
}
