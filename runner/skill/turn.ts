/** One call under way, as far as its server asks a human in it: what is known is said, what is not ends the turn. */
import { ProtocolError, ProtocolErrorCode, type ElicitResult } from '@modelcontextprotocol/client'
import { ELICITATIONS_MAX, readElicitation, sameWords, type Elicited } from '../../schema/elicitation.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import { ASKS_ALONE, cannotBeAsked, MADE_ONCE, ONLY_IN_CALL, tooManyQuestions } from '../../schema/server-request.ts'
import type { SkillQuestion } from '../run/perform.ts'

/** What a server of the older line refuses a call with until a page is visited. */
const WANTS_VISIT: number = ProtocolErrorCode.UrlElicitationRequired

export class Turn {
  /** What the call asked before, answered; null when it may ask nobody. */
  readonly elicited: readonly Elicited[] | null
  readonly #put: Elicited[] = []
  readonly #asks = Promise.withResolvers<SkillQuestion>()

  constructor(elicited: readonly Elicited[] | null) {
    this.elicited = elicited
  }

  /** Resolves with what must be asked before the call can go on. */
  get asks(): Promise<SkillQuestion> {
    return this.#asks.promise
  }

  /** Answers a server, or never does: then the call is given up. Throws a ProtocolError for what nobody can be asked. */
  async answer(params: Json): Promise<ElicitResult> {
    const asked = readElicitation(params)
    if (typeof asked === 'string') throw refusal(cannotBeAsked(asked))
    if (this.elicited === null) throw refusal(MADE_ONCE)
    const known = sameWords(this.elicited, asked)
    const reply = known[sameWords(this.#put, asked).length]
    if (reply?.reply) {
      this.#put.push(reply)
      return reply.reply as ElicitResult // the form's members are what the server asked for, or its schema forbade them
    }
    if (this.elicited.length >= ELICITATIONS_MAX) throw refusal(tooManyQuestions)
    this.#asks.resolve({ asks: [{ asked, handle: null }], waits: true })
    return new Promise<never>(() => {})
  }
}

/**
 * The first page that a server of the older line wants its human to visit before it carries out a call, which it
 * refused for it; undefined when the error is another, or its human has been asked.
 */
export function visitsIn({ code, data }: ProtocolError, { elicited }: Turn): SkillQuestion | undefined {
  const listed = code === WANTS_VISIT && isJsonObject(data as Json) ? data : undefined
  const wanted = (listed as JsonObject | undefined)?.['elicitations'] // it came as JSON
  if (!Array.isArray(wanted) || elicited === null || elicited.length >= ELICITATIONS_MAX) return undefined
  for (const one of wanted) {
    const asked = readElicitation(one as Json) // it came as JSON
    const isNew = typeof asked !== 'string' && 'url' in asked && sameWords(elicited, asked).length === 0
    if (isNew) return { asks: [{ asked, handle: null }], waits: false }
  }
  return undefined
}

/** The turn that a server's question belongs to: nothing in it says which call asks, so there must be only one. */
export function onlyTurn(turns: ReadonlySet<Turn>): Turn {
  const [turn, another] = turns
  if (turn === undefined) throw refusal(ONLY_IN_CALL)
  if (another !== undefined) throw refusal(ASKS_ALONE)
  return turn
}

function refusal(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidRequest, message)
}
