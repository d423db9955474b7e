/** What a machine may propose: everything honest, and of the dishonest nothing that another word would make so. */
import { describe, expect, it } from 'vitest'
import { BASE_TOOL_NAMES } from '../../schema/base-tool.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import { parseMachineLine } from '../../schema/control-line.ts'
import { isLineFault } from '../../schema/lines.ts'
import { RUN_FACT_TYPES, type Place, type RunFact } from '../../schema/event.ts'
import { deriveId } from '../../schema/id.ts'
import { sha256 } from '../../schema/hash.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { delegateRunId } from '../../schema/question.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { jobFact, simulate } from '../run/simulation.ts'
import { JOB, LEAD, team } from '../run/team.ts'

type Proposal = RunFact & Place

const lock = team({ base: { tools: BASE_TOOL_NAMES, rule: null } })
const { log } = simulate(
  {
    lock,
    maxSteps: 20,
    turnOf: (_run, step, depth) => {
      if (depth === 1) return { text: 'looked' }
      if (step === 2) return { text: 'on', calls: [{ name: 'base/todo', args: { newTodos: ['one'] } }] }
      if (step > 2)
        return {
          text: 'not the result',
          calls: [
            { name: 'base/todo', args: { completedTodos: [0] } },
            { name: 'base/attemptCompletion', args: { result: 'the result' } },
          ],
        }
      return {
        text: 'on',
        calls: [
          { name: 'files/read', args: { path: 'a' } },
          { name: 'delegate/reader', args: { query: 'look' } },
          { name: 'human/approve', args: { change: 'x' } },
        ],
      }
    },
  },
  { choose: () => 0, killAt: null },
)

function isProposal(fact: PlacedFact): fact is PlacedFact & Proposal {
  return RUN_FACT_TYPES.has(fact.type)
}

/** The judge as it stands before the fact at `at`. */
function before(at: number): Admission {
  const admission = new Admission(JOB, lock)
  for (const fact of log.slice(0, at)) admission.take(fact)
  return admission
}

const proposals = log.flatMap((fact, at) => (isProposal(fact) ? [{ fact, at }] : []))

/** Every value within a fact, once with another in its place: what a lie about it would look like. */
function lies(value: Json, name = ''): readonly Json[] {
  if (Array.isArray(value)) return value.flatMap((item, i) => lies(item, name).map((lie) => value.with(i, lie)))
  if (FREE.has(name)) return []
  if (isJsonObject(value))
    return Object.entries(value).flatMap(([key, member]) => lies(member, key).map((lie) => ({ ...value, [key]: lie })))
  if (typeof value === 'number') return [value + 1]
  if (typeof value === 'boolean') return [!value]
  if (typeof value === 'string') return [`${value} and more`]
  return [deriveId('run', 'a lie')]
}

/** What a runner knows and the log cannot: the words of tools and of failures, durations, hashes of what it computed. */
const FREE = new Set([
  'text',
  'durationMs',
  'stateHash',
  'message',
  'description',
  'tools',
  'reason',
  'name',
  'content',
])

