/**
 * How a client and a server come to terms. MCP has two lines: in the older one (up to 2025-11-25) they greet each other
 * with `initialize`, and a server asks by requests of its own; in the newer one (2026-07-28) a client looks with
 * `server/discover`, and a server asks in its answers. A program is greeted in the older line first, which every program
 * bears; one that refuses it, in the newer. Over HTTP it is the other way round: there a server of the older line
 * refuses what it does not know, while one that speaks both can ask its human in the newer line alone.
 */
import {
  Client,
  ProtocolError,
  ProtocolErrorCode,
  SdkError,
  SdkErrorCode,
  type ElicitResult,
} from '@modelcontextprotocol/client'
import type { Clock } from '../../schema/clock.ts'
import type { Json } from '../../schema/json.ts'
import type { LockedRemoteSkill, LockedStdioSkill } from '../../schema/lock.ts'
import { cannotDo, ELICIT } from '../../schema/server-request.ts'
import type { FrameTransport } from './frame-transport.ts'
import { outputValidator } from './output-validator.ts'

export type MadeOf = (LockedStdioSkill | LockedRemoteSkill)['type']

const NEWER = '2026-07-28'
/** What a server that speaks the newer line alone says to `initialize`. */
const REFUSES_OLDER: ReadonlySet<number> = new Set([-32_022, ProtocolErrorCode.MethodNotFound])
/** A server of the older line may say nothing at all to a method that it does not know. */
export const LOOK_MS_MAX = 3000
/** The client library has timers of its own; ours, on the injected clock, always fire first. */
const NEVER_MS = 2 ** 31 - 1

export interface Greeting {
  readonly type: MadeOf
  readonly clock: Clock
  readonly signal: AbortSignal
  /** A line to the server, which takes the place of the one before. */
  readonly transport: () => FrameTransport
  /** What the server asks a human while it waits. */
  readonly elicit: (params: Json) => Promise<ElicitResult>
}

/** A client that has come to terms with the server; rejects with what the server said last. */
export async function greet(greeting: Greeting): Promise<Client> {
  if (greeting.type === 'mcpSseSkill') return greetOlder(greeting)
  if (greeting.type === 'mcpHttpSkill') return (await look(greeting)) ?? (await greetOlder(greeting))
  try {
    return await greetOlder(greeting)
  } catch (error) {
    if (!(error instanceof ProtocolError) || !REFUSES_OLDER.has(error.code)) throw error
    return greetNewer(greeting)
  }
}

/** Undefined when the server is none of the newer line, as far as it says. */
async function look(greeting: Greeting): Promise<Client | undefined> {
  const enough = new AbortController()
  const silent = greeting.clock.sleep(LOOK_MS_MAX, AbortSignal.any([enough.signal, greeting.signal])).catch(() => {})
  try {
    return await Promise.race([greetNewer(greeting), silent.then(() => undefined)])
  } catch (error) {
    if (error instanceof SdkError && error.code !== SdkErrorCode.ConnectionClosed) return undefined
    throw error
  } finally {
    enough.abort()
    greeting.signal.throwIfAborted()
  }
}

async function greetOlder({ transport, signal, elicit }: Greeting): Promise<Client> {
  const client = new Client(US, CAN)
  client.setRequestHandler(ELICIT, async ({ params }) => elicit(params as Json)) // it came as JSON
  // Generations are paid for and bounded by the job's own expert; a server's wishes are none of them.
  client.fallbackRequestHandler = async ({ method }) => {
    throw new ProtocolError(ProtocolErrorCode.MethodNotFound, `${cannotDo(method)}.`)
  }
  await client.connect(transport(), { timeout: NEVER_MS, signal })
  return client
}

async function greetNewer({ transport, signal }: Greeting): Promise<Client> {
  const client = new Client(US, { ...CAN, versionNegotiation: { mode: { pin: NEWER } } })
  await client.connect(transport(), { timeout: NEVER_MS, signal })
  return client
}

const US = { name: 'senmon', version: '1' }
const CAN = { capabilities: { elicitation: { form: {}, url: {} } }, jsonSchemaValidator: outputValidator }
