/** The base tools: a list of todos, the end of a run, and who one is, all from what the model wrote. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BASE_TOOL_NAMES, baseTools, baseTurn, type BaseTurn, type Todo } from '../../schema/base-tool.ts'
import { deriveId } from '../../schema/id.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import type { GeneratedPart } from '../../schema/message.ts'
import { argumentFault } from '../../schema/json-schema.ts'
import { lockedExpert } from '../fake/fake-expert-source.ts'

const expert = lockedExpert('keeper', { base: { tools: BASE_TOOL_NAMES, rule: null } })
const runId = deriveId('run', 'one')

type Written = readonly [name: string, args: Json]

function turn(before: readonly Todo[], calls: readonly Written[], text = '', of = expert): BaseTurn {
  const parts: GeneratedPart[] = calls.map(([name, args], i) => ({ type: 'toolCall', callId: `${i}`, name, args }))
  return baseTurn({ expert: of, runId, stepNumber: 3 }, before, [{ type: 'text', text }, ...parts])
}

/** What the call at `index` is answered. */
function answer(turned: BaseTurn, index: number): { readonly isError: boolean; readonly value: unknown } {
  const found = turned.answers.get(`${index}`)
  if (found === undefined) throw new Error(`call ${index} has no answer`)
  return { isError: found.isError, value: found.isError ? found.text : JSON.parse(found.text) }
}

const title = fc.string({ minLength: 1, maxLength: 20 })
/** Aimed at lists that grow, are worked off and cleared in one step; ids are sometimes of nothing. */
const written: fc.Arbitrary<Written> = fc.oneof(
  fc.array(title, { maxLength: 4 }).map((newTodos): Written => ['base/todo', { newTodos }]),
  fc.array(fc.nat(8), { maxLength: 4 }).map((completedTodos): Written => ['base/todo', { completedTodos }]),
  fc
    .tuple(fc.array(title, { maxLength: 3 }), fc.array(fc.nat(8), { maxLength: 3 }))
    .map(([newTodos, completedTodos]): Written => ['base/todo', { newTodos, completedTodos }]),
  fc.constant<Written>(['base/clearTodo', {}]),
  fc
    .constantFrom<Json>({}, { result: 'r' }, { result: '' }, { result: 3 }, [], 'x')
    .map((args): Written => ['base/attemptCompletion', args]),
  fc.constant<Written>(['files/read_file', {}]),
)
const steps = fc.array(fc.array(written, { maxLength: 4 }), { maxLength: 6 })

describe('the list of todos', () => {
  it('numbers what is added, marks what is done, and answers with the whole', () => {
    const first = turn([], [['base/todo', { newTodos: ['read', 'write'] }]])
    const second = turn(first.todos, [['base/todo', { newTodos: ['check'], completedTodos: [0, 2] }]])
    expect(answer(second, 0).value).toEqual({
      todos: [
        { id: 0, title: 'read', completed: true },
        { id: 1, title: 'write', completed: false },
        { id: 2, title: 'check', completed: true },
      ],
    })
    expect(answer(turn(second.todos, [['base/todo', {}]]), 0).value).toEqual(answer(second, 0).value)
  })

  it('is emptied by clearTodo and counts from 0 again', () => {
    const { todos } = turn(
      [],
      [
        ['base/todo', { newTodos: ['a', 'b'] }],
        ['base/clearTodo', {}],
        ['base/todo', { newTodos: ['c'] }],
      ],
    )
    expect(todos).toEqual([{ id: 0, title: 'c', completed: false }])
  })

  it('stays as it is when a call is malformed, names a todo that is not there, or is too much', () => {
    const { todos } = turn([], [['base/todo', { newTodos: ['a'] }]])
    const bad: readonly Json[] = [
      { completedTodos: [0, 1] },
      { newTodos: ['b'], completedTodos: [7] },
      { newTodos: [''] },
      { newTodos: 'b' },
      { todos: ['b'] },
      { completedTodos: [-1] },
      ['b'],
      { newTodos: Array.from({ length: 200 }, () => 'b') },
    ]
    for (const args of bad) {
      const after = turn(todos, [['base/todo', args]])
      expect(after.todos, JSON.stringify(args)).toEqual(todos)
      expect(answer(after, 0).isError, JSON.stringify(args)).toBe(true)
    }
    expect(answer(turn(todos, [['base/todo', { completedTodos: [1] }]]), 0).value).toBe(
      'There is no todo 1; nothing was changed.',
    )
  })

  it('has ids in order from 0 and never undoes a todo, whatever the model writes', () => {
    fc.assert(
      fc.property(steps, (all) => {
        let todos: readonly Todo[] = []
        for (const calls of all) {
          const after = turn(todos, calls).todos
          expect(after.map(({ id }) => id)).toEqual(after.map((_, i) => i))
          const isCleared = calls.some(([name]) => name === 'base/clearTodo')
          if (!isCleared)
            for (const [i, todo] of todos.entries())
              expect(Number(after[i]?.completed)).toBeGreaterThanOrEqual(Number(todo.completed))
          todos = after
        }
      }),
    )
  })
})

