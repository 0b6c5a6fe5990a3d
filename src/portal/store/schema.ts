/**
 * Tables of the portal. Times are milliseconds since the epoch; JSON is text, written and read through
 * the contract's schemas; switches are 0 or 1. The same tables on SQLite and PostgreSQL.
 */
import type { Kysely, Transaction } from 'kysely';

export interface SettingsTable {
  key: string;
  value: string;
}

export interface UsersTable {
  id: string;
  email: string;
  password_hash: string;
  role: string;
  disabled: number;
  created_at: number;
}

/** Sign-in sessions, API tokens and kubeconfig tokens: one kind of bearer secret, stored as SHA-256. */
export interface TokensTable {
  id: string;
  hash: string;
  user_id: string;
  kind: string;
  name: string;
  /** `all`, or `kube:<cluster>`: good for that cluster's API only. */
  scope: string;
  created_at: number;
  expires_at: number | null;
}

export interface PairingCodesTable {
  id: string;
  /** Fixed with the code; the gateway's row appears when it pairs. */
  gateway_id: string;
  gateway_name: string;
  /** A PairingRecord of tunnel/pair.ts; its key is wiped when the code's life ends. */
  record: string;
  created_by: string;
  created_at: number;
  expires_at: number;
}

export interface GatewaysTable {
  id: string;
  name: string;
  public_key: string;
  sealing_key: string;
  words: string;
  created_at: number;
  /** Grows when another key is pinned: sequences and revisions of the gateway start again. */
  epoch: number;
  last_event_seq: number;
  status: string | null;
  status_revision: number;
  status_received_at: number | null;
  disconnected_at: number | null;
  disconnect_reason: string | null;
}

export interface CloudAccountsTable {
  id: string;
  gateway_id: string;
  name: string;
  description: string;
  scope: string;
  endpoint: string;
  key_fingerprint: string;
  sealed_key: string | null;
  ca_pem: string | null;
  enabled: number;
  is_default: number;
  created_at: number;
}

export interface ProfilesTable {
  id: string;
  name: string;
  revision: number;
  body: string;
  created_at: number;
}

export interface ClustersTable {
  id: string;
  name: string;
  /** The name while the cluster lives, null afterwards: unique among the living. */
  live_name: string | null;
  gateway_id: string;
  account_id: string;
  profile_id: string;
  generation: number;
  spec: string;
  profile: string;
  /** What the nodes were made from before a change that waits for approval; see rollout-consent.ts. */
  settled: string | null;
  intent: string;
  actions: string;
  created_by: string;
  created_at: number;
  /** First time that the gateway reported it Running. */
  provisioned_at: number | null;
  deleted_at: number | null;
  status: string | null;
  status_revision: number;
  status_received_at: number | null;
}

export interface DocumentsTable {
  gateway_id: string;
  kind: string;
  id: string;
  generation: number;
  /** null: withdrawn. */
  spec: string | null;
  acknowledged: number;
  outcome: string | null;
}

export interface EventsTable {
  /** Position in the portal's one feed; assigned in commit order. */
  feed_id: number;
  gateway_id: string;
  epoch: number;
  seq: number;
  cluster_id: string | null;
  time: number;
  body: string;
}

export interface CountersTable {
  name: string;
  value: number;
}

export interface IdempotencyTable {
  user_id: string;
  key: string;
  request_hash: string;
  cluster_id: string;
  created_at: number;
}

export interface PortalTables {
  settings: SettingsTable;
  users: UsersTable;
  tokens: TokensTable;
  pairing_codes: PairingCodesTable;
  gateways: GatewaysTable;
  cloud_accounts: CloudAccountsTable;
  profiles: ProfilesTable;
  clusters: ClustersTable;
  documents: DocumentsTable;
  events: EventsTable;
  counters: CountersTable;
  idempotency: IdempotencyTable;
}

export type PortalDb = Kysely<PortalTables>;
export type PortalTx = Transaction<PortalTables>;
