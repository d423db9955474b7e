/** Every state of a job, built again from its log by the fold that machines run on, against the hashes in the log. */
import { hashState } from '../../schema/conversation.ts'
import { originOf, type JobEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { Lock } from '../../schema/lock.ts'
import { StateHashes } from '../../schema/state-hash.ts'
import { jobRuns } from '../run/run.ts'

/** A step whose state is not what its log says it was. */
export interface Mismatch {
  readonly seq: number
  readonly runId: string | null
  readonly stepNumber: number | null
  readonly recorded: Sha256
  /** By the runs' fold; null when they have no such run. */
  readonly computed: Sha256 | null
  /** By the conversations' fold, which the control plane and people read. */
  readonly conversed: Sha256 | null
}

export interface StateReplay {
  readonly steps: number
  readonly mismatches: readonly Mismatch[]
}

/** `lockAt` gives the lock that was in force at an event. */
export function replayStates(events: readonly JobEvent[], lockAt: (seq: number) => Lock): StateReplay {
  const [first] = events
  if (first === undefined) return { steps: 0, mismatches: [] }
  const origin = originOf(first.jobId, events)
  const hashes = new StateHashes()
  let state = jobRuns(origin, lockAt(1)).initial
  let steps = 0
  const mismatches: Mismatch[] = []
  for (const event of events) {
    const conversed = hashes.add(event)?.computed ?? null
    if (event.type === 'stepFinished') {
      steps += 1
      const { seq, runId, stepNumber } = event
      const run = runId === null ? undefined : state.runs[runId]
      const computed = run === undefined ? null : hashState(run.stateHash, run.newMessages)
      const recorded = event.data.stateHash
      if (computed !== recorded || conversed !== recorded)
        mismatches.push({ seq, runId, stepNumber, recorded, computed, conversed })
    }
    state = jobRuns(origin, lockAt(event.seq)).evolve(state, event)
  }
  return { steps, mismatches }
}
