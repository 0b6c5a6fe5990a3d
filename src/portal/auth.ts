/**
 * Who is asking: users, sign-in, bearer tokens. A browser carries the token in an httpOnly cookie, a
 * program in the Authorization header; both are the same kind of row. The password and the token are
 * stored as hashes only. A gateway never signs in here: it has its own key (tunnel).
 */
import type { Clock } from '../base/clock.ts';
import { PcgError } from '../base/errors.ts';
import { Secret } from '../base/log.ts';
import { type Role, RoleSchema } from '../contract/api.ts';
import { networkOf } from '../tunnel/strangers.ts';
import { newId } from './ids.ts';
import type { PortalLimits } from './limits.ts';
import { hashBearer, hashPassword, newBearer, newPassword, verifyPassword } from './password.ts';
import { RateLimit } from './rate-limit.ts';
import { isUniqueViolation } from './store/open.ts';
import type { PortalDb, TokensTable, UsersTable } from './store/schema.ts';

export interface Caller {
  readonly userId: string;
  readonly email: string;
  readonly role: Role;
  readonly tokenId: string;
  /** `all` or `kube:<cluster>`. */
  readonly scope: string;
}

export interface IssuedToken {
  readonly id: string;
  readonly token: Secret;
  readonly expiresAt: number | null;
}

const RANK: Record<Role, number> = { viewer: 0, 'project-admin': 1, 'tenant-admin': 2 };

/** Does `role` include what `wanted` may do? */
export function roleCovers(role: Role, wanted: Role): boolean {
  return RANK[role] >= RANK[wanted];
}

/** Every kubeadm cluster binds this group to cluster-admin, so that administrators need no object of ours. */
const CLUSTER_ADMINS = 'kubeadm:cluster-admins';

/** Kubernetes groups of a role; the gateway impersonates user and groups, the cluster's RBAC decides. */
export function kubeGroups(role: Role): string[] {
  const own = `pcg:${role}`;
  return role === 'viewer' ? [own] : [own, CLUSTER_ADMINS];
}

/** Shortest password that is accepted. */
const PASSWORD_MIN = 12;

export class Auth {
  readonly #db: PortalDb;
  readonly #clock: Clock;
  readonly #limits: PortalLimits;
  readonly #failures: RateLimit;

  constructor(db: PortalDb, clock: Clock, limits: PortalLimits) {
    this.#db = db;
    this.#clock = clock;
    this.#limits = limits;
    this.#failures = new RateLimit(clock, limits.signInTries, limits.signInWindowMs);
  }

