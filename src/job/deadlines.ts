/** Looks for questions whose time is over, whoever holds their jobs; any number of processes may look. */
import type { Clock } from '../../schema/clock.ts'
import type { Log } from '../log.ts'
import type { Jobs } from './jobs.ts'

export interface Deadlines {
  /** Looks no more; resolves when the look that is under way has ended. */
  close(): Promise<void>
}

/** How late a deadline may be kept. */
const LOOK_MS = 2_000

/** Looks at once, so that what became due while no process ran is kept at the start of the next. */
export function openDeadlines(dependencies: {
  readonly jobs: Pick<Jobs, 'expireQuestions'>
  readonly clock: Clock
  readonly log: Log
}): Deadlines {
  const { jobs, clock, log } = dependencies
  const closing = new AbortController()

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        // Each look takes a few jobs: as long as it finds some, there may be more.
        while ((await jobs.expireQuestions()) > 0 && !closing.signal.aborted);
      } catch (error) {
        log.error('Questions whose time is over stay open.', { error })
      }
      await clock.sleep(LOOK_MS, closing.signal).catch(() => {})
    }
  }

  const running = run()
  return {
    async close() {
      closing.abort(new Error('the deadlines are closing'))
      await running
    },
  }
}
