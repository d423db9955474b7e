/** Batches what happens under a lease: everything that came while the last commit was on its way goes in one. */
import { setImmediate as breath } from 'node:timers/promises'
import type { JobEvent, NewEvent } from '../../schema/event.ts'

interface Waiting {
  readonly event: NewEvent
  readonly recorded: PromiseWithResolvers<JobEvent>
}

export interface Recorder {
  /** Records with the next commit; resolves with the event as the log has it. */
  record(event: NewEvent): Promise<JobEvent>
  /** Records with whichever commit comes next, but asks for none. */
  attach(event: NewEvent): void
  /** Resolves when everything given so far is in the log; rejects when it never will be. */
  flush(): Promise<void>
  /** Appends nothing, perhaps, and sees what others appended. */
  look(): void
  /** How many events wait for the next append. */
  waiting(): number
}

/**
 * `append` gives all events that are new, in order, its own included; each is seen once. When it throws, `fail` is
 * told once, and nothing is recorded any more: what waited stays open for ever, since its owner is being torn down.
 */
export function openRecorder(
  append: (events: readonly NewEvent[]) => Promise<readonly JobEvent[]>,
  see: (event: JobEvent) => void,
  fail: (error: unknown) => void,
): Recorder {
  let waiting: Waiting[] = []
  let wanted = false
  let running: Promise<void> | undefined
  const failures: unknown[] = []

  async function run(): Promise<void> {
    try {
      while (wanted) {
        // What arrived in the same read of the machine's output is handled before this goes on.
        await breath()
        wanted = false
        const batch = waiting
        waiting = []
        const events = await append(batch.map(({ event }) => event))
        for (const event of events) see(event)
        settle(batch, events)
      }
    } catch (error) {
      failures.push(error)
      fail(error)
    }
    // In the same breath as the last look at `wanted`, so that no wish falls between two runs.
    running = undefined
  }

  function throwFailure(): void {
    if (failures.length > 0) throw failures[0]
  }

  async function want(): Promise<void> {
    throwFailure()
    wanted = true
    running ??= run()
    await running
    throwFailure()
  }

  const push = (event: NewEvent): Waiting => {
    const entry = { event, recorded: Promise.withResolvers<JobEvent>() }
    waiting.push(entry)
    return entry
  }

  const nudge = (): void => void want().catch(() => {})

  return {
    async record(event) {
      const { recorded } = push(event)
      nudge()
      return recorded.promise
    },
    attach: (event) => void push(event),
    async flush() {
      if (waiting.length > 0 || running !== undefined) await want()
      else throwFailure()
    },
    look: nudge,
    waiting: () => waiting.length,
  }
}

/** Own events stand in the answer in the order in which they were given, between those of others. */
function settle(batch: readonly Waiting[], events: readonly JobEvent[]): void {
  let at = 0
  for (const { event, recorded } of batch) {
    const found = events.findIndex((one, i) => i >= at && one.type === event.type && one.runId === event.runId)
    const own = events[found]
    if (own === undefined) continue
    at = found + 1
    recorded.resolve(own)
  }
}
