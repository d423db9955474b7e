/** Request bodies: JSON in UTF-8, bounded in bytes and depth, or a PlatformError that says why not. */
import type { IncomingMessage } from 'node:http'
import { PlatformError } from '../../schema/error.ts'
import type { Json } from '../../schema/json.ts'

/** A job's files travel in its request: this is what they may weigh together, in base64. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024
/** Deeper JSON exhausts the stack of whatever walks it later. */
export const BODY_DEPTH_MAX = 64

const JSON_TYPE = /^application\/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?$/i

/** Throws `media_type_unsupported`, `input_too_large`, `input_invalid`. */
export async function readJson(incoming: IncomingMessage): Promise<Json> {
  const { 'content-type': type, 'content-encoding': encoding } = incoming.headers
  // No other type: a browser sends the rest across origins without asking first.
  if (type === undefined || !JSON_TYPE.test(type))
    throw new PlatformError('media_type_unsupported', 'A body must have the type application/json, in UTF-8.')
  if (encoding !== undefined && encoding !== 'identity')
    throw new PlatformError('media_type_unsupported', 'A body must not be compressed.')
  return parseJson(await readBytes(incoming))
}

function readBytes(incoming: IncomingMessage): Promise<Buffer> {
  const tooLarge = () => new PlatformError('input_too_large', `A body may have at most ${BODY_BYTES_MAX} bytes.`)
  if (Number(incoming.headers['content-length'] ?? 0) > BODY_BYTES_MAX) return Promise.reject(tooLarge())
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let sizeBytes = 0
    incoming.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length
      if (sizeBytes <= BODY_BYTES_MAX) chunks.push(chunk)
      else {
        chunks.length = 0
        reject(tooLarge())
      }
    })
    incoming.once('end', () => resolve(Buffer.concat(chunks)))
    incoming.once('error', reject)
    incoming.once('close', () => reject(new PlatformError('input_invalid', 'The body ended before it was whole.')))
  })
}

/** Throws `input_invalid`. */
export function parseJson(bytes: Uint8Array): Json {
  let value: Json
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)) as Json
  } catch (cause) {
    throw new PlatformError('input_invalid', 'The body is not JSON in UTF-8.', { cause })
  }
  // By levels rather than by recursion: the check must survive what it checks.
  let level: readonly Json[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > BODY_DEPTH_MAX)
      throw new PlatformError('input_invalid', `The body is nested deeper than ${BODY_DEPTH_MAX}.`)
    const next: Json[] = []
    for (const item of level) {
      if (typeof item !== 'object' || item === null) continue
      if (Object.hasOwn(item, '__proto__')) throw new PlatformError('input_invalid', 'The body has a key __proto__.')
      for (const member of Object.values(item)) if (typeof member === 'object' && member !== null) next.push(member)
    }
    level = next
  }
  return value
}
