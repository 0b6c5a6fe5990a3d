/** The portal's own key pair: made once, kept in its store; gateways pin its public half when they pair. */
import { generateIdentity, type Identity, parseIdentity } from '../tunnel/identity.ts';
import { isUniqueViolation } from './store/open.ts';
import type { PortalDb } from './store/schema.ts';

const KEY = 'identity';

export async function loadIdentity(db: PortalDb): Promise<Identity> {
  const stored = () => db.selectFrom('settings').select('value').where('key', '=', KEY).executeTakeFirst();
  const row = await stored();
  if (row) return parseIdentity(row.value);
  const identity = generateIdentity();
  try {
    await db.insertInto('settings').values({ key: KEY, value: identity.serialize().reveal() }).execute();
    return identity;
  } catch (error) {
    // Another process was first.
    const theirs = isUniqueViolation(error) ? await stored() : undefined;
    if (!theirs) throw error;
    return parseIdentity(theirs.value);
  }
}
