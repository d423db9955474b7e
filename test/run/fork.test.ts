/** Forks of random jobs: what was copied, what goes on, and that the parent never notices. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chain, firstBroken, genesisHash, originOf, rechain, type JobEvent, type NewEvent } from '../../schema/event.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import { replay } from '../../schema/decider.ts'
import { sha256 } from '../../schema/hash.ts'
import { makeId, type JobId } from '../../schema/id.ts'
import { StateHashes } from '../../schema/state-hash.ts'
import { jobRuns } from '../../runner/run/run.ts'
import { forkLog } from '../../src/job/forks.ts'
import { drawn, type ScriptedCall } from '../fake/scripted-model.ts'
import { answersOf, simulate, type Script, type World } from './simulation.ts'
import { JOB, team } from './team.ts'

const FORK = makeId(
  'job',
  2,
  Uint8Array.from({ length: 16 }, () => 7),
)
const GRANDCHILD = makeId(
  'job',
  3,
  Uint8Array.from({ length: 16 }, () => 9),
)
const AS_IT_WAS = { query: null, model: null, maxSteps: null, lockHash: sha256('a lock'), instructed: null }
const runs = { numRuns: 100 }

const CALLS: readonly ScriptedCall[] = [
  { name: 'files/read', args: { path: 'a' } },
  { name: 'files/write', args: { path: 'b' } },
  { name: 'delegate/reader', args: { query: 'look' } },
  { name: 'human/approve', args: { change: 'this' } },
]

/** Several calls at once, delegations to two levels, questions from any depth, now and then a model that fails. */
const script = (seed: number): Script => ({
  lock: team(),
  maxSteps: null,
  turnOf(runId, stepNumber, depth) {
    const roll = drawn(100, seed, runId, stepNumber)
    if (roll < 4) return { code: 'model_overloaded' }
    if (stepNumber > 4 || roll < 20 + depth * 20) return { text: `done ${roll}` }
    const count = 1 + drawn(3, seed, runId, stepNumber, 'count')
    const call = (i: number) => CALLS[drawn(CALLS.length, seed, runId, stepNumber, i)] ?? CALLS[0]
    return { text: `on ${roll}`, calls: Array.from({ length: count }, (_, i) => call(i)).flatMap((one) => one ?? []) }
  },
})

const orders = fc.array(fc.nat(1000), { minLength: 1, maxLength: 40 }).map((stream) => (): World['choose'] => {
  let at = 0
  return (below) => (below === 0 ? 0 : (stream[at++ % stream.length] ?? 0) % below)
})

function recorded(jobId: JobId, facts: readonly PlacedFact[]): readonly JobEvent[] {
  return chain(
    jobId,
    0,
    genesisHash(jobId),
    1000,
    facts.map((fact) => ({ ...fact, v: 1 }) as NewEvent),
  )
}

/** The seq of the checkpoint that `pick` falls on; undefined when the log has none. */
function someCheckpoint(events: readonly JobEvent[], pick: number): number | undefined {
  const ends = events.filter(({ type }) => type === 'stepFinished')
  return ends[pick % ends.length]?.seq
}

const factsOf = (events: readonly JobEvent[]) =>
  events.map(({ jobId: _jobId, hash: _hash, prevHash: _prevHash, ...fact }) => fact)

describe('a fork of a random job', () => {
  it('begins with the facts of its parent, at any checkpoint of any run, and leaves the parent as it was (FK1, FK2)', () => {
    fc.assert(
      fc.property(fc.integer(), orders, fc.nat(), (seed, order, pick) => {
        const parent = recorded(JOB, simulate(script(seed), { choose: order(), killAt: null }).log)
        const before = JSON.stringify(parent)
        const seq = someCheckpoint(parent, pick)
        if (seq === undefined) return
        const copied = parent.slice(0, seq)
        const fork = forkLog(FORK, parent, seq, 2000, AS_IT_WAS)
        expect(factsOf(fork.slice(0, -1))).toEqual(factsOf(copied))
        expect(firstBroken(FORK, fork)).toBeUndefined()
        expect(fork.at(-1)?.data).toMatchObject({
          parentJobId: JOB,
          parentSeq: seq,
          parentHash: copied.at(-1)?.hash,
        })
        // Whoever has the fork alone can prove the parent's hash.
        expect(rechain(JOB, fork.slice(0, -1)).at(-1)?.hash).toBe(copied.at(-1)?.hash)
        expect(JSON.stringify(parent)).toBe(before)
      }),
      runs,
    )
  })

  it('comes with the same model to the same messages, state hashes and end as its parent', () => {
    fc.assert(
      fc.property(fc.integer(), orders, orders, fc.nat(), (seed, order, other, pick) => {
        const whole = simulate(script(seed), { choose: order(), killAt: null })
        const parent = recorded(JOB, whole.log)
        const seq = someCheckpoint(parent, pick)
        if (seq === undefined) return
        const from = forkLog(FORK, parent, seq, 2000, AS_IT_WAS)
        expect(originOf(FORK, from)).toBe(JOB)
        const fork = simulate(script(seed), { choose: other(), killAt: null, from })
        expect(answersOf(fork)).toEqual(answersOf(whole))
        expect(fork.refused).toEqual([])
        expect(fork.repeated).toEqual([])
        expect(fork.differing).toEqual([])
      }),
      runs,
    )
  })

  it('can be forked again, and its ids still derive from the first job', () => {
    fc.assert(
      fc.property(fc.integer(), orders, fc.nat(), fc.nat(), (seed, order, pick, again) => {
        const whole = simulate(script(seed), { choose: order(), killAt: null })
        const parent = recorded(JOB, whole.log)
        const seq = someCheckpoint(parent, pick)
        if (seq === undefined) return
        const fork = simulate(script(seed), {
          choose: order(),
          killAt: null,
          from: forkLog(FORK, parent, seq, 2, AS_IT_WAS),
        })
        const further = recorded(FORK, fork.log)
        const from = forkLog(GRANDCHILD, further, someCheckpoint(further, again) ?? seq, 3, AS_IT_WAS)
        expect(originOf(GRANDCHILD, from)).toBe(JOB)
        expect(answersOf(simulate(script(seed), { choose: order(), killAt: null, from }))).toEqual(answersOf(whole))
      }),
      runs,
    )
  })

  it('with a query asks the coordinator anew, over the heads of the runs that were open', () => {
    fc.assert(
      fc.property(fc.integer(), orders, fc.nat(), (seed, order, pick) => {
        const whole = simulate(script(seed), { choose: order(), killAt: null })
        const parent = recorded(JOB, whole.log)
        const seq = someCheckpoint(parent, pick)
        if (seq === undefined) return
        const from = forkLog(FORK, parent, seq, 2000, { ...AS_IT_WAS, query: 'and now this' })
        const open = replay(jobRuns(JOB, script(seed).lock), parent.slice(0, seq)).active
        const fork = simulate(script(seed), { choose: order(), killAt: null, from })
        const after = fork.log.slice(from.length)
        const [started] = after
        expect(started).toMatchObject({ type: 'runStarted', data: { query: 'and now this', parent: null } })
        expect(after.filter((fact) => fact.runId !== null && open.includes(fact.runId))).toEqual([])
        expect(fork.refused).toEqual([])
        expect(fork.differing).toEqual([])
        const hashes = new StateHashes()
        for (const fact of fork.log) {
          const check = hashes.add(fact)
          expect(check?.computed).toBe(check?.recorded)
        }
      }),
      runs,
    )
  })
})
