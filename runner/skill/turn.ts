/** One call under way, as far as its server asks a human in it: what is known is said, what is not ends the turn. */
import { ProtocolError, ProtocolErrorCode, type ElicitResult } from '@modelcontextprotocol/client'
import {
  ELICITATIONS_MAX,
  readElicitation,
  sameWords,
  type Elicitation,
  type Elicited,
} from '../../schema/elicitation.ts'
import type { Json } from '../../schema/json.ts'

export class Turn {
  readonly #elicited: readonly Elicited[] | null
  readonly #put: Elicited[] = []
  readonly #asks = Promise.withResolvers<Elicitation>()

  /** `elicited` is what the call asked before, answered; null when it may ask nobody. */
  constructor(elicited: readonly Elicited[] | null) {
    this.#elicited = elicited
  }

  /** Resolves with what must be asked before the call can go on. */
  get asks(): Promise<Elicitation> {
    return this.#asks.promise
  }

  /** Answers a server, or never does: then the call is given up. Throws a ProtocolError for what nobody can be asked. */
  async answer(params: Json): Promise<ElicitResult> {
    const asked = readElicitation(params)
    if (typeof asked === 'string') throw refusal(`Nobody can be asked this: ${asked}.`)
    if (this.#elicited === null) throw refusal('A call that may be made only once cannot stop to ask a human.')
    const known = sameWords(this.#elicited, asked)
    const reply = known[sameWords(this.#put, asked).length]
    if (reply?.reply) {
      this.#put.push(reply)
      return reply.reply as ElicitResult // the form's members are what the server asked for, or its schema forbade them
    }
    if (this.#elicited.length >= ELICITATIONS_MAX)
      throw refusal(`One call may ask ${ELICITATIONS_MAX} times; its words must be the same when it is made again.`)
    this.#asks.resolve(asked)
    return new Promise<never>(() => {})
  }
}

/** The turn that a server's question belongs to: nothing in it says which call asks, so there must be only one. */
export function onlyTurn(turns: ReadonlySet<Turn>): Turn {
  const [turn, another] = turns
  if (turn === undefined) throw refusal('A human is asked only in the course of a call.')
  if (another !== undefined)
    throw refusal('Other calls of this skill are under way, so nobody knows which one asks: make this call alone.')
  return turn
}

function refusal(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidRequest, message)
}
