/** The shell of the loop: what is in flight, what comes too late, and how it ends. */
import { describe, expect, it } from 'vitest'
import { replay } from '../../schema/decider.ts'
import { sha256 } from '../../schema/hash.ts'
import { noUsage } from '../../schema/usage.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import { openLoop, type Owed, type Performed } from '../../runner/run/loop.ts'
import { jobRuns, type PlacedRunFact } from '../../runner/run/run.ts'
import { partsOf, type Turn } from '../fake/scripted-model.ts'
import { jobFact } from './simulation.ts'
import { JOB, READER, TOOLS, team } from './team.ts'

const created = (maxSteps: number | null) =>
  jobFact({
    type: 'jobCreated',
    data: {
      expertKey: team().coordinator,
      query: 'q',
      userId: null,
      model: null,
      maxSteps,
      lockHash: sha256(''),
      inputTreeHash: null,
    },
  })

function generated(effect: Extract<Owed, { type: 'generate' }>, turn: Exclude<Turn, { code: unknown }>): Performed {
  const { runId, expertKey, stepNumber } = effect
  const fact: PlacedFact = {
    type: 'generated',
    data: {
      parts: partsOf(turn, stepNumber),
      usage: noUsage,
      model: 'm',
      finishReason: 'stop',
      promptHash: sha256(''),
      durationMs: 0,
    },
    runId,
    expertKey,
    stepNumber,
  }
  return { proposed: [], recorded: [fact] }
}

const listing = ({ runId, expertKey, skill }: Extract<Owed, { type: 'listTools' }>): Performed => ({
  proposed: [{ type: 'toolsListed', data: { skill, tools: TOOLS }, runId, expertKey, stepNumber: 0 }],
  recorded: [],
})

function begin(maxSteps: number | null, perform: (effect: Owed, signal: AbortSignal) => Promise<Performed>) {
  const core = jobRuns(JOB, team())
  const proposed: PlacedRunFact[] = []
  const loop = openLoop(core, replay(core, [created(maxSteps)]), {
    perform: (effect, _state, signal) => perform(effect, signal),
    propose: (fact) => proposed.push(fact),
  })
  return { loop, proposed }
}

describe('the loop', () => {
  it('drops a listing whose run reached the step limit meanwhile', async () => {
    const gate = Promise.withResolvers<void>()
    const calls = ['delegate/again', 'delegate/reader'].map((name) => ({ name, args: { query: 'go' } }))
    const { loop, proposed } = begin(2, async (effect) => {
      if (effect.type === 'listTools') {
        if (effect.expertKey === READER) await gate.promise
        return listing(effect)
      }
      if (effect.type !== 'generate') throw new Error('no tool is called')
      if (effect.stepNumber === 1 && proposed.length > 2) {
        queueMicrotask(() => setImmediate(gate.resolve))
        return generated(effect, { text: 'again is done' })
      }
      return generated(effect, { text: 'on', calls })
    })
    expect(await loop.rest).toBe('finished')
    await gate.promise
    await new Promise((next) => setImmediate(next))
    expect(proposed.filter((fact) => fact.type === 'toolsListed' && fact.expertKey === READER)).toEqual([])
    expect(proposed.at(-1)).toMatchObject({ type: 'runFinished', data: { reason: 'step_limit' } })
  })

  it('asks for one listing though several runs of an expert want it', async () => {
    let listings = 0
    const calls = ['a', 'b', 'c'].map((query) => ({ name: 'delegate/reader', args: { query } }))
    let roots = 0
    const { loop } = begin(null, async (effect) => {
      if (effect.type === 'listTools') {
        listings += 1
        return listing(effect)
      }
      if (effect.type !== 'generate') throw new Error('no tool is called')
      return generated(effect, effect.expertKey === READER || (roots += 1) > 1 ? { text: 'ok' } : { text: 'on', calls })
    })
    expect(await loop.rest).toBe('finished')
    expect(listings).toBe(2)
  })

  it('aborts what is in flight when canceled, and proposes nothing more', async () => {
    let aborted = false
    const { loop, proposed } = begin(null, async (effect, signal) => {
      if (effect.type === 'listTools') return listing(effect)
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          aborted = true
          reject(signal.reason)
        }),
      )
    })
    await new Promise((next) => setImmediate(next))
    loop.cancel()
    expect(await loop.rest).toBe('canceled')
    expect(aborted).toBe(true)
    expect(proposed.map((fact) => fact.type)).toEqual(['runStarted', 'toolsListed'])
  })

  it('fails when what it performed is owed still, rather than go round for ever', async () => {
    const { loop } = begin(null, async (effect) =>
      effect.type === 'listTools' ? listing(effect) : { proposed: [], recorded: [] },
    )
    await expect(loop.rest).rejects.toThrow('owed still after it was performed')
  })
})
