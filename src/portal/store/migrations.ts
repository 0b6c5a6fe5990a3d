/**
 * The portal's schema, step by step. A released step never changes; a new one is added below.
 * `bigint` is INTEGER to SQLite and int8 to PostgreSQL.
 */
import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

export const migrations: Record<string, Migration> = {
  '0001-ground': {
    async up(db: Kysely<unknown>): Promise<void> {
      const { schema } = db;
      await schema
        .createTable('settings')
        .addColumn('key', 'text', (column) => column.primaryKey())
        .addColumn('value', 'text', (column) => column.notNull())
        .execute();
      await schema
        .createTable('counters')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('value', 'bigint', (column) => column.notNull())
        .execute();
      await schema
        .createTable('users')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('email', 'text', (column) => column.notNull().unique())
        .addColumn('password_hash', 'text', (column) => column.notNull())
        .addColumn('role', 'text', (column) => column.notNull())
        .addColumn('disabled', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .execute();
      await schema
        .createTable('tokens')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('hash', 'text', (column) => column.notNull().unique())
        .addColumn('user_id', 'text', (column) => column.notNull().references('users.id').onDelete('cascade'))
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('scope', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint')
        .execute();
      await schema
        .createTable('pairing_codes')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('gateway_id', 'text', (column) => column.notNull())
        .addColumn('gateway_name', 'text', (column) => column.notNull())
        .addColumn('record', 'text', (column) => column.notNull())
        .addColumn('created_by', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .execute();
      await schema
        .createTable('gateways')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('name', 'text', (column) => column.notNull().unique())
        .addColumn('public_key', 'text', (column) => column.notNull())
        .addColumn('sealing_key', 'text', (column) => column.notNull())
        .addColumn('words', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('epoch', 'bigint', (column) => column.notNull().defaultTo(1))
        .addColumn('last_event_seq', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('status', 'text')
        .addColumn('status_revision', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('status_received_at', 'bigint')
        .addColumn('disconnected_at', 'bigint')
        .addColumn('disconnect_reason', 'text')
        .execute();
      await schema
        .createTable('cloud_accounts')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('gateway_id', 'text', (column) =>
          column.notNull().references('gateways.id').onDelete('cascade'),
        )
        .addColumn('name', 'text', (column) => column.notNull().unique())
        .addColumn('description', 'text', (column) => column.notNull())
        .addColumn('scope', 'text', (column) => column.notNull())
        .addColumn('endpoint', 'text', (column) => column.notNull())
        .addColumn('key_fingerprint', 'text', (column) => column.notNull())
        .addColumn('sealed_key', 'text')
        .addColumn('ca_pem', 'text')
        .addColumn('enabled', 'bigint', (column) => column.notNull())
        .addColumn('is_default', 'bigint', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .execute();
      await schema
        .createTable('profiles')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('name', 'text', (column) => column.notNull().unique())
        .addColumn('revision', 'bigint', (column) => column.notNull())
        .addColumn('body', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .execute();
      await schema
        .createTable('clusters')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('live_name', 'text', (column) => column.unique())
        .addColumn('gateway_id', 'text', (column) => column.notNull())
        .addColumn('account_id', 'text', (column) => column.notNull())
        .addColumn('profile_id', 'text', (column) => column.notNull())
        .addColumn('generation', 'bigint', (column) => column.notNull())
        .addColumn('spec', 'text', (column) => column.notNull())
        .addColumn('profile', 'text', (column) => column.notNull())
        .addColumn('intent', 'text', (column) => column.notNull())
        .addColumn('actions', 'text', (column) => column.notNull())
        .addColumn('created_by', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('provisioned_at', 'bigint')
        .addColumn('deleted_at', 'bigint')
        .addColumn('status', 'text')
        .addColumn('status_revision', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('status_received_at', 'bigint')
        .execute();
      await schema.createIndex('clusters_gateway').on('clusters').columns(['gateway_id']).execute();
      await schema
        .createTable('documents')
        .addColumn('gateway_id', 'text', (column) =>
          column.notNull().references('gateways.id').onDelete('cascade'),
        )
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('generation', 'bigint', (column) => column.notNull())
        .addColumn('spec', 'text')
        .addColumn('acknowledged', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('outcome', 'text')
        .addPrimaryKeyConstraint('documents_key', ['gateway_id', 'kind', 'id'])
        .execute();
      await schema
        .createTable('events')
        .addColumn('feed_id', 'bigint', (column) => column.primaryKey())
        .addColumn('gateway_id', 'text', (column) => column.notNull())
        .addColumn('epoch', 'bigint', (column) => column.notNull())
        .addColumn('seq', 'bigint', (column) => column.notNull())
        .addColumn('cluster_id', 'text')
        .addColumn('time', 'bigint', (column) => column.notNull())
        .addColumn('body', 'text', (column) => column.notNull())
        .addUniqueConstraint('events_origin', ['gateway_id', 'epoch', 'seq'])
        .execute();
      await schema.createIndex('events_cluster').on('events').columns(['cluster_id', 'feed_id']).execute();
      await schema
        .createTable('idempotency')
        .addColumn('user_id', 'text', (column) => column.notNull())
        .addColumn('key', 'text', (column) => column.notNull())
        .addColumn('request_hash', 'text', (column) => column.notNull())
        .addColumn('cluster_id', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('idempotency_key', ['user_id', 'key'])
        .execute();
      await (db as Kysely<{ counters: { name: string; value: number } }>)
        .insertInto('counters')
        .values({ name: 'feed', value: 0 })
        .execute();
    },
  },
  '0002-settled': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable('clusters').addColumn('settled', 'text').execute();
    },
  },
};
