/** Interactive tools as expert files and skill files write them: a question that the job's human answers. */
import * as z from 'zod'
import type { InteractiveTool } from './expert.ts'
import type { QuestionKind } from './event.ts'
import type { JsonObject } from './json.ts'
import type { Complaint } from './toml-file.ts'
import { parseToolSchema } from './tool-schema.ts'

const KINDS: readonly QuestionKind[] = ['confirm', 'ask', 'choose', 'schema']

/** Seconds that a human may take; at most a year. */
export const timeoutSchema = z.number().int().min(1).max(31_536_000)

export const toolShape = {
  /** The origin's files may say it again; it is the table's own. */
  name: z.string().optional(),
  kind: z
    .string()
    .refine((text) => text.startsWith('{') || (KINDS as readonly string[]).includes(text), {
      error: 'must be "confirm", "ask", "choose", or the JSON Schema of the answer as text',
    })
    .optional(),
  description: z.string().max(2048).optional(),
  /** JSON text: the schema of what the model says when it asks. */
  inputJsonSchema: z.string().optional(),
  /** JSON text: the schema of the answer, for kind "schema". */
  answerJsonSchema: z.string().optional(),
  /** What a `choose` offers; without it, the model names the options. */
  options: z.array(z.string().min(1).max(256)).min(2).max(64).optional(),
  timeout: timeoutSchema.optional(),
}
const toolSchema = z.strictObject(toolShape)
export type ToolText = z.infer<typeof toolSchema>

export const toolsSchema = z.record(
  z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'is not a name of a tool: use letters, digits, "_" and "-", at most 64'),
  toolSchema,
)

/** What is wrong with tools that have the right shape. */
export function checkTools(tools: Readonly<Record<string, ToolText>>, at: readonly string[]): readonly Complaint[] {
  return Object.entries(tools).flatMap(([name, tool]): Complaint[] => {
    const path = [...at, name]
    const complaints: Complaint[] = []
    if (tool.name !== undefined && tool.name !== name)
      complaints.push({ path: [...path, 'name'], words: `differs from the name of its table, "${name}"; remove it` })
    const input = tool.inputJsonSchema === undefined ? {} : parseToolSchema(tool.inputJsonSchema, 'arguments')
    if (typeof input === 'string') complaints.push({ path: [...path, 'inputJsonSchema'], words: input })
    const written = answerText(tool)
    const answer = written === undefined ? {} : parseToolSchema(written, 'answer')
    const field = tool.answerJsonSchema === undefined ? 'kind' : 'answerJsonSchema'
    if (typeof answer === 'string') complaints.push({ path: [...path, field], words: answer })
    if (tool.options !== undefined && tool.kind !== 'choose')
      complaints.push({ path: [...path, 'options'], words: 'belongs to kind "choose"; set the kind or remove it' })
    if (tool.options !== undefined && new Set(tool.options).size < tool.options.length)
      complaints.push({ path: [...path, 'options'], words: 'has an option twice; remove one' })
    if (tool.kind === 'schema' && tool.answerJsonSchema === undefined)
      complaints.push({ path, words: 'must have an answerJsonSchema, since its kind is "schema"' })
    if (tool.answerJsonSchema !== undefined && tool.kind !== undefined && tool.kind !== 'schema')
      complaints.push({ path: [...path, 'answerJsonSchema'], words: 'belongs to kind "schema"; remove one of the two' })
    return complaints
  })
}

function answerText(tool: ToolText): string | undefined {
  return tool.answerJsonSchema ?? (tool.kind?.startsWith('{') === true ? tool.kind : undefined)
}

/** The tools in our types; they must have passed `checkTools`. */
export function printTools(tools: Readonly<Record<string, ToolText>>): Readonly<Record<string, InteractiveTool>> {
  return Object.fromEntries(Object.entries(tools).map(([name, tool]) => [name, printTool(tool)]))
}

function printTool(tool: ToolText): InteractiveTool {
  const answer = answerText(tool)
  const kind = answer === undefined ? (KINDS.find((known) => known === tool.kind) ?? 'ask') : 'schema'
  const offered = tool.options === undefined ? null : { type: 'string', enum: tool.options }
  return {
    kind,
    description: tool.description ?? '',
    inputSchema:
      tool.inputJsonSchema === undefined
        ? inputOf(kind, offered !== null)
        : accepted(tool.inputJsonSchema, 'arguments'),
    answerSchema: answer === undefined ? offered : accepted(answer, 'answer'),
    ...(tool.timeout === undefined ? {} : { timeoutSeconds: tool.timeout }),
  }
}

function accepted(text: string, of: 'arguments' | 'answer'): JsonObject {
  const schema = parseToolSchema(text, of)
  if (typeof schema === 'string') throw new TypeError(`a checked schema ${schema}`)
  return schema
}

/** What the model says when the author did not: a question, and the options of a choice that are not fixed. */
function inputOf(kind: QuestionKind, offered: boolean): JsonObject {
  const question = { type: 'string', description: 'What to ask the human, in one or two sentences.' }
  if (kind !== 'choose' || offered) return { type: 'object', properties: { question }, required: ['question'] }
  const options = {
    type: 'array',
    items: { type: 'string' },
    minItems: 2,
    maxItems: 64,
    description: 'What to choose from.',
  }
  return { type: 'object', properties: { question, options }, required: ['question', 'options'] }
}