describe('attemptCompletion', () => {
  const todos = turn([], [['base/todo', { newTodos: ['a', 'b'], completedTodos: [0] }]]).todos

  it('returns the todos that are left instead of ending the run', () => {
    const attempted = turn(todos, [['base/attemptCompletion', { result: 'done' }]])
    expect(attempted.completion).toBeNull()
    expect(answer(attempted, 0)).toEqual({
      isError: false,
      value: { remainingTodos: [{ id: 1, title: 'b', completed: false }] },
    })
  })

  it('ends the run with its result when nothing is left', () => {
    const attempted = turn([], [['base/attemptCompletion', { result: 'done' }]], 'text beside it')
    expect(attempted.completion).toBe('done')
    expect(answer(attempted, 0)).toEqual({ isError: false, value: { completed: true } })
  })

  it('takes the text of its step for a result, and asks for one when there is neither', () => {
    expect(turn([], [['base/attemptCompletion', {}]], 'the text').completion).toBe('the text')
    const silent = turn([], [['base/attemptCompletion', {}]], ' ')
    expect(silent.completion).toBeNull()
    expect(answer(silent, 0)).toEqual({ isError: true, value: 'There is no result: write it into result.' })
  })

  it('counts what the same step does to the list, wherever it stands in it', () => {
    const attempt: Written = ['base/attemptCompletion', { result: 'done' }]
    const finish: Written = ['base/todo', { completedTodos: [1] }]
    for (const calls of [
      [attempt, finish],
      [finish, attempt],
    ] as const)
      expect(turn(todos, calls).completion).toBe('done')
    expect(turn([], [attempt, ['base/todo', { newTodos: ['c'] }]]).completion).toBeNull()
  })

  it('does not end a run whose other calls nobody has read', () => {
    const attempted = turn(
      [],
      [
        ['files/read_file', {}],
        ['base/attemptCompletion', { result: 'done' }],
      ],
    )
    expect(attempted.completion).toBeNull()
    expect(answer(attempted, 1)).toMatchObject({ isError: true, value: expect.stringContaining('not read') })
    expect(attempted.answers.has('0')).toBe(false)
  })

  it('ends a run only with what the model wrote and with nothing left to do, whatever the model writes', () => {
    fc.assert(
      fc.property(steps, fc.constantFrom('', 'text'), (all, text) => {
        let todos: readonly Todo[] = []
        for (const calls of all) {
          const turned = turn(todos, calls, text)
          todos = turned.todos
          expect(turned.answers.size).toBe(calls.filter(([name]) => name.startsWith('base/')).length)
          if (turned.completion === null) continue
          expect(todos.every(({ completed }) => completed)).toBe(true)
          expect(calls.every(([name]) => name.startsWith('base/'))).toBe(true)
          const results = calls.map(([, args]) => (isJsonObject(args) ? args['result'] : undefined))
          expect([...results, text]).toContain(turned.completion)
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('the base tools', () => {
  it('say who one is, from the lock and the log alone', () => {
    expect(answer(turn([], [['base/healthCheck', {}]]), 0).value).toEqual({
      status: 'ok',
      runId,
      step: 3,
      expert: 'keeper@1.0.0',
      skills: [],
      delegates: [],
    })
  })

  it('are those that the lock names, and none for a lock that names none', () => {
    expect(baseTools(expert).map(({ name }) => name)).toEqual(BASE_TOOL_NAMES.map((name) => `base/${name}`))
    const without = lockedExpert('old')
    expect(baseTools(without)).toEqual([])
    expect(turn([], [['base/todo', { newTodos: ['a'] }]], '', without)).toEqual({
      todos: [],
      answers: new Map(),
      completion: null,
    })
    const reader = lockedExpert('reader', { base: { tools: ['todo'], rule: null } })
    expect(turn([], [['base/attemptCompletion', { result: 'x' }]], '', reader).completion).toBeNull()
  })

  it('accept what their schemas accept, and refuse what those refuse', () => {
    const schemas = new Map(baseTools(expert).map(({ name, inputSchema }) => [name, inputSchema]))
    const wild = fc.oneof(
      written.map(([, args]) => args),
      fc.record({ newTodos: fc.oneof(fc.string(), fc.array(fc.oneof(title, fc.nat()))) }),
      fc.record({ result: fc.oneof(fc.string(), fc.nat()), more: fc.constant(1) }, { requiredKeys: [] }),
    )
    fc.assert(
      fc.property(fc.constantFrom(...schemas.keys()), wild, (name, value) => {
        const args = value as Json // what the arbitraries make is
        const fits = argumentFault(schemas.get(name) ?? {}, args) === undefined
        const { text, isError } = turn([], [[name, args]], 'text').answers.get('0') ?? { text: '', isError: true }
        expect(isError && text.includes('do not fit its schema')).toBe(!fits)
      }),
      { numRuns: 500 },
    )
  })
})
