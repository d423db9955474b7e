/** Content of the control plane by its hash, put together from the chunks in which it comes. */
import * as z from 'zod'
import type { BlobParams } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'

const blobValue = z.object({ base64: z.base64(), last: z.boolean() })

/** The whole content, unchecked. Throws `content_missing` when a reply is malformed, or goes on above `bytesMax`. */
export async function fetchContent(
  hash: Sha256,
  askBlob: (params: BlobParams) => Promise<Json>,
  bytesMax: number,
): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  let offset = 0
  for (;;) {
    const value = blobValue.safeParse(await askBlob({ hash, offset }))
    if (!value.success) throw new PlatformError('content_missing', `The reply with the content ${hash} is malformed.`)
    const chunk = Buffer.from(value.data.base64, 'base64')
    chunks.push(chunk)
    offset += chunk.length
    if (value.data.last) return Buffer.concat(chunks)
    if (chunk.length === 0 || offset > bytesMax)
      throw new PlatformError('content_missing', `The content ${hash} does not end.`)
  }
}
