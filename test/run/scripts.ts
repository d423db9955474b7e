/** Jobs for properties of the loop: parallel calls, delegations, questions, failures and limits, in any order. */
import * as fc from 'fast-check'
import { BASE_TOOL_NAMES } from '../../schema/base-tool.ts'
import { drawn, type ScriptedCall } from '../fake/scripted-model.ts'
import type { Script, World } from './simulation.ts'
import { team } from './team.ts'

/** Aimed at what goes wrong: several calls at once, kinds mixed, deep delegations, ends of every kind. */
function turnOf(seed: number): Script['turnOf'] {
  return (runId, stepNumber, depth) => {
    const roll = drawn(100, seed, runId, stepNumber)
    if (roll < 6) return { code: 'model_overloaded' }
    if (stepNumber > 4 || roll < 30 + depth * 12) return { text: `done ${roll}` }
    const count = 1 + drawn(4, seed, runId, stepNumber, 'count')
    return { text: `on ${roll}`, calls: Array.from({ length: count }, (_, i) => callOf(seed, runId, stepNumber, i)) }
  }
}

function callOf(seed: number, runId: string, stepNumber: number, i: number): ScriptedCall {
  const roll = drawn(27, seed, runId, stepNumber, i)
  if (roll >= 21) return baseCallOf(roll - 21, stepNumber, i)
  if (roll < 5) return { name: 'files/read', args: { path: `${stepNumber}/${i}` } }
  if (roll < 8) return { name: 'delegate/reader', args: { query: `look at ${i}` } }
  if (roll < 9) return { name: 'delegate/again', args: { query: `again ${i}` } }
  if (roll < 11) return { name: 'human/approve', args: { change: `change ${i}` } }
  if (roll < 12) return { name: 'human/choose', args: { options: ['a', 'b'] } }
  return (
    [
      { name: 'human/approve', args: { wrong: 1 } },
      { name: 'human/choose', args: { options: [] } },
      { name: 'files/hidden', args: {} },
      { name: 'files/ask', args: { i } },
      { name: 'files/ask', args: { path: 'a' } },
      { name: 'files/ask', args: {} },
      { name: 'files/read', args: { path: stepNumber } },
      { name: 'files/read', args: '{"path": "cut of' },
      { name: 'constructor/__proto__', args: {} },
    ][roll - 12] ?? { name: 'nothing', args: null }
  )
}

/** Lists that grow and are worked off, and ends that are attempted too early, at the right time, and twice. */
function baseCallOf(roll: number, stepNumber: number, i: number): ScriptedCall {
  const all = Array.from({ length: 20 }, (_, id) => id)
  return (
    [
      { name: 'base/todo', args: { newTodos: [`${stepNumber}.${i}`] } },
      { name: 'base/todo', args: { completedTodos: all.slice(0, stepNumber) } },
      { name: 'base/clearTodo', args: {} },
      { name: 'base/attemptCompletion', args: { result: `result ${stepNumber}.${i}` } },
      { name: 'base/attemptCompletion', args: {} },
    ][roll] ?? { name: 'base/healthCheck', args: {} }
  )
}

export const scripts = fc.record({
  seed: fc.integer(),
  maxSteps: fc.option(fc.integer({ min: 1, max: 12 }), { freq: 2 }),
  ownLimit: fc.option(fc.integer({ min: 1, max: 4 }), { freq: 4 }),
  isGuarded: fc.boolean(),
})

const RULES = [
  { tool: 'files/read', args: {}, edits: true, timeoutSeconds: 60 },
  { tool: 'files/ask', args: { path: '*' }, edits: false },
  { tool: 'delegate/reader', args: {}, edits: false },
  { tool: 'human/*', args: {}, edits: false },
  { tool: 'base/*', args: {}, edits: false },
]

export function scriptOf(given: {
  seed: number
  maxSteps: number | null
  ownLimit: number | null
  isGuarded: boolean
}): Script {
  const { seed, maxSteps, ownLimit } = given
  const approvals = given.isGuarded ? RULES : []
  const base = { tools: BASE_TOOL_NAMES, rule: null }
  return { lock: team({ maxSteps: ownLimit, approvals, base }), maxSteps, turnOf: turnOf(seed) }
}

/** Order by a stream of choices that repeats. */
export const orders = fc.array(fc.nat(1000), { minLength: 1, maxLength: 40 }).map((stream) => (): World['choose'] => {
  let at = 0
  return (below) => (below === 0 ? 0 : (stream[at++ % stream.length] ?? 0) % below)
})
export const inOrder = (): World['choose'] => () => 0
