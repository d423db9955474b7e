/** Approvals in forks of random jobs: no call of a fork is made on the word that was given to its parent. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PlacedFact } from '../../schema/conversation.ts'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { makeId } from '../../schema/id.ts'
import { forkLog } from '../../src/job/forks.ts'
import { drawn, type ScriptedCall } from '../fake/scripted-model.ts'
import { jobFact, simulate, type Script, type World } from './simulation.ts'
import { JOB, team } from './team.ts'

const FORK = makeId(
  'job',
  2,
  Uint8Array.from({ length: 16 }, () => 7),
)
const AS_IT_WAS = { query: null, model: null, maxSteps: null, lockHash: sha256('a lock'), instructed: null }

const CALLS: readonly ScriptedCall[] = [
  { name: 'files/write', args: { path: 'a' } },
  { name: 'files/read', args: { path: 'a' } },
  { name: 'delegate/reader', args: { query: 'look' } },
  { name: 'delegate/again', args: { query: 'again' } },
]

/** Approved calls beside delegates that take steps of their own, so that checkpoints fall between a yes and its call. */
const script = (seed: number): Script => ({
  lock: team({
    approvals: [
      { tool: 'files/write', args: {}, edits: true },
      { tool: 'delegate/reader', args: {}, edits: false },
    ],
  }),
  maxSteps: null,
  turnOf(runId, stepNumber, depth) {
    if (stepNumber > 2 || depth > 1) return { text: 'done' }
    const count = 2 + drawn(3, seed, runId, stepNumber)
    const call = (i: number) => CALLS[drawn(CALLS.length, seed, runId, stepNumber, i)] ?? CALLS[0]
    return { text: 'on', calls: Array.from({ length: count }, (_, i) => call(i)).flatMap((one) => one ?? []) }
  },
})

const orders = fc.array(fc.nat(1000), { minLength: 1, maxLength: 40 }).map((stream) => (): World['choose'] => {
  let at = 0
  return (below) => (below === 0 ? 0 : (stream[at++ % stream.length] ?? 0) % below)
})

function recorded(facts: readonly PlacedFact[]): readonly JobEvent[] {
  const events = facts.map((fact) => ({ ...fact, v: 1 }) as NewEvent)
  return chain(JOB, 0, genesisHash(JOB), 1000, events)
}

/** The facts up to a checkpoint, with a human's yes just before it to everything that is being asked there. */
function approvedJustBefore(facts: readonly PlacedFact[], checkpoint: number) {
  const before = facts.slice(0, checkpoint)
  const answered = new Set(before.flatMap((fact) => (fact.type === 'answered' ? [fact.data.questionId] : [])))
  const open = before.flatMap((fact) =>
    fact.type === 'questionAsked' && !answered.has(fact.data.question.id) ? [fact.data.question] : [],
  )
  const yes = open.map(({ id }) => jobFact({ type: 'answered', data: { questionId: id, value: true } }))
  return { log: [...before, ...yes, ...facts.slice(checkpoint, checkpoint + 1)], open }
}

describe('an approval', () => {
  it('that was given to the parent is asked for again in a fork whose call is still to be made, and nowhere else', () => {
    let met = 0
    fc.assert(
      fc.property(fc.integer(), orders, fc.nat(), (seed, order, pick) => {
        const { log } = simulate(script(seed), { choose: order(), killAt: null })
        const ends = log.flatMap((fact, i) => (fact.type === 'stepFinished' ? [i] : []))
        const { log: upTo, open } = approvedJustBefore(log, ends[pick % ends.length] ?? 0)
        const from = forkLog(FORK, recorded(upTo), upTo.length, 2000, AS_IT_WAS)
        const fork = simulate(script(seed), { choose: order(), killAt: null, from })
        expect(fork.refused).toEqual([])
        const after = fork.log.slice(from.length)
        const askedAgain = new Set(
          after.flatMap((event) =>
            event.type === 'questionAsked' ? [`${event.data.question.runId} ${event.data.question.callId}`] : [],
          ),
        )
        met += open.length
        // A question that was answered takes no second answer, so it must be another one.
        const before = new Set(
          from.flatMap((event) => (event.type === 'questionAsked' ? [event.data.question.id] : [])),
        )
        for (const event of after)
          if (event.type === 'questionAsked') expect(before).not.toContain(event.data.question.id)
        for (const { runId, callId } of open) expect(askedAgain).toContain(`${runId} ${callId}`)
        // What the fork's own human denied was not made.
        for (const event of after) {
          if (event.type !== 'questionAsked') continue
          const { id, runId, callId, toolName } = event.data.question
          const answer = after.find((one) => one.type === 'answered' && one.data.questionId === id)
          const isNo = answer?.type === 'answered' && answer.data.value === false
          if (isNo && toolName === 'files/write') expect(fork.performed).not.toContain(`${runId} ${callId}`)
        }
      }),
      { numRuns: 400 },
    )
    expect(met).toBeGreaterThan(10)
  })
})
