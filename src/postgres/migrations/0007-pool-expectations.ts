/** What who leads a pool expects of it, so that the next goes on from there. */
import { Migration } from '@mikro-orm/migrations'

export class PoolExpectations extends Migration {
  override up(): void {
    this.addSql(`create table "pool_expectations" (
      "pool" text collate "C" not null, "kept" json not null,
      constraint "pool_expectations_pkey" primary key ("pool"))`)
  }
}
