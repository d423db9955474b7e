/** The first tables. */
import { Migration } from '@mikro-orm/migrations'

export class FirstTables extends Migration {
  override up(): void {
    this.addSql(`
      create table "api_keys" (
        "id" text collate "C" not null,
        "application_id" text collate "C" not null,
        "secret_hash" text not null,
        "scopes" jsonb not null,
        "revoked_at" bigint null,
        primary key ("id")
      )`)
    this.addSql(`
      create table "applications" (
        "id" text collate "C" not null,
        "name" text not null,
        "created_at" bigint not null,
        primary key ("id")
      )`)
    this.addSql(`alter table "applications" add constraint "applications_name_unique" unique ("name")`)
    this.addSql(`
      create table "data_keys" (
        "application_id" text collate "C" not null,
        "sealed" bytea not null,
        primary key ("application_id")
      )`)
    this.addSql(`
      create table "idempotency_keys" (
        "application_id" text collate "C" not null,
        "key_hash" bytea not null,
        "request_hash" bytea not null,
        "job_id" text collate "C" not null,
        primary key ("application_id", "key_hash")
      )`)
    this.addSql(`
      create table "jobs" (
        "id" text collate "C" not null,
        "application_id" text collate "C" not null,
        "user_id" text null,
        "status" text not null,
        "expert_name" text not null,
        "state" json not null,
        "revision" int not null,
        "head_hash" bytea not null,
        "lock_hash" bytea not null,
        "lease_holder" text null,
        "lease_fence" int null,
        "lease_until" bigint null,
        primary key ("id")
      ) with (fillfactor = 70)`)
    this.addSql(`create index "jobs_newest" on "jobs" ("application_id", "id")`)
    this.addSql(`create index "jobs_claimable" on "jobs" ("id") where status in ('queued', 'running')`)
    this.addSql(`
      create table "job_events" (
        "job_id" text collate "C" not null,
        "seq" int not null,
        "v" smallint not null,
        "type" text not null,
        "run_id" text null,
        "expert_key" text null,
        "step_number" int null,
        "at" bigint not null,
        "data" json not null,
        "prev_hash" bytea not null,
        "hash" bytea not null,
        primary key ("job_id", "seq")
      )`)
    this.addSql(`
      create table "packages" (
        "name" text collate "C" not null,
        "owner" text collate "C" not null,
        "modified_at" bigint not null,
        primary key ("name")
      )`)
    this.addSql(`
      create table "package_locks" (
        "package_name" text collate "C" not null,
        "version" text collate "C" not null,
        "expert_name" text collate "C" not null,
        "lock" json not null,
        primary key ("package_name", "version", "expert_name")
      )`)
    this.addSql(`
      create table "package_tags" (
        "package_name" text collate "C" not null,
        "tag" text collate "C" not null,
        "version" text collate "C" not null,
        primary key ("package_name", "tag")
      )`)
    this.addSql(`
      create table "package_versions" (
        "package_name" text collate "C" not null,
        "version" text collate "C" not null,
        "seq" int not null,
        "integrity" text not null,
        "shasum" text not null,
        "content_hash" text not null,
        "size_bytes" bigint not null,
        "unpacked_bytes" bigint not null,
        "file_count" int not null,
        "manifest" json not null,
        "experts" json not null,
        "deprecated" text null,
        "published_at" bigint not null,
        primary key ("package_name", "version")
      )`)
    this.addSql(`create index "package_versions_integrity" on "package_versions" ("integrity")`)
    this.addSql(`
      create table "secrets" (
        "application_id" text collate "C" not null,
        "name" text collate "C" not null,
        "sealed" bytea not null,
        "updated_at" bigint not null,
        primary key ("application_id", "name")
      )`)
  }
}
