/** The log, checked by somebody who does not trust the server: numbers without a gap, hashes recomputed, nothing missing. */
import { createHash } from 'node:crypto'
import type { Seen } from './follow-job.ts'
import { expectThat } from './say.ts'

export function checkLog(jobId: string, { events, checkpoints }: Seen): void {
  let prevHash = sha256(`senmon job ${jobId}`)
  for (const [i, { seq, type, runId, expertKey, stepNumber, at, data, hash }] of events.entries()) {
    expectThat(seq === i + 1, `event ${i + 1} of the log has the number ${seq}`)
    const whole = { v: 1, jobId, seq, type, runId, expertKey, stepNumber, at: Date.parse(at), data, prevHash }
    expectThat(sha256(canonical(whole)) === hash, `event ${seq} (${type}) does not hash to ${hash}`)
    prevHash = hash
  }
  expectThat(events.at(-1)?.type === 'jobFinished', `the log ends with ${events.at(-1)?.type}`)
  const steps = events.filter(({ type }) => type === 'stepFinished')
  expectThat(
    steps.length === checkpoints.length && steps.every(({ seq }, i) => checkpoints[i]?.seq === seq),
    `the log has ${steps.length} steps and ${checkpoints.length} checkpoints arrived`,
  )
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** One text per value: sorted keys, no spaces (RFC 8785). */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item)).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(',')}}`
}
