/** The machine's open requests: the supervisor's own and the runner's, under ids that cannot meet. */
import type { ReplyLine } from '../../schema/control.ts'
import { isErrorCode, PlatformError } from '../../schema/error.ts'
import type { Json } from '../../schema/json.ts'

type Own = { readonly resolve: (value: Json) => void; readonly reject: (error: PlatformError) => void }

export class Requests {
  #lastId = 0
  readonly #own = new Map<number, Own>()
  readonly #runner = new Map<number, number>()

  /** An id for a request of the runner, which knows it as `runnerId`. */
  relay(runnerId: number): number {
    this.#runner.set(++this.#lastId, runnerId)
    return this.#lastId
  }

  /** An id for a request of our own, and its answer; a refusal rejects with the reply's code. */
  ask(): { readonly id: number; readonly answer: Promise<Json> } {
    const { promise, resolve, reject } = Promise.withResolvers<Json>()
    // A machine may end while it asks.
    promise.catch(() => {})
    this.#own.set(++this.#lastId, { resolve, reject })
    return { id: this.#lastId, answer: promise }
  }

  /** The reply for the runner, under its own id; undefined when it was ours, or is nobody's. */
  settle(reply: ReplyLine): ReplyLine | undefined {
    const runnerId = this.#runner.get(reply.id)
    if (runnerId !== undefined) {
      this.#runner.delete(reply.id)
      return { ...reply, id: runnerId }
    }
    const own = this.#own.get(reply.id)
    this.#own.delete(reply.id)
    if (reply.ok) own?.resolve(reply.value)
    else {
      const { code, message } = reply.error
      own?.reject(new PlatformError(isErrorCode(code) ? code : 'internal', message))
    }
    return undefined
  }
}
