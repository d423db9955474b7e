/** Until when turns are taken at what all processes ask together. */
import { Migration } from '@mikro-orm/migrations'

export class Turns extends Migration {
  override up(): void {
    this.addSql(`create table "turns" (
      "subject" text collate "C" not null, "free_at" double precision not null,
      constraint "turns_pkey" primary key ("subject"))`)
  }
}
