/** The machines of pools, what is to be asked of their providers, and who leads each pool. */
import { Migration } from '@mikro-orm/migrations'

const CLAIMABLE = `('creating', 'booting', 'hot', 'suspending', 'ready', 'reserve')`

/** Of one line: the text is compared with what the entity says. */
const STAY_TAINTED = `if new.tainted < old.tainted or new.boots < old.boots or (new.boots > old.boots and not (old.state = 'stopping' and new.state = 'reserve')) or (old.state = 'gone' and new.state <> 'gone') then raise exception 'machine % cannot become clean by going from % to %', old.id, old.state, new.state using errcode = 'check_violation'; end if; return new`

export class Machines extends Migration {
  override up(): void {
    this.addSql(`create table "machines" (
      "id" text collate "C" not null, "pool" text collate "C" not null, "place" text collate "C" not null,
      "generation" text collate "C" not null, "state" text collate "C" not null, "version" int not null,
      "provider_id" text null, "boot_id" text null, "boots" int not null, "tainted" int not null,
      "job_id" text collate "C" null, "fence" int null, "lines_url" text null, "since" bigint not null,
      "deadline" bigint null, "idle_since" bigint null, "uses" int not null, "fault" text null,
      "verb" text null, "not_before" bigint null, "tries" int not null,
      "held_at" bigint null,
      constraint "machines_pkey" primary key ("id"),
      constraint "machines_owned" check (("job_id" is not null and "fence" is not null) = ("state" in ('waking', 'busy'))),
      constraint "machines_clean" check ("boots" > "tainted" or "state" in ('busy', 'stopping', 'quarantined', 'retiring', 'gone')),
      constraint "machines_used" check ("state" <> 'busy' or "boots" = "tainted")
    ) with (fillfactor = 70)`)
    this.addSql(`create unique index "machines_one_owner" on "machines" ("job_id", "fence") where job_id is not null`)
    this.addSql(`create unique index "machines_one_active" on "machines" ("job_id") where state in ('waking', 'busy')`)
    this.addSql(`create index "machines_claimable" on "machines" ("pool", "state") where state in ${CLAIMABLE}`)
    this.addSql(`create index "machines_due" on "machines" ("pool", "not_before") where verb is not null`)
    this.addSql(`create index "machines_held" on "machines" ("pool", "held_at") where held_at is not null`)
    // What a job left is not forgotten by an update: only a stop that was seen to be done makes a machine clean again.
    this.addSql(
      `create function "machines_stay_tainted_fn"() returns trigger as $$ begin ${STAY_TAINTED}; end; $$ language plpgsql`,
    )
    this.addSql(`create trigger "stay_tainted" before update on "machines"
      for each row execute function "machines_stay_tainted_fn"()`)
    this.addSql(`create table "pool_leads" (
      "pool" text collate "C" not null, "holder" text not null, "epoch" int not null, "until" bigint not null,
      constraint "pool_leads_pkey" primary key ("pool"))`)
  }
}
