/** Approvals from end to end on fakes: from any depth, across restarts and months, and against a hostile machine. */
import { afterEach, describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import { hashOf } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { partsOf, type Turn } from '../fake/scripted-model.ts'
import { anApplication } from '../job/given.ts'
import { JOB, LEAD, TOOLS, files, human, team } from '../run/team.ts'
import { rootRunId, delegateRunId, approvalQuestionOf } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { sha256 } from '../../schema/hash.ts'
import { keepUntilEnd, attemptWorld, endAll, ofType, type Process, type Scenario } from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

const MONTH_MS = 30 * 24 * 3600 * 1000
const writes = { tool: 'files/write', args: { path: '/etc/*' }, edits: true }
const push = { name: 'files/write', args: { path: '/etc/passwd' } }

afterEach(endAll)

/** coordinator → middle → deep; only the last has the rule. */
function threeLevels(): Lock {
  const deep = lockedExpert('deep', { skills: { files, human }, approvals: [writes] })
  const middle = lockedExpert('middle', { delegates: { deep: deep.key } })
  const top = lockedExpert('top', { skills: { files }, delegates: { middle: middle.key } })
  return lockOf(top, middle, deep)
}

const script: Readonly<Record<string, Turn>> = {
  'top 1': {
    text: 'on',
    calls: [
      { name: 'delegate/middle', args: { query: 'go deeper' } },
      { name: 'files/read', args: { path: 'a' } },
    ],
  },
  'middle 1': { text: 'on', calls: [{ name: 'delegate/deep', args: { query: 'write it' } }] },
  'deep 1': { text: 'on', calls: [push, { name: 'files/write', args: { path: 'here' } }] },
  'deep 2': { text: 'deep has written' },
}
const turnOf: Scenario['turnOf'] = ({ expert, stepNumber }) =>
  script[`${expert.name} ${stepNumber}`] ?? { text: `${expert.name} is done` }

async function answer({ jobs }: Process, events: readonly JobEvent[], value: Json, argsHash?: string) {
  const asked = ofType(events, 'questionAsked').at(-1)
  if (asked === undefined) throw new Error('nothing was asked')
  const { id: questionId, argsHash: own } = asked.data.question
  return await jobs.continue(anApplication, {
    jobId: asked.jobId,
    query: null,
    answer: { questionId, value, argsHash: (argsHash ?? own) as typeof own },
    maxSteps: null,
    idempotencyKey: null,
  })
}

function begin(given: Partial<Scenario> = {}) {
  const calls: string[] = []
  const world = attemptWorld({
    lock: threeLevels(),
    turnOf,
    call: async (tool, args) => {
      calls.push(`${tool} ${JSON.stringify(args)}`)
      return 'done'
    },
    ...given,
  })
  const process = world.start()
  keepUntilEnd(process)
  return { world, process, calls }
}

async function untilAsked(given: Partial<Scenario> = {}) {
  const { world, process, calls } = begin(given)
  const jobId = await world.create(process)
  const events = await world.until(jobId, (job) => job.status === 'waiting')
  return { world, process, calls, jobId, events }
}

describe('an approval', () => {
  it('is asked for from three levels down while all else goes on, and is answered a month and a restart later', async () => {
    const { world, process, calls, jobId, events } = await untilAsked()
    expect(calls.toSorted()).toEqual(['read {"path":"a"}', 'write {"path":"here"}'])
    const [asked] = ofType(events, 'questionAsked')
    expect(asked?.expertKey).toBe('deep@1.0.0')
    expect(asked?.data.question).toMatchObject({ kind: 'confirm', toolName: 'files/write', args: push.args })
    await process.attempts.close()
    await world.clock.advance(MONTH_MS)
    const next = world.start()
    keepUntilEnd(next)
    expect(isRefusal(await answer(next, events, true))).toBe(false)
    const all = await world.until(jobId, (job) => job.status === 'finished')
    expect(all.at(-1)).toMatchObject({ data: { outcome: 'completed', result: 'top is done' } })
    expect(calls.toSorted()).toEqual([
      'read {"path":"a"}',
      `write ${JSON.stringify(push.args)}`,
      'write {"path":"here"}',
    ])
    expect(world.clock.now() - (events[0]?.at ?? 0)).toBeGreaterThanOrEqual(MONTH_MS)
  })

  it('that is denied makes no call, and the model reads that it was', async () => {
    const { world, process, calls, jobId, events } = await untilAsked()
    await answer(process, events, false)
    const all = await world.until(jobId, (job) => job.status === 'finished')
    expect(calls).toHaveLength(2)
    const denied = ofType(all, 'toolReturned').find((event) => event.data.result.isError)
    expect(denied?.data.result.content[0]).toMatchObject({ text: expect.stringContaining('did not approve') })
  })

  it('with other arguments is in the log before the call is made with them, and the model reads them', async () => {
    const { world, process, calls, jobId, events } = await untilAsked()
    await answer(process, events, { approved: true, args: { path: 'safe' } })
    const all = await world.until(jobId, (job) => job.status === 'finished')
    expect(calls).toContain('write {"path":"safe"}')
    expect(calls).not.toContain(`write ${JSON.stringify(push.args)}`)
    const at = (type: string) => all.findLastIndex((event) => event.type === type)
    expect(all[at('answered')]?.data).toMatchObject({ value: { args: { path: 'safe' } } })
    const result = ofType(all.slice(at('answered')), 'toolReturned')[0]?.data.result
    expect(result?.content[0]).toMatchObject({ text: expect.stringContaining('"safe"') })
  })

  it('takes no answer about other arguments, no edit where none is allowed, and no second answer', async () => {
    const { process, events } = await untilAsked()
    expect(await answer(process, events, true, hashOf({ path: 'x' }))).toMatchObject({ refused: 'args_hash_mismatch' })
    for (const value of ['yes', null, { approved: true }, { approved: true, args: 'x' }, { approved: false, args: {} }])
      expect(await answer(process, events, value)).toMatchObject({ refused: 'answer_invalid' })
    expect(isRefusal(await answer(process, events, false))).toBe(false)
    expect(isRefusal(await answer(process, events, true))).toBe(true)
    const strict = lockOf(lockedExpert('top', { skills: { files }, approvals: [{ ...writes, edits: false }] }))
    const other = await untilAsked({ lock: strict, turnOf: () => ({ text: 'on', calls: [push] }) })
    const edited = { approved: true, args: { path: 'safe' } }
    expect(await answer(other.process, other.events, edited)).toMatchObject({ refused: 'answer_invalid' })
  })

  it('is asked once and applied once, whichever append the server dies at', async () => {
    const survived = await survivesCrashAtEveryAppend({
      lock: threeLevels(),
      turnOf,
      tool: (tool, args) => `${tool} ${args}`,
      people: async (process, events) => {
        if (ofType(events, 'questionAsked').length > ofType(events, 'answered').length)
          await answer(process, events, true)
      },
    })
    expect(survived).toBeGreaterThan(20)
  }, 60_000)
})

describe('the judge of a guarded job', () => {
  const lock = team({ approvals: [writes, { tool: 'delegate/reader', args: {}, edits: true }] })
  const root = rootRunId(JOB, 0)
  const place = { runId: root, expertKey: LEAD, stepNumber: 1 }
  const calls = [push, { name: 'delegate/reader', args: { query: 'look' } }, { name: 'files/hidden', args: {} }]
  const parts = partsOf({ text: 'on', calls }, 1)
  const partAt = (i: number): ToolCallPart => parts[i + 1] as ToolCallPart // after the text
  const returned = (i: number, isError: boolean) => {
    const { callId, name } = partAt(i)
    const result = { type: 'toolResult', callId, name, content: [], isError } as const
    return { type: 'toolReturned', data: { result, durationMs: 0 }, ...place } as const
  }
  const asking = (i: number, edits: boolean) => {
    const question = approvalQuestionOf(JOB, root, partAt(i), { edits })
    return { type: 'questionAsked', data: { question }, ...place } as const
  }
  const answered = (i: number, value: Json) => {
    const { question } = asking(i, i === 0).data
    const data = { questionId: question.id, value }
    return { type: 'answered', data, runId: null, expertKey: null, stepNumber: null } as const
  }
  const leave = (args: Json) => ({ expertKey: LEAD, toolName: 'files/write', argsHash: hashOf(args as object) })
  const delegated = (query: string) =>
    ({
      type: 'runStarted',
      data: { query, parent: { runId: root, callId: partAt(1).callId }, continues: null, depth: 1 },
      runId: delegateRunId(JOB, root, partAt(1).callId),
      expertKey: 'reader@1.0.0',
      stepNumber: 0,
    }) as const

  function judge(): Admission {
    const admission = new Admission(JOB, lock)
    const start = { query: 'q', parent: null, continues: null, depth: 0 }
    admission.take({ type: 'runStarted', data: start, ...place, stepNumber: 0 })
    admission.take({ type: 'toolsListed', data: { skill: 'files', tools: TOOLS }, ...place, stepNumber: 0 })
    const data = { parts, usage: noUsage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 0 }
    admission.take({ type: 'generated', data, ...place })
    return admission
  }

  it('takes neither a result nor a failure of a call that no human approved (A7)', () => {
    const admission = judge()
    for (const isError of [false, true]) expect(admission.admit(returned(0, isError))).toContain('was not approved')
    admission.take(asking(0, true))
    for (const isError of [false, true]) expect(admission.admit(returned(0, isError))).toContain('was not approved')
    expect(admission.refuseCall(leave(push.args))).toBeTypeOf('string')
    admission.take(answered(0, false))
    expect(admission.refuseCall(leave(push.args))).toBeTypeOf('string')
    expect(admission.admit(returned(0, false))).toContain('was not approved')
    expect(admission.admit(returned(0, true))).toBeUndefined()
  })

  it('gives leave for the approved arguments, once, and for no others (A7)', () => {
    const admission = judge()
    admission.take(asking(0, true))
    admission.take(answered(0, { approved: true, args: { path: 'safe' } }))
    expect(admission.refuseCall(leave(push.args))).toBeTypeOf('string')
    expect(admission.refuseCall({ ...leave({ path: 'safe' }), expertKey: 'reader@1.0.0' })).toBeTypeOf('string')
    expect(admission.refuseCall({ ...leave({ path: 'safe' }), toolName: 'files/read' })).toBeTypeOf('string')
    expect(admission.refuseCall(leave({ path: 'safe' }))).toBeUndefined()
    expect(admission.refuseCall(leave({ path: 'safe' }))).toBeTypeOf('string')
    expect(admission.admit(returned(0, false))).toBeUndefined()
  })

  it('gives no leave for a call whose result is in (A7)', () => {
    const admission = judge()
    admission.take(asking(0, true))
    admission.take(answered(0, true))
    expect(admission.admit(returned(0, false))).toBeUndefined()
    expect(admission.refuseCall(leave(push.args))).toBeTypeOf('string')
  })

  it('starts no delegate before it is approved, and lets nobody edit its query (A7)', () => {
    const admission = judge()
    expect(admission.admit(delegated('look'))).toBeTypeOf('string')
    expect(admission.admit(returned(1, true))).toContain('was not approved')
    expect(admission.admit(asking(1, true))).toBeTypeOf('string')
    expect(admission.admit(asking(1, false))).toBeUndefined()
    admission.take(answered(1, true))
    expect(admission.admit(delegated('something else'))).toBeTypeOf('string')
    expect(admission.admit(delegated('look'))).toBeUndefined()
  })

  it('lets a call fail that aims at nothing, unasked', () => {
    const hidden = new Admission(JOB, team({ approvals: [{ tool: '*', args: {}, edits: false }] }))
    const admission = judge()
    expect(admission.admit(returned(2, true))).toBeUndefined()
    expect(hidden.admit(returned(2, true))).toBeTypeOf('string')
  })
})

describe('a machine that calls without asking', () => {
  it('is refused the call, and is ended when it goes on', async () => {
    const replies: unknown[] = []
    const params = { expertKey: 'top@1.0.0', toolName: 'files/write', argsHash: hashOf(push.args) }
    const { world, process } = begin({
      run: async (lines, say) => {
        await lines.next()
        for (let id = 1; ; id++) {
          say({ type: 'request', id, method: 'permit', params })
          const next = await lines.next()
          if (next.done === true) return
          if (next.value.type === 'reply') replies.push(next.value)
        }
      },
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(replies[0]).toMatchObject({ ok: false, error: { code: 'protocol_breach' } })
    expect(ofType(events, 'leaseExpired')[0]?.data.reason).toBe('protocol_breach')
  })
})
