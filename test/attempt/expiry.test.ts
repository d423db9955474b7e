/** Questions whose time runs out, from end to end on fakes: over restarts, with several processes, against a hostile machine. */
import { afterEach, describe, expect, it } from 'vitest'
import { sha256 } from '../../schema/hash.ts'
import type { Lock } from '../../schema/lock.ts'
import { questionOf, rootRunId } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { openDeadlines } from '../../src/job/deadlines.ts'
import { openLog } from '../../src/log.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { partsOf, type ScriptedCall } from '../fake/scripted-model.ts'
import { files, human, JOB, LEAD, team } from '../run/team.ts'
import { attemptWorld, ofType, type Process } from './attempt-world.ts'

const DAY_MS = 24 * 3600 * 1000
const rule = { tool: 'files/write', args: {}, edits: false, timeoutSeconds: DAY_MS / 1000 }
const write = { name: 'files/write', args: { path: 'x' } }
const pick = { name: 'human/choose', args: { options: ['a', 'b'] } }

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
})

function worldOf(lock: Lock, calls: readonly ScriptedCall[], held: Promise<void> = Promise.resolve()) {
  const made: string[] = []
  const world = attemptWorld({
    lock,
    turnOf: ({ stepNumber }) => (stepNumber === 1 ? { text: 'on', calls } : { text: 'done' }),
    call: async (tool) => {
      made.push(tool)
      await held
      return 'made'
    },
  })
  const start = (): Process => {
    const process = world.start()
    open.push(process.attempts)
    return process
  }
  const watch = ({ jobs }: Process) => {
    const log = openLog(
      (line) => world.lines.push(line),
      () => world.clock.now(),
    )
    open.push(openDeadlines({ jobs, clock: world.clock, log }))
  }
  return { world, made, start, watch }
}

describe('a question whose time runs out', () => {
  it('while no process runs is closed by the next one: the covered call is denied, and the job goes on', async () => {
    const { world, made, start, watch } = worldOf(
      lockOf(lockedExpert('top', { skills: { files }, approvals: [rule] })),
      [write],
    )
    const first = start()
    const jobId = await world.create(first)
    await world.until(jobId, (job) => job.status === 'waiting')
    await first.attempts.close()
    await world.clock.advance(DAY_MS * 30)
    watch(start())
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(ofType(events, 'questionExpired')).toHaveLength(1)
    const [denied] = ofType(events, 'toolReturned')
    expect(denied?.data.result).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('in time') }],
    })
    expect(made).toEqual([])
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' })
  })

  it('is closed once by many processes that look at the same moment', async () => {
    const { world, start, watch } = worldOf(lockOf(lockedExpert('top', { skills: { human } })), [pick])
    const first = start()
    const jobId = await world.create(first)
    await world.until(jobId, (job) => job.status === 'waiting')
    for (let i = 0; i < 4; i++) watch(start())
    await world.clock.advance(60_000)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(ofType(events, 'questionExpired')).toHaveLength(1)
    const [result] = ofType(events, 'toolReturned')
    expect(result?.data.result).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('No answer') }],
    })
  })

  it('while the machine works on is heard by that machine at once', async () => {
    const held = Promise.withResolvers<void>()
    const lock = lockOf(lockedExpert('top', { skills: { files, human } }))
    const { world, start, watch } = worldOf(lock, [pick, { name: 'files/read', args: {} }], held.promise)
    const process = start()
    watch(process)
    const jobId = await world.create(process)
    await world.until(jobId, (_job, events) => ofType(events, 'questionAsked').length > 0)
    await world.clock.advance(62_000)
    // The other call is still under way.
    const events = await world.until(jobId, (_job, all) => ofType(all, 'toolReturned').length > 0)
    expect(ofType(events, 'toolReturned')[0]?.data.result).toMatchObject({ name: pick.name, isError: true })
    held.resolve()
    await world.until(jobId, (job) => job.status === 'finished')
  })
})

describe('the judge of a job whose question', () => {
  const root = rootRunId(JOB, 0)
  const place = { runId: root, expertKey: LEAD, stepNumber: 1 }
  const parts = partsOf({ text: 'on', calls: [pick] }, 1)
  const call = parts[1] as Extract<(typeof parts)[number], { type: 'toolCall' }>
  const lock = team()
  const tool = human.tools['choose']
  const question = tool === undefined ? undefined : questionOf(JOB, root, call, tool)
  const asked = { type: 'questionAsked', data: { question }, ...place } as never
  const nowhere = { runId: null, expertKey: null, stepNumber: null }
  const returned = (isError: boolean, structured?: string) => {
    const { callId, name } = call
    const result = { type: 'toolResult', callId, name, content: [], isError, ...(structured && { structured }) }
    return { type: 'toolReturned', data: { result, durationMs: 0 }, ...place } as never
  }
  function judge(): Admission {
    const admission = new Admission(JOB, lock)
    const start = { query: 'q', parent: null, continues: null, depth: 0 }
    admission.take({ type: 'runStarted', data: start, ...place, stepNumber: 0 })
    const data = { parts, usage: noUsage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 0 }
    admission.take({ type: 'generated', data, ...place })
    expect(admission.admit(asked)).toBeUndefined()
    return admission
  }
  const closed = (fact: object) => ({ ...fact, ...nowhere }) as never

  it('is open lets no machine say that its time is over (A3)', () => {
    expect(judge().admit(returned(true))).toBeTypeOf('string')
  })

  it('has expired takes an error and no answer (A3)', () => {
    const admission = judge()
    admission.take(closed({ type: 'questionExpired', data: { questionId: question?.id } }))
    expect(admission.admit(returned(false, 'a'))).toBeTypeOf('string')
    expect(admission.admit(returned(true))).toBeUndefined()
  })

  it('was answered takes no error in place of the answer (A3)', () => {
    const admission = judge()
    admission.take(closed({ type: 'answered', data: { questionId: question?.id, value: 'a' } }))
    expect(admission.admit(returned(true))).toBeTypeOf('string')
    expect(admission.admit(returned(false, 'a'))).toBeUndefined()
  })
})
