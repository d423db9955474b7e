/** Lines at the doors between control plane, supervisor and runner: what passes, what is a fault, and that nothing throws. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  JSON_DEPTH_MAX,
  parseInwardLine,
  parseMachineLine,
  parseRunnerLine,
  parseSupervisorLine,
  printLine,
} from '../../schema/control-line.ts'
import type { HostLine, MachineLine, RunnerLine, SupervisorLine } from '../../schema/control.ts'
import { genesisHash, type RunFact } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { deriveId, makeId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { isLineFault, LineSplitter, type LineFault } from '../../schema/lines.ts'

const parsers = [parseMachineLine, parseInwardLine, parseRunnerLine, parseSupervisorLine]
const jobId = makeId('job', 0, new Uint8Array(16))
const runId = deriveId('run', jobId)
const place = { runId, expertKey: 'reader@1.0.0', stepNumber: 1 } as const
const result = { type: 'toolResult', callId: 'call_1_0', name: 'files/read', content: [], isError: false } as const

function fault(parsed: object): LineFault['fault'] | 'none' {
  return isLineFault(parsed) ? parsed.fault : 'none'
}

describe('a line', () => {
  it('of every type comes back as it was printed', () => {
    const facts: RunFact[] = [
      { type: 'runStarted', data: { query: 'q', parent: null, continues: null, depth: 0 } },
      { type: 'runStarted', data: { query: 'q', parent: { runId, callId: 'c' }, continues: runId, depth: 1 } },
      { type: 'toolsListed', data: { skill: 'files', tools: [{ name: 'read', description: '', inputSchema: {} }] } },
      { type: 'skillFailed', data: { skill: 'files', code: 'skill_died', message: '' } },
      { type: 'toolReturned', data: { result: { ...result, structured: { a: [null] } }, durationMs: 3 } },
      {
        type: 'questionAsked',
        data: {
          question: {
            id: deriveId('que', 1),
            runId,
            callId: 'call_1_0',
            kind: 'confirm',
            title: 't',
            schema: { type: 'boolean' },
            toolName: 'ask/approve',
            args: null,
            argsHash: sha256('null'),
          },
        },
      },
      { type: 'stepFinished', data: { stateHash: sha256('') } },
      { type: 'runFinished', data: { outcome: 'completed', reason: 'completed', message: null, result: 'r' } },
    ]
    const generate = {
      type: 'request',
      id: 1,
      method: 'generate',
      params: { ...place, promptHash: sha256('p'), prompt: { instruction: 'i', tools: [] }, messageCount: 1 },
    } as const
    const compartment = { expertKey: 'reader@1.0.0', skill: 'files' }
    const events = facts.map((event) => ({ type: 'event', event: { ...event, ...place } }) as const)
    const machine: MachineLine[] = [
      { type: 'ready', protocol: 1, bootId: 'b' },
      ...events,
      { type: 'blob', hash: sha256(''), offset: 0, last: true, base64: 'AAA=' },
      { type: 'workspace', treeHash: sha256('') },
      generate,
      { type: 'request', id: 2, method: 'blob', params: { hash: sha256(''), offset: 0 } },
      { type: 'request', id: 3, method: 'secrets', params: compartment },
      { type: 'done', reason: 'rested' },
      { type: 'log', source: 'supervisor', text: 'hello' },
      { type: 'progress', runId, callId: 'call_1_0', text: '3/10 files' },
      { type: 'open', ...compartment },
      { type: 'close', ...compartment },
      { type: 'frame', ...compartment, frame: { jsonrpc: '2.0' } },
    ]
    const head = { v: 1, jobId, seq: 1, at: 0, prevHash: genesisHash(jobId), hash: sha256('') } as const
    const whole = { runId: null, expertKey: null, stepNumber: null }
    const host: HostLine[] = [
      {
        type: 'start',
        protocol: 1,
        jobId,
        fence: 1,
        lock: { version: 1, coordinator: 'x@1.0.0' as never, experts: {} },
        model: null,
        treeHash: null,
        inputTreeHash: sha256(''),
        historyCount: 0,
      },
      {
        type: 'recorded',
        event: { ...head, ...whole, type: 'cancelRequested', data: { reason: 'canceled_by_user' } },
      },
      { type: 'go' },
      { type: 'reply', id: 1, ok: true, value: { a: 1 } },
      { type: 'reply', id: 1, ok: false, error: { code: 'model_error', message: 'm' } },
      { type: 'cancel', reason: 'canceled_by_user' },
    ]
    const runner: RunnerLine[] = [
      ...events,
      generate,
      { type: 'done', reason: 'finished' },
      { type: 'open', ...compartment },
      { type: 'close', ...compartment },
      { type: 'frame', ...compartment, frame: { jsonrpc: '2.0' } },
      { type: 'log', source: 'runner', text: '' },
      { type: 'progress', runId, callId: 'call_1_0', text: '' },
    ]
    const supervisor: SupervisorLine[] = [
      ...host,
      { type: 'opened', ...compartment },
      { type: 'closed', ...compartment, code: 'skill_died', message: 'exit 1' },
      { type: 'frame', ...compartment, frame: [] },
    ]
    for (const line of machine) expect(parseMachineLine(printLine(line))).toEqual(line)
    for (const line of host) expect(parseInwardLine(printLine(line))).toEqual(line)
    for (const line of runner) expect(parseRunnerLine(printLine(line))).toEqual(line)
    for (const line of supervisor) expect(parseSupervisorLine(printLine(line))).toEqual(line)
  })

  it('that is not JSON, or nothing at all, is a fault for every parser', () => {
    for (const parse of parsers)
      for (const text of ['', '  ', 'null', '[]', '{"type":"go",}', '// x', '{', '"go"', '1e400', '{"type":"go"} x'])
        expect(isLineFault(parse(text))).toBe(true)
  })

  it('of a type that only the control plane may write is unknown from a machine', () => {
    const answered = { ...place, type: 'answered', data: { questionId: deriveId('que', 1), value: true } }
    const finished = { ...place, type: 'jobFinished', data: {} }
    const generated = { ...place, type: 'generated', data: {} }
    for (const event of [answered, finished, generated])
      expect(isLineFault(parseMachineLine(JSON.stringify({ type: 'event', event })))).toBe(true)
    expect(fault(parseMachineLine('{"type":"cancel","reason":"x"}'))).toBe('unknown_type')
    expect(fault(parseRunnerLine(JSON.stringify({ type: 'workspace', treeHash: sha256('') })))).toBe('unknown_type')
    expect(isLineFault(parseRunnerLine('{"type":"request","id":1,"method":"secrets","params":{}}'))).toBe(true)
  })

  it('is refused one level above the depth limit and accepted at it', () => {
    const frame = (levels: number) =>
      `{"type":"frame","expertKey":"a","skill":"b","frame":{"a":${'['.repeat(levels)}${']'.repeat(levels)}}}`
    expect(fault(parseRunnerLine(frame(JSON_DEPTH_MAX - 2)))).toBe('none')
    expect(fault(parseRunnerLine(frame(JSON_DEPTH_MAX - 1)))).toBe('too_deep')
    expect(fault(parseRunnerLine(frame(1_000_000)))).toBe('too_deep')
  })

  it('holds one MCP message and no batch, which nobody here would look into', () => {
    const frame = { type: 'frame', expertKey: 'a', skill: 'b' }
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'exec' } }
    expect(fault(parseRunnerLine(JSON.stringify({ ...frame, frame: call })))).toBe('none')
    expect(fault(parseRunnerLine(JSON.stringify({ ...frame, frame: [call] })))).toBe('invalid')
  })

  it('may hold any number of brackets and quotes inside strings', () => {
    const text = '[{"\\'.repeat(10_000)
    expect(parseMachineLine(JSON.stringify({ type: 'log', source: 's', text }))).toEqual({
      type: 'log',
      source: 's',
      text,
    })
  })

  it('keeps names like __proto__ as members and changes no prototype', () => {
    const line = '{"type":"frame","expertKey":"a","skill":"b","frame":{"__proto__":{"x":1},"then":1,"toJSON":1}}'
    const parsed = parseRunnerLine(line)
    expect(printLine(parsed as RunnerLine)).toContain('"__proto__":{"x":1}')
    expect(({} as { x?: number }).x).toBeUndefined()
  })

  it('with a number that JSON cannot give back is refused', () => {
    const line = '{"type":"frame","expertKey":"a","skill":"b","frame":[1e400]}'
    expect(fault(parseRunnerLine(line))).toBe('invalid')
  })

  it('never throws, whatever is in it', () => {
    const value = fc.letrec<{ value: Json }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom('go', 'event', 'generate', 'request', runId, jobId, sha256(''), ''),
        fc.double(),
        fc.constant(null),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(
          fc.constantFrom('type', 'event', 'data', 'id', 'method', 'params', '__proto__', 'ok', 'question'),
          tie('value'),
        ) as fc.Arbitrary<Json>,
      ),
    })).value
    fc.assert(
      fc.property(
        fc.oneof(
          value.map((json) => JSON.stringify(json)),
          fc.string(),
        ),
        (text) => {
          for (const parse of parsers) parse(text)
        },
      ),
    )
  })
})

describe('bytes', () => {
  const encode = (text: string) => new TextEncoder().encode(text)

  it('become the same lines however they are cut', () => {
    const cut = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 })
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }).filter((line) => !line.includes('\n'))),
        cut,
        (lines, sizes) => {
          const splitter = new LineSplitter(1000)
          const bytes = encode(lines.map((line) => `${line}\n`).join(''))
          const got: unknown[] = []
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const size = sizes[i % sizes.length] ?? 1
            got.push(...splitter.push(bytes.subarray(at, at + size)))
            at += size
          }
          expect(got).toEqual(lines.map((line) => line.replace(/[\ud800-\udfff]/gu, '\ufffd')))
          expect(splitter.end()).toBeUndefined()
        },
      ),
    )
  })

  it('above the cap are one fault, and the next line is read', () => {
    const splitter = new LineSplitter(4)
    const seen: unknown[] = []
    for (const part of ['12345', '6789', '0\nok', '\n', '1234\n12345\n', 'x']) seen.push(...splitter.push(encode(part)))
    expect(seen.map((line) => (isLineFault(line) ? line.fault : line))).toEqual(['too_long', 'ok', '1234', 'too_long'])
    expect(splitter.end()).toBe('x')
  })

  it('that are not UTF-8 are a fault of their line alone', () => {
    const splitter = new LineSplitter()
    const seen = splitter.push(new Uint8Array([0xff, 10, 0x61, 10]))
    expect(seen.map((line) => (isLineFault(line) ? line.fault : line))).toEqual(['not_utf8', 'a'])
  })
})
