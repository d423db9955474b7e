/**
 * The pages of a server's list of resources, as whoever relays frames sees them: a further page is part of the call that
 * asked for the first, and is asked for with the server's own words, or it is no page.
 */
import { isJsonObject, type Json } from './json.ts'

/** Pages that may be open at once: more than calls that list do anybody any good. */
const OPEN_MAX = 64

export class ResourcePages {
  /** Requests that were passed on and have no answer yet. */
  readonly #asked = new Set<string>()
  /** Cursors that the server named and nobody has used. */
  readonly #next = new Set<string>()

  /** Whether the frame asks for a page that the server's last answer named; each is asked for once. */
  goesOn(frame: Json): boolean {
    const cursor = cursorIn(frame)
    return cursor !== undefined && this.#next.delete(cursor)
  }

  /** Takes a frame that is passed on to the server. */
  ask(frame: Json): void {
    const id = isJsonObject(frame) && frame['method'] === LIST ? idOf(frame['id']) : undefined
    if (id !== undefined && this.#asked.size < OPEN_MAX) this.#asked.add(id)
  }

  /** Takes what the server says. */
  hear(frame: Json): void {
    if (!isJsonObject(frame) || frame['method'] !== undefined) return
    const id = idOf(frame['id'])
    if (id === undefined || !this.#asked.delete(id)) return
    const cursor = isJsonObject(frame['result']) ? frame['result']['nextCursor'] : undefined
    if (typeof cursor === 'string' && this.#next.size < OPEN_MAX) this.#next.add(cursor)
  }
}

const LIST = 'resources/list'

function cursorIn(frame: Json): string | undefined {
  if (!isJsonObject(frame) || frame['method'] !== LIST || idOf(frame['id']) === undefined) return undefined
  const cursor = isJsonObject(frame['params']) ? frame['params']['cursor'] : undefined
  return typeof cursor === 'string' ? cursor : undefined
}

function idOf(id: Json | undefined): string | undefined {
  return typeof id === 'string' || typeof id === 'number' ? JSON.stringify(id) : undefined
}
