/**
 * The tools that an expert has without any process: a list of what is to be done, the end of its run, and who it is.
 * Each answer follows from what the model wrote and what the lock says, so that the runner and the control plane work
 * it out each for itself, and a crash loses none of it.
 */
import * as z from 'zod'
import { unreachable } from './decider.ts'
import { canonical } from './hash.ts'
import type { RunId } from './id.ts'
import type { Json } from './json.ts'
import { textOf, type GeneratedPart, type ToolCallPart, type ToolDefinition, type ToolResultPart } from './message.ts'

/** What stands before the names of these tools; a skill of this name takes their place. */
export const BASE = 'base'
const TODOS_MAX = 200
const TITLE_CHARACTERS_MAX = 500

export const BASE_TOOL_NAMES = ['todo', 'clearTodo', 'attemptCompletion', 'healthCheck'] as const
export type BaseToolName = (typeof BASE_TOOL_NAMES)[number]

/** What an expert has of these tools, as its lock says it. */
export interface BaseTools {
  readonly tools: readonly BaseToolName[]
  readonly rule: string | null
}

/** What these tools need to know of an expert: less than its lock says. */
export interface BaseExpert {
  readonly key: string
  readonly skills: Readonly<Record<string, unknown>>
  readonly delegates: Readonly<Record<string, unknown>>
  readonly base?: BaseTools
}

/** One thing to be done. Ids count 0, 1, 2 ... from the last clearing on. */
export interface Todo {
  readonly id: number
  readonly title: string
  readonly completed: boolean
}

export interface BaseAnswer {
  readonly text: string
  /** The answer as data; absent for an error. */
  readonly structured?: Json
  readonly isError: boolean
}

/** What one generation comes to: the list after it, the answers to its calls, and the result if it ends the run. */
export interface BaseTurn {
  readonly todos: readonly Todo[]
  readonly answers: ReadonlyMap<string, BaseAnswer>
  readonly completion: string | null
}

/** Who is asking. */
export interface BaseGround {
  readonly expert: BaseExpert
  readonly runId: RunId
  readonly stepNumber: number
}

const noArguments = { type: 'object', properties: {}, additionalProperties: false } as const

const DEFINITIONS: Readonly<Record<BaseToolName, Omit<ToolDefinition, 'name'>>> = {
  todo: {
    description:
      'Keeps your list of what is to be done: adds todos, marks todos as completed, and returns the whole list. ' +
      'Without arguments it returns the list as it is.',
    inputSchema: {
      type: 'object',
      properties: {
        newTodos: {
          type: 'array',
          items: { type: 'string', minLength: 1, maxLength: TITLE_CHARACTERS_MAX },
          maxItems: TODOS_MAX,
          description: 'Titles of todos to add.',
        },
        completedTodos: {
          type: 'array',
          items: { type: 'integer', minimum: 0 },
          maxItems: TODOS_MAX,
          description: 'Ids of todos that are done.',
        },
      },
      additionalProperties: false,
    },
  },
  clearTodo: { description: 'Empties your list of todos.', inputSchema: noArguments },
  attemptCompletion: {
    description:
      'Ends your work with its result. While todos are left it returns them instead, and you go on. ' +
      'Call it in a step without other work, once you have read what your last calls brought.',
    inputSchema: {
      type: 'object',
      properties: {
        result: {
          type: 'string',
          description: 'The whole answer to what you were asked; when left out, the text that you write in this step.',
        },
      },
      additionalProperties: false,
    },
  },
  healthCheck: {
    description: 'Says which run and step this is, who you are, and which skills and delegates you have.',
    inputSchema: noArguments,
  },
}

const todoArgs = z.strictObject({
  newTodos: z.array(z.string().min(1).max(TITLE_CHARACTERS_MAX)).max(TODOS_MAX).default([]),
  completedTodos: z.array(z.int().min(0)).max(TODOS_MAX).default([]),
})
const completionArgs = z.strictObject({ result: z.string().optional() })
const empty = z.strictObject({})

/** The tools that a model of this expert reads, with their whole names. */
export function baseTools(expert: BaseExpert): readonly ToolDefinition[] {
  return (expert.base?.tools ?? []).map((name) => ({ name: `${BASE}/${name}`, ...DEFINITIONS[name] }))
}

/** Which of these tools a call is of; undefined for any other call. */
function baseToolOf(expert: BaseExpert, { name }: ToolCallPart): BaseToolName | undefined {
  return expert.base?.tools.find((tool) => name === `${BASE}/${tool}`)
}

/** Whether a call is answered here: such a call acts on nothing, so it asks nobody. */
export function isBaseCall(expert: BaseExpert, call: ToolCallPart): boolean {
  return baseToolOf(expert, call) !== undefined
}

