/** Users, API keys and SSH keys. */
import { type Call, fields, forAdmin, type Handler, mandatory } from '../call.ts';
import { found } from '../lookup.ts';
import type { SshKey, Token, User } from '../model.ts';
import {
  compactJson,
  deleted,
  invalid,
  json,
  missing,
  MaasError,
  plain,
  raisedText,
  transactionConflict,
} from '../reply.ts';
import { renderSshKey, renderUser } from '../render.ts';
import type { Resource } from '../router.ts';

const userOf = (call: Call): User =>
  found(call.region.users.values(), 'User', (one) => one.username === call.params[0]);

const createUser: Handler = (call) => {
  const { region } = call;
  const form = fields(call);
  const username = mandatory(form, 'username');
  const email = mandatory(form, 'email');
  mandatory(form, 'password');
  const admin = form.get('is_superuser') === '1' || form.get('is_superuser') === 'true';
  // A duplicate runs into a database constraint, which MAAS mistakes for a conflict worth repeating.
  if ([...region.users.values()].some((one) => one.username === username || one.email === email))
    throw new MaasError(transactionConflict());
  const user = { username, email, admin, active: true };
  region.users.set(username, user);
  region.newToken(username, 'MAAS consumer');
  return json(renderUser(user));
};

const deleteUser: Handler = (call) => {
  const { region, params } = call;
  const user = region.users.get(params[0] ?? '');
  if (!user) return deleted();
  if (user.username === call.user.username) throw raisedText(400, 'An administrator cannot self-delete.');
  const ranges = region.ipRanges.filter((one) => one.username === user.username).length;
  const nodes = [...region.machines.values()].filter((one) => one.owner === user.username).length;
  const held = [...(ranges > 0 ? [`${ranges} IP range(s)`] : []), ...(nodes > 0 ? [`${nodes} node(s)`] : [])];
  if (held.length > 0)
    throw raisedText(400, `User ${user.username} cannot be deleted: ${held.join(', ')} are still allocated`);
  region.users.delete(user.username);
  return deleted();
};

const ownTokens = ({ region, user }: Call): Token[] =>
  region.tokens.filter((one) => one.username === user.username);

/** By key alone or by the full triple. */
function tokenOf(call: Call, text: string): Token {
  const token = ownTokens(call).find(
    (one) => one.key === text || `${one.consumer}:${one.key}:${one.secret}` === text,
  );
  if (!token) throw missing('Token');
  return token;
}

const createToken: Handler = (call) => {
  const token = call.region.newToken(call.user.username, call.form.get('name') ?? 'MAAS consumer');
  return compactJson({
    token_key: token.key,
    token_secret: token.secret,
    consumer_key: token.consumer,
    name: token.name,
  });
};

const deleteToken: Handler = (call) => {
  const token = tokenOf(call, mandatory(call.form, 'token_key'));
  call.region.tokens.splice(call.region.tokens.indexOf(token), 1);
  return deleted();
};

const renameToken: Handler = (call) => {
  const token = tokenOf(call, mandatory(call.form, 'token'));
  token.name = mandatory(call.form, 'name');
  return plain(202, 'Accepted');
};

const listTokens: Handler = (call) =>
  json(ownTokens(call).map((one) => ({ name: one.name, token: `${one.consumer}:${one.key}:${one.secret}` })));

const createSshKey: Handler = (call) => {
  const { region, user } = call;
  const key = fields(call).get('key') ?? '';
  if (key === '') throw invalid({ key: 'This field is required.' });
  const parts = key.trim().split(/\s+/);
  if (parts.length < 2)
    throw invalid({
      key: `Invalid SSH public key: Key should contain 2 or more space separated parts (key type, base64-encoded key, optional comments), not 1: ${key}`,
    });
  // The base64 part must hold a length-prefixed algorithm name and then material.
  const blob = Buffer.from(parts[1] ?? '', 'base64');
  if (blob.length < 40)
    throw invalid({ key: 'Invalid SSH public key: Key could not be converted to RFC4716 form.' });
  if (region.sshKeys.some((one) => one.key === key && one.username === user.username))
    throw invalid({ __all__: 'This key has already been added for this user.' });
  const sshKey = { id: region.nextId('sshkey'), key, keysource: null, username: user.username };
  region.sshKeys.push(sshKey);
  return { ...json({ key, keysource: null, id: sshKey.id }), status: 201 };
};

const sshKeyOf = (call: Call): SshKey =>
  found(call.region.sshKeys, 'SSHKey', (one) => String(one.id) === call.params[0]);

const deleteSshKey: Handler = (call) => {
  const key = sshKeyOf(call);
  if (key.username !== call.user.username)
    return { ...plain(403, "Can't delete a key you don't own."), contentType: 'text/plain; charset=utf-8' };
  call.region.sshKeys.splice(call.region.sshKeys.indexOf(key), 1);
  return deleted();
};

export const accountResources: readonly Resource[] = [
  {
    path: /^users\/$/,
    name: 'users',
    methods: {
      GET: ({ region }) => json([...region.users.values()].map(renderUser)),
      POST: forAdmin(createUser),
    },
    get: { whoami: (call) => json(renderUser(call.user)) },
  },
  {
    path: /^users\/([^/]+)\/$/,
    name: 'user',
    methods: { GET: (call) => json(renderUser(userOf(call))), DELETE: forAdmin(deleteUser) },
  },
  {
    path: /^account\/$/,
    name: 'account',
    get: { list_authorisation_tokens: listTokens },
    post: {
      create_authorisation_token: createToken,
      delete_authorisation_token: deleteToken,
      update_token_name: renameToken,
    },
  },
  {
    path: /^account\/prefs\/sshkeys\/$/,
    name: 'sshkeys',
    methods: {
      GET: ({ region, user }) =>
        json(region.sshKeys.filter((one) => one.username === user.username).map(renderSshKey)),
      POST: createSshKey,
    },
    post: {
      import: (call) => {
        mandatory(call.form, 'keysource');
        throw raisedText(
          400,
          "HTTPSConnectionPool(host='launchpad.net', port=443): Max retries exceeded: the simulated site has no internet",
        );
      },
    },
  },
  {
    path: /^account\/prefs\/sshkeys\/([^/]+)\/$/,
    name: 'sshkey',
    methods: { GET: (call) => json(renderSshKey(sshKeyOf(call))), DELETE: deleteSshKey },
  },
];
