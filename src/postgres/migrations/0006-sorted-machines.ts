/** Machines in the order in which a claim would rather have them: it sorts none, however many there are. */
import { Migration } from '@mikro-orm/migrations'

export class SortedMachines extends Migration {
  override up(): void {
    this.addSql(`drop index "machines_claimable"`)
    this.addSql(
      `create index "machines_claimable" on "machines" ("pool", "generation", "state", "idle_since" desc nulls last, "id") where state in ('creating', 'booting', 'hot', 'suspending', 'ready', 'reserve') and boots > tainted`,
    )
  }
}
