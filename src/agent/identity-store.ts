/**
 * Where the gateway's identity lies: written before the portal is asked to pair (a crash between the
 * portal's answer and this disk loses nothing: the same key repeats with the same code), completed after.
 */
import { COLLECTIONS, type Records } from '../store/records.ts';
import { generateIdentity, type Identity, parseIdentity } from '../tunnel/identity.ts';

const KEYS = 'keys';
const PAIRING = 'pairing';

/** What pairing has left behind. */
export interface Pairing {
  readonly gatewayId: string;
  readonly gatewayName: string;
  readonly portalUrl: string;
  readonly tunnelUrl: string;
  /** The portal's Ed25519 public key, pinned. */
  readonly portalKey: string;
  readonly words: string;
}

/** The key pair, made at the first call and the same ever after. */
export async function loadOrCreateKeys(records: Records): Promise<Identity> {
  const stored = await records.get<string>(COLLECTIONS.identity, KEYS);
  if (stored) return parseIdentity(stored.value);
  const identity = generateIdentity();
  await records.put(COLLECTIONS.identity, KEYS, identity.serialize().reveal(), { ifRevision: 0 });
  return identity;
}

export async function loadPairing(records: Records): Promise<Pairing | undefined> {
  return (await records.get<Pairing>(COLLECTIONS.identity, PAIRING))?.value;
}

export async function savePairing(records: Records, pairing: Pairing): Promise<void> {
  await records.put(COLLECTIONS.identity, PAIRING, pairing);
}
