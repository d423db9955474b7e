/** Calls that are made once, from end to end on fakes: recorded before they are made, and in doubt when what made them is gone. */
import { afterEach, describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import { callKeyOf } from '../../schema/effect.ts'
import type { JobEvent } from '../../schema/event.ts'
import { hashOf, sha256 } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import { outcomeQuestionOf, outcomeResult } from '../../schema/outcome.ts'
import { rootRunId } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { partsOf } from '../fake/scripted-model.ts'
import { anApplication } from '../job/given.ts'
import { files, human, JOB, LEAD, team, TOOLS } from '../run/team.ts'
import { keepUntilEnd, begin as startWorld, endAll, ofType, type Process, type Scenario } from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

const skills = { files: { ...files, effects: { write: 'once' } }, human } as const
const write = { name: 'files/write', args: { path: 'a' } }

afterEach(endAll)

const turnOf: Scenario['turnOf'] = ({ stepNumber }) =>
  stepNumber === 1 ? { text: 'on', calls: [write, { name: 'files/read', args: {} }] } : { text: 'done' }

function begin(given: Partial<Scenario> = {}) {
  return startWorld({ lock: lockOf(lockedExpert('top', { skills })), turnOf, ...given })
}

async function answer({ jobs }: Process, events: readonly JobEvent[], value: Json) {
  const asked = ofType(events, 'questionAsked').at(-1)
  if (asked === undefined) throw new Error('nothing was asked')
  const { id: questionId, argsHash } = asked.data.question
  return await jobs.continue(anApplication, {
    jobId: asked.jobId,
    query: null,
    answer: { questionId, value, argsHash },
    maxSteps: null,
    idempotencyKey: null,
  })
}

describe('a call that is made once', () => {
  it('is in the log before it is made, with its arguments (K1)', async () => {
    const seen: string[][] = []
    const { world, process } = begin({
      call: async (tool) => {
        const all = await world.events(jobId)
        if (tool === 'write') seen.push(all.map((event) => event.type))
        return 'written'
      },
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(seen).toHaveLength(1)
    expect(seen[0]).toContain('callStarted')
    const [started] = ofType(events, 'callStarted')
    expect(started?.data).toEqual({ callId: 'call_1_0', effect: 'once', argsHash: hashOf(write.args) })
    expect(ofType(events, 'callStarted')).toHaveLength(1)
    expect(ofType(events, 'questionAsked')).toEqual([])
  })

  it('whose machine died is not made again: the job waits, and its human says that it is done', async () => {
    const hang = new Promise<string>(() => {})
    const calls: string[] = []
    const { world, process } = begin({
      call: (tool) => {
        calls.push(tool)
        return tool === 'write' ? hang : Promise.resolve('read')
      },
    })
    const jobId = await world.create(process)
    await world.until(jobId, (_job, all) => ofType(all, 'callStarted').length === 1)
    process.die()
    const next = world.start()
    keepUntilEnd(next)
    const waiting = await world.until(jobId, (job) => job.status === 'waiting')
    const [asked] = ofType(waiting, 'questionAsked')
    expect(asked?.data.question).toMatchObject({ purpose: 'outcome', kind: 'choose', toolName: 'files/write' })
    expect(await answer(next, waiting, 'maybe')).toMatchObject({ refused: 'answer_invalid' })
    expect(isRefusal(await answer(next, waiting, 'done'))).toBe(false)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(calls.filter((tool) => tool === 'write')).toHaveLength(1)
    const result = ofType(events, 'toolReturned').find((event) => event.data.result.name === 'files/write')
    expect(result?.data.result).toMatchObject({ isError: false, content: [{ text: expect.stringContaining('human') }] })
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' })
  })

  it('whose skill died in the middle is asked about on the same machine, made again when its human says so, and recorded again', async () => {
    let count = 0
    const { world, process } = begin({
      call: async (tool) => {
        if (tool !== 'write') return 'read'
        count += 1
        if (count === 1) throw new Error('the skill fell')
        return 'written'
      },
    })
    const jobId = await world.create(process)
    const waiting = await world.until(jobId, (job) => job.status === 'waiting')
    expect(ofType(waiting, 'skillFailed')).toHaveLength(1)
    await answer(process, waiting, 'retry')
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(count).toBe(2)
    expect(ofType(events, 'callStarted')).toHaveLength(2)
    const result = ofType(events, 'toolReturned').find((event) => event.data.result.name === 'files/write')
    expect(result?.data.result).toMatchObject({ isError: false, content: [{ text: 'written' }] })
  })

  it('that is abandoned is an error that the model reads', async () => {
    const { world, process } = begin({
      call: async (tool) => {
        if (tool === 'write') throw new Error('the skill fell')
        return 'read'
      },
    })
    const jobId = await world.create(process)
    const waiting = await world.until(jobId, (job) => job.status === 'waiting')
    await answer(process, waiting, 'abandon')
    const events = await world.until(jobId, (job) => job.status === 'finished')
    const result = ofType(events, 'toolReturned').find((event) => event.data.result.name === 'files/write')
    expect(result?.data.result).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('unknown') }],
    })
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' })
  })

  it('survives the death of the server at every append, made once each time', async () => {
    const survived = await survivesCrashAtEveryAppend({
      lock: lockOf(lockedExpert('top', { skills })),
      turnOf,
      tool: (tool) => `${tool} done`,
      once: new Set(['write']),
      people: async (process, events) => {
        if (ofType(events, 'questionAsked').length > ofType(events, 'answered').length)
          await answer(process, events, 'retry')
      },
    })
    expect(survived).toBeGreaterThan(10)
  }, 60_000)
})

