/** The generic crash test: a scenario runs once, then once for every append, with the process dying at that append. */
import { expect } from 'vitest'
import { firstBroken, type JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { answersOf } from '../run/simulation.ts'
import { attemptWorld, type Process, type Scenario } from './attempt-world.ts'

export interface CrashScenario extends Omit<Scenario, 'call'> {
  /** What people do when they see these events; called until the job has finished. */
  readonly people: (process: Process, events: readonly JobEvent[]) => Promise<void>
  readonly tool: (tool: string, args: string) => string
  /** Tools that are made once: their calls may repeat only as often as `people` say `retry`. */
  readonly once?: ReadonlySet<string>
  /** Makes the job; a plain one by default. What is called meanwhile is not judged. */
  readonly begin?: (world: ReturnType<typeof attemptWorld>, maker: Process) => Promise<JobId>
  /** What must be the same after every death: each run's messages, hashes and end, unless moments decide them. */
  readonly answersOf?: (events: readonly JobEvent[]) => unknown
}

/**
 * Dies at each append, before it is written and after; the next process needs nobody to go on. Compares the answers
 * with those of the undisturbed run. Gives how many deaths were survived.
 */
export async function survivesCrashAtEveryAppend(scenario: CrashScenario): Promise<number> {
  const whole = await runOnce(scenario, null)
  const appends = whole.appends
  expect(appends).toBeGreaterThan(5)
  for (let append = 1; append <= appends; append++)
    for (const written of [false, true]) {
      const outcome = await runOnce(scenario, { append, written })
      expect(outcome.answers, `killed at append ${append}, ${written ? 'written' : 'unwritten'}`).toEqual(whole.answers)
    }
  return appends * 2
}

/** How often people had the call `run call` made again. */
function retriesOf(events: readonly JobEvent[], call: string): number {
  const asked = events.flatMap((event) => (event.type === 'questionAsked' ? [event.data.question] : []))
  const own = new Set(asked.filter(({ runId, callId }) => `${runId} ${callId}` === call).map(({ id }) => id))
  return events.filter(
    (event) => event.type === 'answered' && own.has(event.data.questionId) && event.data.value === 'retry',
  ).length
}

async function runOnce(scenario: CrashScenario, killAt: { append: number; written: boolean } | null) {
  const calls: { readonly call: string; readonly tool: string; readonly recorded: boolean }[] = []
  const recorded = new Set<string>()
  const world = attemptWorld({
    ...scenario,
    call: async (tool, args, call) => {
      calls.push({ call, tool, recorded: recorded.has(call) })
      return scenario.tool(tool, JSON.stringify(args))
    },
  })
  // The job is made by a process that lives on, as its application sees it; the one that drives it dies.
  const maker = world.start(null)
  await maker.attempts.close()
  const jobId = await (scenario.begin?.(world, maker) ?? world.create(maker))
  calls.length = 0
  const first = world.start(killAt)
  let process = first
  const watch = async (): Promise<void> => {
    const events = await world.events(jobId)
    for (const event of events)
      if (event.type === 'toolReturned') recorded.add(`${event.runId} ${event.data.result.callId}`)
    if (process.isDead()) process = world.start(null)
    await scenario.people(maker, events)
  }
  const events = await world.until(jobId, (job) => job.status === 'finished', watch)
  await process.attempts.close()
  expect(firstBroken(jobId, events)).toBeUndefined()
  expect(calls.filter((call) => call.recorded)).toEqual([])
  for (const { call, tool } of calls)
    if (scenario.once?.has(tool) === true)
      expect(calls.filter((one) => one.call === call).length, call).toBeLessThanOrEqual(1 + retriesOf(events, call))
  expect(first.isDead()).toBe(killAt !== null)
  const answers = scenario.answersOf?.(events) ?? answersOf({ log: events })
  return { answers, appends: first.appends() }
}