describe('the admission', () => {
  it('admits every fact of an honest job', () => {
    expect(new Set(proposals.map(({ fact }) => fact.type)).size).toBeGreaterThan(5)
    for (const { fact, at } of proposals) expect(before(at).admit(fact)).toBeUndefined()
  })

  it('refuses every fact that comes a second time (A2)', () => {
    for (const { fact, at } of proposals) {
      const admission = before(at)
      admission.admit(fact)
      if (fact.type !== 'skillFailed') expect(admission.admit(fact), fact.type).toBeTypeOf('string')
    }
  })

  it('refuses every fact before its time', () => {
    for (const { fact, at } of proposals.slice(1)) {
      const earlier = log.slice(0, at).findLastIndex((one) => one.runId === fact.runId || one.type === 'answered')
      if (fact.type === 'toolsListed' || fact.type === 'toolReturned' || fact.type === 'questionAsked') continue
      expect(before(earlier).admit(fact), fact.type).toBeTypeOf('string')
    }
  })

  it('refuses every fact with one word changed (A1, A3, A4, A5)', () => {
    let count = 0
    for (const { fact, at } of proposals)
      for (const lie of lies(JSON.parse(JSON.stringify(fact)) as Json)) {
        // The parser at the door refuses some, the admission the rest.
        const line = parseMachineLine(JSON.stringify({ type: 'event', event: lie }))
        count += 1
        if (isLineFault(line) || line.type !== 'event') continue
        const told = line.event
        // That a call failed is for the runner to say, of whatever it called.
        if (told.type === 'toolReturned' && told.data.result.isError) continue
        expect(before(at).admit(told), JSON.stringify([fact, told])).toBeTypeOf('string')
      }
    expect(count).toBeGreaterThan(60)
  })

  it('refuses a result under another tool’s name (A2)', () => {
    const found = proposals.find(({ fact }) => fact.type === 'toolReturned' && fact.data.result.name === 'files/read')
    if (found?.fact.type !== 'toolReturned') throw new Error('no such fact')
    const { fact, at } = found
    const result = { ...fact.data.result, name: 'files/write' }
    expect(before(at).admit({ ...fact, data: { ...fact.data, result } })).toContain('is of files/read')
  })

  it('refuses the result of a delegate that is still at work, or that failed', () => {
    const found = proposals.find(
      ({ fact }) => fact.type === 'toolReturned' && fact.data.result.name === 'delegate/reader',
    )
    if (found?.fact.type !== 'toolReturned') throw new Error('no such fact')
    const ended = log.findIndex((fact) => fact.type === 'runFinished' && fact.expertKey !== LEAD)
    const end = log[ended]
    if (end?.type !== 'runFinished') throw new Error('no such fact')
    expect(before(ended).admit(found.fact)).toContain('has not completed')
    const admission = before(ended)
    const failed = { ...end.data, outcome: 'failed', reason: 'model_overloaded' } as const
    admission.take({ ...end, data: failed })
    expect(admission.admit(found.fact)).toContain('has not completed')
  })

  it('refuses a delegate below the limit of depth, whose caller is as deep as can be (A5)', () => {
    const again = { text: 'on', calls: [{ name: 'delegate/again', args: { query: 'again' } }] }
    const deep = simulate({ lock, maxSteps: null, turnOf: () => again }, { choose: () => 0, killAt: null })
    const last = deep.log.findLast((fact) => fact.type === 'generated')
    if (last?.type !== 'generated' || last.runId === null) throw new Error('no such fact')
    const admission = new Admission(JOB, lock)
    for (const fact of deep.log.slice(0, deep.log.indexOf(last) + 1)) admission.take(fact)
    const [call] = last.data.parts.filter((part) => part.type === 'toolCall')
    if (call === undefined) throw new Error('no such call')
    const data = { query: 'again', parent: { runId: last.runId, callId: call.callId }, continues: null }
    const place = { runId: delegateRunId(JOB, last.runId, call.callId), expertKey: LEAD, stepNumber: 0 }
    expect(admission.admit({ type: 'runStarted', data: { ...data, depth: 9 }, ...place })).toContain('is not what call')
  })

  it('refuses an answer that no human gave (A3)', () => {
    const asked = log.findIndex((fact) => fact.type === 'questionAsked')
    const found = proposals.find(
      ({ fact }) => fact.type === 'toolReturned' && fact.data.result.name === 'human/approve',
    )
    if (found?.fact.type !== 'toolReturned') throw new Error('no such fact')
    expect(before(asked + 1).admit(found.fact)).toContain('has no answer')
    expect(before(asked).admit(found.fact)).toContain('has not been asked')
  })

  it('lets a base tool return what follows from the model’s words, and nothing else (A9)', () => {
    const returned = proposals.filter(
      ({ fact }) => fact.type === 'toolReturned' && fact.data.result.name.startsWith('base/'),
    )
    expect(returned).toHaveLength(3)
    for (const { fact, at } of returned) {
      if (fact.type !== 'toolReturned') continue
      const forged = [
        { ...fact.data.result, content: [{ type: 'text', text: '{"todos":[]}' }] as const },
        { ...fact.data.result, structured: { todos: [] } },
        { ...fact.data.result, isError: true },
      ]
      for (const result of forged)
        expect(before(at).admit({ ...fact, data: { ...fact.data, result } })).toContain('is not what base/')
    }
  })

  it('lets a run complete with the result that its model attempted, and with no other text (A4)', () => {
    const found = proposals.find(({ fact }) => fact.type === 'runFinished' && fact.data.result === 'the result')
    if (found?.fact.type !== 'runFinished') throw new Error('no such fact')
    const { fact, at } = found
    const data = { ...fact.data, result: 'not the result' }
    expect(before(at).admit({ ...fact, data })).toContain('completes with the text')
    expect(before(at).admit(fact)).toBeUndefined()
  })

  it('refuses a generation out of turn, of another expert, or beyond the steps (A6)', () => {
    const params = { promptHash: sha256(''), messageCount: 1 }
    const at = log.findIndex((fact) => fact.type === 'generated')
    const runId = log[at]?.runId
    if (runId === null || runId === undefined) throw new Error('no such run')
    const admission = before(at)
    expect(admission.refuseGenerate({ ...params, runId, expertKey: LEAD, stepNumber: 1 })).toBeUndefined()
    expect(admission.refuseGenerate({ ...params, runId, expertKey: LEAD, stepNumber: 2 })).toBeTypeOf('string')
    expect(admission.refuseGenerate({ ...params, runId, expertKey: 'x@1.0.0', stepNumber: 1 })).toBeTypeOf('string')
    expect(before(at + 1).refuseGenerate({ ...params, runId, expertKey: LEAD, stepNumber: 2 })).toBeTypeOf('string')
    admission.take({ ...log[0], type: 'jobContinued', data: { query: null, maxSteps: 0 } } as PlacedFact)
    expect(admission.refuseGenerate({ ...params, runId, expertKey: LEAD, stepNumber: 1 })).toContain('has used')
  })
})

