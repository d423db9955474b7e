/**
 * A call in the newer line of MCP: a server that must know something from a human answers with its questions, and goes
 * on when the call is made again with the answers and its own words.
 */
import {
  isInputRequiredResult,
  ProtocolError,
  ProtocolErrorCode,
  type CallToolResult,
  type Client,
  type InputRequiredResult,
  type RequestOptions,
} from '@modelcontextprotocol/client'
import {
  ELICITATIONS_MAX,
  inputResponsesOf,
  readElicitation,
  RESUMPTION_KEY_CHARS_MAX,
  RESUMPTION_STATE_CHARS_MAX,
  type Elicited,
} from '../../schema/elicitation.ts'
import { schemaFault } from '../../schema/json-schema.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import type { ToolDefinition } from '../../schema/message.ts'
import type { Asked, SkillQuestion } from '../run/perform.ts'
import { cannotDo, MADE_ONCE, tooManyQuestions } from '../../schema/server-request.ts'

export interface NewerCall {
  readonly client: Client
  readonly tool: ToolDefinition
  readonly args: JsonObject
  readonly meta: { readonly _meta?: Record<string, unknown> }
  /** What the call asked before, answered; null when it may ask nobody. */
  readonly elicited: readonly Elicited[] | null
  readonly options: RequestOptions
}

/** The tool's result, or what a human must say before there is one. Throws a ProtocolError for what nobody can be asked. */
export async function callNewer(call: NewerCall): Promise<{ readonly result: CallToolResult } | SkillQuestion> {
  const { client, tool, args, meta, elicited, options } = call
  const params = { name: tool.name, arguments: args, ...meta, ...inputResponsesOf(elicited ?? []) }
  // The library would hold its questions, too, against the tool's output schema; without one it leaves both to us.
  const { name, inputSchema } = tool
  const toolDefinition = { name, inputSchema: inputSchema as { type: 'object' } } // as the server listed it
  const result: CallToolResult | InputRequiredResult = await client.callTool(params as never, {
    ...options,
    toolDefinition,
    allowInputRequired: true,
  })
  if (isInputRequiredResult(result)) return questionsIn(result, elicited)
  checkOutput(tool, result)
  return { result }
}

/** What a server asks for in place of a result. */
export function questionsIn(result: InputRequiredResult, elicited: readonly Elicited[] | null): SkillQuestion {
  const { inputRequests = {}, requestState = null } = result
  const requests = Object.entries(inputRequests)
  if (requests.length === 0) throw refusal('It wants to be called again without asking anything, which is not done.')
  const asks = requests.map(([key, { method, ...request }]): Asked => {
    if (method !== 'elicitation/create') throw refusal(`${cannotDo(method)}.`)
    const asked = readElicitation(('params' in request ? request.params : null) as Json) // it came as JSON
    if (typeof asked === 'string') throw refusal(`Nobody can be asked this: ${asked}.`)
    if (key.length > RESUMPTION_KEY_CHARS_MAX) throw refusal('It gives a question too long a name.')
    return { asked, handle: { key, state: requestState } }
  })
  if (requestState !== null && requestState.length > RESUMPTION_STATE_CHARS_MAX)
    throw refusal(`It wants more than ${RESUMPTION_STATE_CHARS_MAX} characters of its own kept for it.`)
  if (elicited === null) throw refusal(MADE_ONCE)
  if (elicited.length + asks.length > ELICITATIONS_MAX) throw refusal(tooManyQuestions)
  return { asks, waits: false }
}

function checkOutput({ name, outputSchema }: ToolDefinition, result: CallToolResult): void {
  if (outputSchema === undefined || result.isError === true) return
  const { structuredContent } = result
  const fault = structuredContent === undefined ? 'is missing' : schemaFault(outputSchema, structuredContent as Json) // it came as JSON
  if (fault !== undefined)
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `The structured content of ${name} ${fault}.`)
}

function refusal(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidRequest, message)
}
