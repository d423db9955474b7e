/** The lines of every start and step by hand against the shapes of all lines: the quick way says nothing else than the slow one. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  parseInwardLine,
  parseMachineLine,
  parseRunnerLine,
  parseSupervisorLine,
  printLine,
} from '../../schema/control-line.ts'
import type { HostLine, MachineLine, RunnerLine, SupervisorLine } from '../../schema/control.ts'
import { sha256 } from '../../schema/hash.ts'
import { isHotInwardLine, isHotMachineLine, isHotRunnerLine, isHotSupervisorLine } from '../../schema/hot-line.ts'
import { deriveId, makeId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolResultPart } from '../../schema/message.ts'

const jobId = makeId('job', 0, new Uint8Array(16))
const place = { runId: deriveId('run', jobId), expertKey: 'reader@1.0.0', stepNumber: 2 } as const
const result: ToolResultPart = {
  type: 'toolResult',
  callId: 'call_2_0',
  name: 'files/read_file',
  content: [{ type: 'text', text: 'page' }],
  isError: false,
}
const returned = (given: ToolResultPart): MachineLine & RunnerLine => ({
  type: 'event',
  event: { ...place, type: 'toolReturned', data: { result: given, durationMs: 1.5 } },
})
const fromRunner: readonly (MachineLine & RunnerLine)[] = [
  returned(result),
  returned({ ...result, content: [], structured: { a: null }, isError: true }),
  { type: 'event', event: { ...place, type: 'stepFinished', data: { stateHash: sha256('s') } } },
  {
    type: 'event',
    event: { ...place, type: 'runStarted', data: { query: 'q', parent: null, continues: null, depth: 0 } },
  },
  { type: 'done', reason: 'finished' },
  { type: 'request', id: 7, method: 'generate', params: { ...place, promptHash: sha256('p'), messageCount: 3 } },
]
const head = { v: 1, jobId, seq: 1, at: 0, prevHash: sha256('0'), hash: sha256('1') } as const
const nowhere = { runId: null, expertKey: null, stepNumber: null } as const
const lock = { coordinator: 'reader@1.0.0', experts: {} } as unknown as Lock // nobody looks further
const start = { type: 'start', protocol: 1, jobId, fence: 1, lock, model: null, historyCount: 1 } as const
const fromHost: readonly HostLine[] = [
  { ...start, treeHash: sha256('t'), inputTreeHash: null },
  { type: 'recorded', event: { ...head, ...nowhere, type: 'cancelRequested', data: { reason: 'r' } } },
  { type: 'go' },
  { type: 'reply', id: 7, ok: true, value: { type: 'generated' } },
]
const compartment = { expertKey: 'reader@1.0.0', skill: 'files' } as const
const frame = { type: 'frame', ...compartment, frame: { jsonrpc: '2.0', id: 1, result: {} } } as const
const asked: readonly RunnerLine[] = [frame, { type: 'open', ...compartment }, { type: 'close', ...compartment }]
const told: readonly SupervisorLine[] = [frame, { type: 'opened', ...compartment }]

const doors = [
  { name: 'machine', isHot: isHotMachineLine, parse: parseMachineLine, lines: fromRunner },
  { name: 'host', isHot: isHotInwardLine, parse: parseInwardLine, lines: fromHost },
  { name: 'runner', isHot: isHotRunnerLine, parse: parseRunnerLine, lines: [...fromRunner, ...asked] },
  { name: 'supervisor', isHot: isHotSupervisorLine, parse: parseSupervisorLine, lines: [...fromHost, ...told] },
] as const

/** Every path of a value that leads to something, [] for the value itself. */
function pathsOf(value: Json): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null) return [[]]
  return [[], ...Object.entries(value).flatMap(([key, member]) => pathsOf(member).map((path) => [key, ...path]))]
}

/** A copy of `value` with what stands at `path` changed; `undefined` takes it out. */
function changed(value: Json, [key, ...rest]: readonly string[], change: (old: Json) => Json | undefined): Json {
  if (key === undefined) return change(value) ?? null
  if (typeof value !== 'object' || value === null) return value
  const old = (value as Record<string, Json>)[key] ?? null
  const next = rest.length === 0 ? change(old) : changed(old, rest, change)
  if (Array.isArray(value)) return value.flatMap((item, i) => (String(i) === key ? (next ?? []) : [item])) as Json
  const members = Object.entries(value).filter(([name]) => name !== key)
  return Object.fromEntries(next === undefined ? members : [...members, [key, next]])
}

const x = sha256('x')
const texts: readonly Json[] = ['', 'x', 'x'.repeat(513), 'run_', x, x.toUpperCase()]
const others: readonly Json[] = [null, true, false, 0, -1, 0.5, 2 ** 53, [], {}, [null], { a: 1 }]
const parts: readonly Json[] = [{ type: 'text' }, { type: 'image', mediaType: 'image/png', base64: '' }]
const edge = fc.constantFrom(...texts, ...others, ...parts)
type Change = (old: Json) => Json | undefined
const change: fc.Arbitrary<Change> = fc.oneof(
  edge.map(
    (value): Change =>
      () =>
        value,
  ),
  fc.constant<Change>(() => undefined),
  fc
    .tuple(fc.constantFrom('x', 'structured', 'prompt', '__proto__', 'type'), edge)
    .map(([key, value]): Change => (old) => {
      const isObject = typeof old === 'object' && old !== null && !Array.isArray(old)
      return isObject ? Object.fromEntries([...Object.entries(old), [key, value]]) : old
    }),
)

describe('a line of a start or a step', () => {
  it('goes the quick way as it is said', () => {
    for (const { isHot, parse, lines } of doors)
      for (const line of lines) {
        const said = JSON.parse(printLine(line)) as Json
        expect(isHot(said)).toBe(true)
        expect(parse(printLine(line).trimEnd())).toEqual(said)
      }
  })

  it('holds no number that is not finite, wherever it stands', () => {
    for (const { parse, lines } of doors)
      for (const line of lines) {
        const said = JSON.parse(printLine(line)) as Json
        for (const path of pathsOf(said).slice(1)) {
          const text = JSON.stringify(changed(said, path, () => 'HERE')).replace('"HERE"', '1e400')
          expect(parse(text)).toMatchObject({ fault: 'invalid', message: expect.stringContaining('number') })
        }
      }
  })

  for (const { name, isHot, parse, lines } of doors)
    it(`to a ${name}'s door goes the quick way only where the shapes let it pass unchanged`, () => {
      const cases = lines.flatMap((line) => {
        const said = JSON.parse(printLine(line)) as Json
        return pathsOf(said).map((path) => ({ said, path }))
      })
      fc.assert(
        fc.property(fc.constantFrom(...cases), change, ({ said, path }, alter) => {
          const line = changed(said, path, alter)
          if (!isHot(line)) return
          // A member that nobody knows sends it through the shapes, which leave it out.
          expect(parse(JSON.stringify({ ...(line as object), unknown: 1 }))).toEqual(line)
        }),
        { numRuns: 3000 },
      )
    })
})
