/** When the first open question of a job is due, so that jobs which hold no machine are found when their time is over. */
import { Migration } from '@mikro-orm/migrations'

export class DueQuestions extends Migration {
  override up(): void {
    this.addSql(`alter table "jobs" add column "due_at" bigint null`)
    this.addSql(`create index "jobs_due" on "jobs" ("due_at") where due_at is not null`)
  }
}