  /** Makes the first administrator. Returns the password when it had to be generated, else undefined. */
  async ensureAdmin(admin: { email: string; password?: Secret }): Promise<Secret | undefined> {
    const existing = await this.#userByEmail(admin.email);
    if (existing) {
      // An explicit password is the operator's word: it resets the stored one.
      if (admin.password && !(await this.#isPassword(admin.password, existing)))
        await this.setPassword(existing.id, admin.password);
      return undefined;
    }
    const password = admin.password ?? new Secret(newPassword());
    try {
      await this.createUser(admin.email, 'tenant-admin', password);
    } catch (error) {
      // Another portal process on the same store was first.
      if (error instanceof PcgError && error.code === 'CONFLICT') return undefined;
      throw error;
    }
    return admin.password ? undefined : password;
  }

  async createUser(email: string, role: Role, password: Secret): Promise<UsersTable> {
    checkPassword(password);
    const user: UsersTable = {
      id: newId('us'),
      email: normalEmail(email),
      password_hash: await hashPassword(password.reveal(), this.#limits.passwordCost),
      role,
      disabled: 0,
      created_at: this.#clock.now(),
    };
    try {
      await this.#db.insertInto('users').values(user).execute();
    } catch (error) {
      if (isUniqueViolation(error))
        throw new PcgError('CONFLICT', `a user ${user.email} exists`, { field: 'email', cause: error });
      throw error;
    }
    return user;
  }

  /** All other sessions of the user end: whoever knew the old password is out. */
  async setPassword(userId: string, password: Secret): Promise<void> {
    checkPassword(password);
    const hash = await hashPassword(password.reveal(), this.#limits.passwordCost);
    await this.#db.transaction().execute(async (tx) => {
      await tx.updateTable('users').set({ password_hash: hash }).where('id', '=', userId).execute();
      await tx.deleteFrom('tokens').where('user_id', '=', userId).where('kind', '=', 'session').execute();
    });
  }

  async signIn(
    email: string,
    password: Secret,
    address: string,
  ): Promise<IssuedToken & { user: UsersTable }> {
    const key = `${networkOf(address)} ${normalEmail(email)}`;
    const waitMs = this.#failures.waitMs(key);
    if (waitMs > 0) {
      const seconds = Math.ceil(waitMs / 1000);
      throw new PcgError('TOO_MANY_TRIES', `too many wrong passwords; try again in ${seconds} s`, {
        details: { retryAfterSeconds: seconds },
      });
    }
    // Counted before the slow check, so that parallel guesses do not all slip under the limit.
    this.#failures.count(key);
    const user = await this.#userByEmail(email);
    const right = await this.#isPassword(password, user);
    if (!user || !right || user.disabled !== 0)
      throw new PcgError('UNAUTHENTICATED', 'e-mail or password is wrong', {
        fix: 'Check both; ask a tenant administrator for a new password.',
      });
    this.#failures.forget(key);
    const issued = await this.issue(user.id, {
      kind: 'session',
      name: 'sign-in',
      scope: 'all',
      ttlMs: this.#limits.sessionTtlMs,
    });
    return { ...issued, user };
  }

  async issue(
    userId: string,
    options: { kind: string; name: string; scope: string; ttlMs: number | null },
  ): Promise<IssuedToken> {
    const token = newBearer();
    const now = this.#clock.now();
    const row: TokensTable = {
      id: newId('tk'),
      hash: hashBearer(token),
      user_id: userId,
      kind: options.kind,
      name: options.name,
      scope: options.scope,
      created_at: now,
      expires_at: options.ttlMs === null ? null : now + options.ttlMs,
    };
    await this.#db.insertInto('tokens').values(row).execute();
    return { id: row.id, token: new Secret(token), expiresAt: row.expires_at };
  }

  async revoke(tokenId: string): Promise<void> {
    await this.#db.deleteFrom('tokens').where('id', '=', tokenId).execute();
  }

  /** The caller behind a bearer token, or undefined when it is unknown, expired or its user is disabled. */
  async authenticate(token: string): Promise<Caller | undefined> {
    const row = await this.#db
      .selectFrom('tokens')
      .innerJoin('users', 'users.id', 'tokens.user_id')
      .select([
        'tokens.id',
        'tokens.scope',
        'tokens.expires_at',
        'users.id as user_id',
        'email',
        'role',
        'disabled',
      ])
      .where('hash', '=', hashBearer(token))
      .executeTakeFirst();
    if (!row || row.disabled !== 0) return undefined;
    if (row.expires_at !== null && row.expires_at <= this.#clock.now()) return undefined;
    return {
      userId: row.user_id,
      email: row.email,
      role: RoleSchema.parse(row.role),
      tokenId: row.id,
      scope: row.scope,
    };
  }

  #isPassword(password: Secret, user: UsersTable | undefined): Promise<boolean> {
    return verifyPassword(password.reveal(), user?.password_hash, this.#limits.passwordCost);
  }

  #userByEmail(email: string): Promise<UsersTable | undefined> {
    return this.#db
      .selectFrom('users')
      .selectAll()
      .where('email', '=', normalEmail(email))
      .executeTakeFirst();
  }
}

function normalEmail(email: string): string {
  return email.trim().toLowerCase();
}

function checkPassword(password: Secret): void {
  if (password.reveal().length < PASSWORD_MIN)
    throw new PcgError('INVALID_INPUT', `a password needs at least ${PASSWORD_MIN} characters`, {
      field: 'password',
    });
}
