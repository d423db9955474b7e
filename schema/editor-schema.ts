/** The JSON Schema of the expert file, for editors: printed from the parser's own shape. */
import * as z from 'zod'
import { fileSchema } from './expert-file.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'

export const EDITOR_SCHEMA_NAME = 'senmon.schema.json'

/** What an editor shows beside a key. A key means the same wherever it stands, or is written with its table. */
const WORDS: Readonly<Record<string, string>> = {
  'file.model': 'The model of every expert here that names none: provider/model.',
  'file.provider': 'The provider of models that are named without one.',
  'file.maxSteps': 'The limit of every expert here that names none.',
  'provider.envPath': 'Read and left aside: secrets are set with `senmon secret set`.',
  'file.envPath': 'Read and left aside: secrets are set with `senmon secret set`.',
  'file.runtime': 'Read and left aside: Senmon runs it.',
  'file.temperature': 'Read and left aside: a model samples as its provider lets it by default.',
  'file.perstackApiBaseUrl': 'Read and left aside: an expert is published where `npm publish` is told to.',
  'file.experts': 'The experts of this package, by name. One is named as the package.',
  providerName: 'Such as "anthropic".',
  version: "The package's version.",
  minRuntimeVersion: 'The oldest Senmon that this expert works with.',
  description: 'What a delegator, or the model, sees of it.',
  instruction: 'What the expert is told; private to it. At most 20 KiB.',
  model: "provider/model; without it, the file's or the job's.",
  maxSteps: 'The most generations that one run may take.',
  delegates: 'Expert keys: "name", "@scope/name@^2", or another expert of this file.',
  tags: 'Words to be found by.',
  approvals: 'Calls that a human must approve before they are made.',
  'approvals.tool': 'A glob over the tool as the model reads it: "shell/exec", "shell/*", "delegate/reader".',
  'approvals.args': 'A glob for each argument that must match: command = "git push*".',
  'approvals.edits': 'The human may approve other arguments than the model wrote.',
  budget: 'What one run may cost, and all that it delegates with it; when it is used up, the job asks.',
  compaction: 'When its conversation is replaced by a summary, and what stays as it was.',
  at: "The share of the model's window at which that is done: 0.1 to 0.95, 0.8 by default.",
  keepSteps: 'How many of the last steps stay as they are: 1 to 50, 1 by default.',
  costUsd: 'US dollars, by the prices that the server knows.',
  inputTokens: 'Tokens that models read.',
  cachedInputTokens: 'Tokens that models read from a cache.',
  outputTokens: 'Tokens that models write; at least 256.',
  steps: 'Generations of the run and of its delegates.',
  toolCalls: 'Calls that models make, delegations and questions among them.',
  wallSeconds: 'Time in which a machine works on it; waiting for humans is free.',
  outputJsonSchema: "JSON Schema, as text, that the expert's result must fit.",
  outputRetries: 'How often the model may answer again when its result does not fit; 2 by default.',
  base: 'The base tools that it has, by name or glob: "base/todo", "base/*"; [] for none, all without the key.',
  'approvals.timeout': 'Seconds that the human may take; after that the call is denied.',
  'tools.timeout': 'Seconds that the human may take; after that the model reads that no answer came.',
  reasoningBudget: 'How much the model may think before it answers: none, minimal, low, medium, high, or tokens.',
  maxRetries: 'How often a generation that failed is tried again; 4 by default.',
  timeout: 'Milliseconds that one generation may take, retries included; half an hour by default.',
  skills: 'Where the tools come from, by the name that prefixes them.',
  type: 'The kind of skill.',
  rule: 'How the expert shall use the skill: part of its system prompt.',
  pick: 'The only tools on offer.',
  omit: 'Tools that are not on offer.',
  command: 'May be "npx", as other runtimes write it.',
  packageName: 'The npm package, with a version or range: "@senmon/files@^1".',
  args: 'Arguments of the program.',
  requiredEnv: 'Secrets of the application that the skill gets, as variables or in its headers, and no others.',
  allowedDomains: 'Hosts that the skill may reach: "api.example.com", "*.example.com".',
  questionTimeout: 'Seconds that the human may take to answer what the skill asks in a call.',
  effects: 'By tool or glob: "pure" changes nothing, "idempotent" may be made again, "once" never unasked.',
  lazyInit: 'Start on first use (the default), or when the run starts.',
  pin: 'Freeze the tools that it offers at publish (the default); false for one whose tools depend on its environment.',
  required: 'A run fails when this skill does; by default the model is told and goes on.',
  endpoint: 'The https URL of the MCP server.',
  headers: 'Sent with each request. A value takes secrets as "${NAME}", with NAME in requiredEnv.',
  tools: 'The questions that the expert may put to its human, by name.',
  name: 'The name of the table again, as other runtimes write it.',
  kind: 'confirm, ask, choose, or the JSON Schema of the answer as text.',
  inputJsonSchema: 'JSON Schema, as text, of what the expert says when it asks.',
  answerJsonSchema: 'JSON Schema, as text, of the answer, for kind "schema".',
  options: 'What a choice offers; without it, the expert names the options.',
}

/** The schema as JSON text, with a line feed at its end. What the grammar refuses with a reason is left out of it. */
export function printEditorSchema(): string {
  const printed = JSON.parse(
    JSON.stringify(z.toJSONSchema(fileSchema, { io: 'input', target: 'draft-7', unrepresentable: 'any' })),
  ) as JsonObject // what JSON.parse gave
  const { $schema, ...shape } = described(printed, 'file')
  const head = { $schema: $schema ?? null, title: 'Senmon expert file', description: 'senmon.toml: docs/experts.md' }
  return `${JSON.stringify({ ...head, ...shape }, undefined, 2)}\n`
}

/** The schema with words at its keys; `table` names the table that they stand in, which may have words of its own. */
function described(schema: JsonObject, table: string): JsonObject {
  return Object.fromEntries(
    Object.entries(schema).map(([name, value]): [string, Json] => {
      if (name === 'properties' && isJsonObject(value)) return [name, describedKeys(value, table)]
      if (Array.isArray(value))
        return [name, value.map((item: Json) => (isJsonObject(item) ? described(item, table) : item))]
      return [name, isJsonObject(value) ? described(value, table) : value]
    }),
  )
}

function describedKeys(properties: JsonObject, table: string): JsonObject {
  return Object.fromEntries(
    Object.entries(properties)
      .filter(([, value]) => !isRefused(value))
      .map(([key, value]): [string, Json] => {
        const description = WORDS[`${table}.${key}`] ?? WORDS[key]
        if (!isJsonObject(value)) return [key, value]
        return [key, { ...(description === undefined ? {} : { description }), ...described(value, key) }]
      }),
  )
}

/** `z.never()`: a key that is known only to be refused with a reason. */
function isRefused(schema: Json): boolean {
  return isJsonObject(schema) && isJsonObject(schema['not']) && Object.keys(schema['not']).length === 0
}