/** What the calls of a generation do to a list of todos, in the order in which the model wrote them. */
export function baseTurn(ground: BaseGround, before: readonly Todo[], parts: readonly GeneratedPart[]): BaseTurn {
  const calls = parts.filter((part) => part.type === 'toolCall')
  const ours = calls.flatMap((call) => {
    const tool = baseToolOf(ground.expert, call)
    return tool === undefined ? [] : [{ call, tool }]
  })
  const answers = new Map<string, BaseAnswer>()
  let todos = before
  for (const { call, tool } of ours) {
    const turn = answerCall(ground, todos, tool, call)
    if (turn === undefined) continue
    todos = turn.todos
    answers.set(call.callId, turn.answer)
  }
  // The end is judged last: whatever the same step adds to the list counts.
  let completion: string | null = null
  for (const { call, tool } of ours) {
    if (tool !== 'attemptCompletion') continue
    const isAlone = calls.length === ours.length
    const attempt = attemptCompletion(todos, isAlone, call, textOf(parts))
    answers.set(call.callId, attempt.answer)
    completion ??= attempt.completion
  }
  return { todos, answers, completion }
}

function answerCall(
  ground: BaseGround,
  todos: readonly Todo[],
  tool: BaseToolName,
  call: ToolCallPart,
): { readonly todos: readonly Todo[]; readonly answer: BaseAnswer } | undefined {
  switch (tool) {
    case 'todo':
      return changeTodos(todos, call)
    case 'clearTodo': {
      const fault = faultOf(empty, call)
      return fault === undefined ? { todos: [], answer: says({ todos: [] }) } : { todos, answer: fault }
    }
    case 'healthCheck':
      return { todos, answer: faultOf(empty, call) ?? says(health(ground)) }
    case 'attemptCompletion':
      return undefined
    default:
      return unreachable(tool)
  }
}

/** All of a call's changes, or none. */
function changeTodos(todos: readonly Todo[], call: ToolCallPart) {
  const args = todoArgs.safeParse(call.args ?? {})
  if (!args.success) return { todos, answer: misfit(call, args.error) }
  const { newTodos, completedTodos } = args.data
  if (todos.length + newTodos.length > TODOS_MAX)
    return { todos, answer: refuses(`A list holds at most ${TODOS_MAX} todos; nothing was changed.`) }
  const added = newTodos.map((title, i) => ({ id: todos.length + i, title, completed: false }))
  const listed = [...todos, ...added]
  const unknown = completedTodos.find((id) => id >= listed.length)
  if (unknown !== undefined) return { todos, answer: refuses(`There is no todo ${unknown}; nothing was changed.`) }
  const changed = listed.map((todo) => (completedTodos.includes(todo.id) ? { ...todo, completed: true } : todo))
  return { todos: changed, answer: says({ todos: changed.map(printTodo) }) }
}

function attemptCompletion(
  todos: readonly Todo[],
  isAlone: boolean,
  call: ToolCallPart,
  text: string,
): { readonly answer: BaseAnswer; readonly completion: string | null } {
  const args = completionArgs.safeParse(call.args ?? {})
  if (!args.success) return { answer: misfit(call, args.error), completion: null }
  const remaining = todos.filter((todo) => !todo.completed)
  if (remaining.length > 0) return { answer: says({ remainingTodos: remaining.map(printTodo) }), completion: null }
  if (!isAlone) {
    const why = 'This step calls other tools, whose results you have not read. Read them, then complete.'
    return { answer: refuses(why), completion: null }
  }
  const result = args.data.result ?? text
  if (result.trim() === '') return { answer: refuses('There is no result: write it into result.'), completion: null }
  return { answer: says(COMPLETED), completion: result }
}

const COMPLETED = { completed: true } as const

/** Whether a call with this result ended its run: its model attempted completion, and might. */
export function completes({ name, structured, isError }: ToolResultPart): boolean {
  return name === `${BASE}/attemptCompletion` && !isError && canonical(structured ?? null) === canonical(COMPLETED)
}

function printTodo({ id, title, completed }: Todo): Json {
  return { id, title, completed }
}

function health({ expert, runId, stepNumber }: BaseGround): Json {
  return {
    status: 'ok',
    runId,
    step: stepNumber,
    expert: expert.key,
    skills: Object.keys(expert.skills),
    delegates: Object.keys(expert.delegates),
  }
}

function faultOf(shape: z.ZodType, call: ToolCallPart): BaseAnswer | undefined {
  const { error } = shape.safeParse(call.args ?? {})
  return error === undefined ? undefined : misfit(call, error)
}

function misfit({ name }: ToolCallPart, error: z.ZodError): BaseAnswer {
  const [issue] = error.issues
  const at = issue?.path.length ? `${issue.path.join('.')}: ` : ''
  return refuses(`The arguments of ${name} do not fit its schema: ${at}${issue?.message ?? 'they are malformed'}.`)
}

function says(value: Json): BaseAnswer {
  return { text: JSON.stringify(value), structured: value, isError: false }
}

function refuses(text: string): BaseAnswer {
  return { text, isError: true }
}

/** The recorded result of a call with this answer. */
export function baseResult({ callId, name }: ToolCallPart, answer: BaseAnswer): ToolResultPart {
  const { text, structured, isError } = answer
  const result = { type: 'toolResult', callId, name, content: [{ type: 'text', text }], isError } as const
  return structured === undefined ? result : { ...result, structured }
}
