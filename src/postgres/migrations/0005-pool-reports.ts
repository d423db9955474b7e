/** What each process says of its pools, so that any of them can show all. */
import { Migration } from '@mikro-orm/migrations'

export class PoolReports extends Migration {
  override up(): void {
    this.addSql(`create table "pool_reports" (
      "pool" text collate "C" not null, "holder" text collate "C" not null, "at" bigint not null, "report" json not null,
      constraint "pool_reports_pkey" primary key ("pool", "holder"))`)
  }
}
