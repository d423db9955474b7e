/** Attempts that brought nothing: what each says against its job, and what its owner is told of the last ones. */
import type { JobId } from '../../schema/id.ts'

/** Why an attempt ended; `detail` is its machine's last words, cleaned, where there were any. */
export interface AttemptEnd {
  readonly reason: string
  readonly detail?: string | undefined
}

/** What a job keeps of its barren attempts in a row. */
export interface Barren {
  /** Each counted as far as it says something against the job. */
  readonly barrenAttempts: number
  /** How the last ENDS_MAX of them ended, oldest first; absent in rows of before it was kept. */
  readonly barrenEnds?: readonly string[]
}

export const NOT_BARREN = { barrenAttempts: 0, barrenEnds: [] } as const satisfies Barren

const ENDS_MAX = 3
const REASON_CHARS_MAX = 100

/** Its machine had nothing left to do though nobody was to be waited for. */
export const NOTHING_LEFT: AttemptEnd = { reason: 'it had nothing left to do' }

/**
 * What a barren attempt counts against its job, by why it ended; any other reason is the machine's own, and counts whole.
 * A server that was stopped says nothing against the job. One that died with the job's lease says little: all that it
 * drove lost theirs, and one of these may have killed it. One that got no
 * machine says next to nothing: the job was in none. Parts of powers of two add up exactly.
 */
const BLAME: ReadonlyMap<string, number> = new Map([
  ['server_stopped', 0],
  ['lease_lost', 0.25],
  ['machine_provider_failed', 1 / 64],
])

/** Barren attempts once the current one has ended. */
export function barrenAfter(job: Barren & { readonly progressed: boolean }, end: AttemptEnd): Required<Barren> {
  if (job.progressed) return NOT_BARREN
  const { barrenAttempts, barrenEnds = [] } = job
  const blame = BLAME.get(end.reason) ?? 1
  if (blame === 0) return { barrenAttempts, barrenEnds }
  return { barrenAttempts: barrenAttempts + blame, barrenEnds: [...barrenEnds, printEnd(end)].slice(-ENDS_MAX) }
}

/** One sentence for the job's owner. */
export function explainExhausted(jobId: JobId, { barrenEnds = [] }: Barren): string {
  const nowhere = `one machine after another took job ${jobId} and got nowhere`
  const [first] = barrenEnds
  if (first === undefined) return nowhere
  if (barrenEnds.length === 1) return `${nowhere}; the last ended with ${first}`
  if (barrenEnds.every((end) => end === first))
    return `${nowhere}; each of the last ${barrenEnds.length} ended with ${first}`
  return `${nowhere}; the last ${barrenEnds.length} ended with ${barrenEnds.join('; then with ')}`
}

function printEnd({ reason, detail = '' }: AttemptEnd): string {
  const named = reason.slice(0, REASON_CHARS_MAX)
  return detail === '' ? named : `${named} (${detail})`
}
