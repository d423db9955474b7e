/** Where the oldest waiting jobs of each application are, and which run: a claim reads both and none that has finished. */
import { Migration } from '@mikro-orm/migrations'

export class FairClaims extends Migration {
  override up(): void {
    this.addSql(`drop index "jobs_claimable"`)
    this.addSql(`create index "jobs_queued" on "jobs" ("application_id", "id") where status = 'queued'`)
    this.addSql(`create index "jobs_running" on "jobs" ("application_id", "id") where status = 'running'`)
  }
}
