/**
 * The structured result of an expert: which text is one, and what its model reads when it is none. Runner and control
 * plane ask here, each for itself, so neither takes the other's word for it.
 */
import { isDeeper, schemaFault } from './json-schema.ts'
import type { Json, JsonObject } from './json.ts'

/** What an expert's result must be, and how often its model may try again. */
export interface OutputRule {
  readonly schema: JsonObject
  readonly retries: number
}

export const OUTPUT_RETRIES = 2
/** In UTF-16 units of JSON text. */
const OUTPUT_LENGTH_MAX = 256 * 1024
const OUTPUT_DEPTH_MAX = 32
const FENCED = /^[ \t]*```[^\n`]*\n([\s\S]*?)^[ \t]*```[ \t]*$/gm

export type Output = { readonly value: Json } | { readonly fault: string }

export function isOutputFault(output: Output): output is { readonly fault: string } {
  return 'fault' in output
}

/** The value that a result's text holds: all of it is JSON, or it has exactly one fenced block, which is. */
export function readOutput(rule: OutputRule, text: string): Output {
  if (text.length > OUTPUT_LENGTH_MAX) return { fault: `it is longer than ${OUTPUT_LENGTH_MAX} characters` }
  const value = valueIn(text)
  if (value === undefined) return { fault: 'it is not JSON' }
  if (isDeeper(value, OUTPUT_DEPTH_MAX)) return { fault: `it is nested deeper than ${OUTPUT_DEPTH_MAX}` }
  const fault = schemaFault(rule.schema, value)
  return fault === undefined ? { value } : { fault: `it ${fault}` }
}

/** Two fenced blocks are none: nobody can say which of them is meant. */
function valueIn(text: string): Json | undefined {
  const whole = parsed(text)
  if (whole !== undefined) return whole
  const [block, ...others] = text.matchAll(FENCED)
  return block?.[1] === undefined || others.length > 0 ? undefined : parsed(block[1])
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json // JSON.parse gives JSON
  } catch {
    return undefined
  }
}

/** What a model reads whose result was rejected. */
export function rejectionOf(fault: string): string {
  return `That is not the answer that is asked for: ${fault}. Answer again, with the JSON and nothing else.`
}

/** What is owed after a run's last text: nothing when it fits or when no try is left, else what the model reads. */
export function rejectionOwed(rule: OutputRule | undefined, text: string, rejections: number): string | undefined {
  if (rule === undefined || rejections >= rule.retries) return undefined
  const output = readOutput(rule, text)
  return isOutputFault(output) ? rejectionOf(output.fault) : undefined
}

/** What an expert is told about its result. */
export function outputInstruction({ schema }: OutputRule): string {
  return [
    '# Your answer',
    'When you are done, answer with JSON that fits this JSON Schema, and with nothing else:',
    `\`\`\`json\n${JSON.stringify(schema, null, 2)}\n\`\`\``,
  ].join('\n\n')
}
