/** The content that one job may read, and what its machine sends to keep: nothing beyond is ever shown to it. */
import { BLOB_CHUNK_BYTES, type BlobLine, type BlobValue } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { isJsonObject } from '../../schema/json.ts'
import type { ContentStore } from '../workspace/content-store.ts'

/** One file of a workspace, at most: it is held in memory until its hash is known. */
export const CONTENT_BYTES_MAX = 256 * 1024 * 1024

export class HeldContent {
  readonly #content: ContentStore
  readonly #known = new Set<string>()
  /** Directories of which everything is known: a step's new tree shares most of its directories with the last. */
  readonly #walked = new Set<string>()
  #roots: readonly Sha256[]
  #incoming: { readonly hash: Sha256; readonly chunks: Uint8Array[]; sizeBytes: number } | undefined
  #last: { readonly hash: string; readonly bytes: Uint8Array } | undefined

  /** `trees` are the job's own: its workspace and its input. */
  constructor(content: ContentStore, trees: readonly (Sha256 | null)[]) {
    this.#content = content
    this.#roots = trees.filter((tree) => tree !== null)
  }

  /** Takes a `blob` line. Throws `protocol_breach` on a gap, on too much, and on content of another hash. */
  async receive(line: BlobLine): Promise<void> {
    const bytes = Buffer.from(line.base64, 'base64')
    const incoming = line.offset === 0 ? { hash: line.hash, chunks: [], sizeBytes: 0 } : this.#incoming
    if (incoming === undefined || incoming.hash !== line.hash || incoming.sizeBytes !== line.offset)
      throw new PlatformError('protocol_breach', `A chunk of ${line.hash} at ${line.offset} does not follow the last.`)
    incoming.chunks.push(bytes)
    incoming.sizeBytes += bytes.length
    this.#incoming = line.last ? undefined : incoming
    if (incoming.sizeBytes > CONTENT_BYTES_MAX)
      throw new PlatformError('protocol_breach', `Content ${line.hash} is above ${CONTENT_BYTES_MAX} bytes.`)
    if (!line.last) return
    const whole = incoming.chunks.length === 1 ? bytes : Buffer.concat(incoming.chunks)
    if (sha256(whole) !== line.hash) throw new PlatformError('protocol_breach', `Content is not ${line.hash}.`)
    await this.#content.put(whole)
    this.#known.add(line.hash)
  }

  /** A tree that a machine says its workspace is. Throws `protocol_breach` when it names what the job does not hold. */
  async admit(treeHash: Sha256): Promise<void> {
    await this.#learnRoots()
    await this.#walk(treeHash, (hash) => {
      if (!this.#known.has(hash))
        throw new PlatformError('protocol_breach', `Tree ${treeHash} names ${hash}, not sent.`)
    })
  }

  /** One chunk, as the reply to a `blob` request. Throws `content_missing` for what the job does not hold. */
  async chunk(hash: string, offset: number): Promise<BlobValue> {
    await this.#learnRoots()
    if (!this.#known.has(hash)) throw new PlatformError('content_missing', `This job holds no content ${hash}.`)
    const bytes = this.#last?.hash === hash ? this.#last.bytes : await this.#content.get(hash as Sha256) // is known
    const end = offset + BLOB_CHUNK_BYTES
    const last = end >= bytes.length
    this.#last = last ? undefined : { hash, bytes }
    return { base64: Buffer.from(bytes.subarray(offset, end)).toString('base64'), last }
  }

  async #learnRoots(): Promise<void> {
    const roots = this.#roots
    this.#roots = []
    for (const root of roots) await this.#walk(root, (hash) => void this.#known.add(hash))
  }

  /** Calls `see` for the tree and all that it names; what is seen already is not opened again. */
  async #walk(root: Sha256, see: (hash: string) => void): Promise<void> {
    const open: Sha256[] = [root]
    const seen = new Set<string>()
    for (let tree = open.pop(); tree !== undefined; tree = open.pop()) {
      if (seen.has(tree) || this.#walked.has(tree)) continue
      seen.add(tree)
      see(tree)
      for (const { type, hash } of parseTree(tree, await this.#content.get(tree))) {
        if (type === 'directory') open.push(hash)
        else see(hash)
      }
    }
    for (const tree of seen) this.#walked.add(tree)
  }
}

function parseTree(tree: Sha256, bytes: Uint8Array): readonly { type: 'file' | 'directory'; hash: Sha256 }[] {
  const fault = (): never => {
    throw new PlatformError('protocol_breach', `Content ${tree} is no tree.`)
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    return fault()
  }
  const entries = isJsonObject(parsed) ? parsed['entries'] : undefined
  if (!Array.isArray(entries)) return fault()
  return entries.map((entry: unknown) => {
    if (!isJsonObject(entry)) return fault()
    const { type, hash } = entry
    if ((type !== 'file' && type !== 'directory') || typeof hash !== 'string') return fault()
    return { type, hash: hash as Sha256 } // looked up by what it says, and found or not
  })
}