describe('the admission of queries that were put while a job is open', () => {
  const put = (query: string, mode: 'queue' | 'interrupt' = 'queue') =>
    jobFact({ type: 'jobContinued', data: { query, maxSteps: null, mode } })
  const generated = log.findIndex((fact) => fact.type === 'generated')
  const delegated = log.findIndex((fact) => fact.type === 'runStarted' && fact.data.parent !== null)
  const root = log[generated]?.runId ?? null
  const place = { runId: root, expertKey: LEAD, stepNumber: 0 }
  const steered = (queries: readonly string[], at = place) =>
    ({ type: 'steered', data: { queries }, ...at }) as Proposal
  const asked = (at: number, ...facts: readonly PlacedFact[]): Admission => {
    const admission = before(at)
    for (const fact of facts) admission.take(fact)
    return admission
  }

  it('takes them in order, all or the first of them, and nothing else (A11)', () => {
    const two = [put('one'), put('two')]
    expect(asked(generated, ...two).admit(steered(['one', 'two']))).toBeUndefined()
    expect(asked(generated, ...two).admit(steered(['one']))).toBeUndefined()
    for (const lie of [['two'], ['two', 'one'], ['one', 'two', 'three'], ['three'], []])
      expect(asked(generated, ...two).admit(steered(lie)), lie.join()).toBeTypeOf('string')
    expect(asked(generated).admit(steered(['one']))).toBeTypeOf('string')
    const admission = asked(generated, put('one'))
    admission.admit(steered(['one']))
    expect(admission.admit(steered(['one']))).toBeTypeOf('string')
  })

  it('takes none in the middle of a step, during a generation, or in the run of a delegate (A11)', () => {
    expect(asked(generated + 1, put('one')).admit(steered(['one'], { ...place, stepNumber: 1 }))).toContain('at calls')
    const generating = asked(generated, put('one'))
    const params = { promptHash: sha256(''), messageCount: 1, runId: root as never, expertKey: LEAD, stepNumber: 1 }
    expect(generating.refuseGenerate(params)).toBeUndefined()
    expect(generating.admit(steered(['one']))).toContain('generates')
    const fact = log[delegated]
    const ofDelegate = { runId: fact?.runId ?? null, expertKey: fact?.expertKey ?? '', stepNumber: 0 }
    expect(asked(delegated + 1, put('one')).admit(steered(['one'], ofDelegate as typeof place))).toContain(
      'coordinator',
    )
  })

  it('lets a query that interrupts end delegates and calls, and only then', () => {
    const fact = log[delegated]
    const data = { outcome: 'canceled', reason: 'interrupted', message: null, result: null } as const
    const end = { type: 'runFinished', data, runId: fact?.runId, expertKey: fact?.expertKey, stepNumber: 0 } as Proposal
    expect(asked(delegated + 1).admit(end)).toBeTypeOf('string')
    expect(asked(delegated + 1, put('one')).admit(end)).toBeTypeOf('string')
    expect(asked(delegated + 1, put('one', 'interrupt')).admit(end)).toBeUndefined()
    const question = log.findIndex((one) => one.type === 'questionAsked')
    const { callId } = (log[question] as Extract<PlacedFact, { type: 'questionAsked' }>).data.question
    const result = { type: 'toolResult', callId, name: 'human/approve', content: [], isError: true } as const
    const returned = { type: 'toolReturned', data: { result, durationMs: 0 }, ...place, stepNumber: 1 } as Proposal
    expect(asked(question + 1).admit(returned)).toBeTypeOf('string')
    expect(asked(question + 1, put('one')).admit(returned)).toBeTypeOf('string')
    expect(asked(question + 1, put('one', 'interrupt')).admit(returned)).toBeUndefined()
    const honest = { ...result, isError: false, structured: true }
    const forged = {
      type: 'toolReturned',
      data: { result: honest, durationMs: 0 },
      ...place,
      stepNumber: 1,
    } as Proposal
    expect(asked(question + 1, put('one', 'interrupt')).admit(forged)).toBeTypeOf('string')
  })
})