describe('the judge of a call that is made once', () => {
  const lock = team({ skills })
  const root = rootRunId(JOB, 0)
  const place = { runId: root, expertKey: LEAD, stepNumber: 1 }
  const parts = partsOf({ text: 'on', calls: [write, write] }, 1)
  const partAt = (i: number): ToolCallPart => parts[i + 1] as ToolCallPart // after the text
  const returned = (isError: boolean, i = 0) => {
    const { callId, name } = partAt(i)
    const result = { type: 'toolResult', callId, name, content: [], isError } as const
    return { type: 'toolReturned', data: { result, durationMs: 0 }, ...place } as const
  }
  const leave = (i = 0, jobId = JOB) => ({
    expertKey: LEAD,
    toolName: 'files/write',
    argsHash: hashOf(write.args),
    callKey: callKeyOf(jobId, root, partAt(i).callId),
  })
  const nowhere = { runId: null, expertKey: null, stepNumber: null }
  const granted = { type: 'leaseGranted', data: { fence: 2, holder: 'next' }, ...nowhere } as const
  const asking = (retries = 0) => {
    const question = outcomeQuestionOf(JOB, root, partAt(0), retries)
    return { type: 'questionAsked', data: { question }, ...place } as const
  }
  const answered = (value: string, retries = 0) =>
    ({ type: 'answered', data: { questionId: asking(retries).data.question.id, value }, ...nowhere }) as const
  const said = (value: string) => {
    const result = outcomeResult(partAt(0), value)
    if (result === undefined) throw new Error(`${value} has no result`)
    return { type: 'toolReturned', data: { result, durationMs: 0 }, ...place } as const
  }

  function judge(): Admission {
    const admission = new Admission(JOB, lock)
    const start = { query: 'q', parent: null, continues: null, depth: 0 }
    admission.take({ type: 'runStarted', data: start, ...place, stepNumber: 0 })
    admission.take({ type: 'toolsListed', data: { skill: 'files', tools: TOOLS }, ...place, stepNumber: 0 })
    const data = { parts, usage: noUsage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 0 }
    admission.take({ type: 'generated', data, ...place })
    return admission
  }

  it('gives leave once, for the call that the key names, and has the start recorded first (A10)', () => {
    const admission = judge()
    const starts: unknown[] = []
    const { callKey: _key, ...keyless } = leave()
    expect(admission.refuseCall(keyless)).toBeTypeOf('string')
    expect(admission.refuseCall({ ...leave(), callKey: sha256('another') })).toBeTypeOf('string')
    expect(admission.refuseCall(leave(1), (fact) => starts.push(fact))).toBeUndefined()
    expect(starts).toMatchObject([{ type: 'callStarted', data: { callId: partAt(1).callId, effect: 'once' } }])
    expect(admission.refuseCall(leave(1))).toBeTypeOf('string')
    expect(admission.refuseCall(leave(0))).toBeUndefined()
    expect(admission.refuseCall(leave(0))).toBeTypeOf('string')
  })

  it('takes no success of a call that was not started (A10)', () => {
    const admission = judge()
    expect(admission.admit(returned(false))).toContain('was not started')
    expect(admission.admit(returned(true))).toBeUndefined()
  })

  it('takes no result of a call whose machine is gone but what its human says (A10)', () => {
    for (const value of ['done', 'abandon']) {
      const admission = judge()
      admission.refuseCall(leave())
      admission.take(granted)
      for (const isError of [false, true]) expect(admission.admit(returned(isError))).toContain('unknown')
      expect(admission.refuseCall(leave())).toBeTypeOf('string')
      expect(admission.admit(asking(1))).toBeTypeOf('string')
      expect(admission.admit(asking())).toBeUndefined()
      expect(admission.admit(asking())).toContain('has been asked')
      for (const isError of [false, true]) expect(admission.admit(returned(isError))).toBeTypeOf('string')
      admission.take(answered(value))
      expect(admission.admit(said(value === 'done' ? 'abandon' : 'done'))).toBeTypeOf('string')
      expect(admission.refuseCall(leave())).toBeTypeOf('string')
      expect(admission.admit(said(value))).toBeUndefined()
    }
  })

  it('gives leave again for each retry of a human, once, and asks anew when that is lost too (A10)', () => {
    const admission = judge()
    admission.refuseCall(leave())
    admission.take(granted)
    admission.admit(asking())
    admission.take(answered('retry'))
    expect(admission.admit(returned(false))).toContain('was not started')
    expect(admission.refuseCall(leave())).toBeUndefined()
    expect(admission.refuseCall(leave())).toBeTypeOf('string')
    admission.take(granted)
    expect(admission.admit(returned(false))).toContain('unknown')
    expect(admission.admit(asking(1))).toBeUndefined()
    admission.take(answered('done', 1))
    expect(admission.admit(said('done'))).toBeUndefined()
  })

  it('lets nobody ask about a call that was not started, or that may be made again (A10)', () => {
    expect(judge().admit(asking())).toContain('was not started')
    const free = new Admission(JOB, team())
    for (const fact of [granted]) free.take(fact)
    expect(free.admit(asking())).toBeTypeOf('string')
  })

  it('knows calls of a fork by the fork’s own keys (A10)', () => {
    const other = new Admission(JOB, lock, JOB.replace(/.$/, 'z') as typeof JOB)
    expect(other.refuseCall(leave())).toBeTypeOf('string')
  })
})
