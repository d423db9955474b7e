/**
 * A bundle: one job in one file, which proves itself. Lines of JSON: what it holds, the events as the log holds them,
 * the content that they name (locks, prompts, and the trees and files of workspaces), and an end.
 *
 *   {"type":"bundle", ...}  {"type":"event", ...} ...  {"type":"content", ...} ...  {"type":"end", ...}
 *
 * It holds no path but those inside trees, which are checked name by name, and nothing is ever unpacked from it.
 *
 * BU1 Any changed byte is a fault, and the fault names the event, the content or the line.
 * BU2 Content comes only after what names it, once, and all that is named comes.
 * BU3 A reader holds one line, one content in the making, and the names.
 * BU4 No tree of a bundle holds more, path by path, than a machine restores.
 */
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { parseJson, prompt as promptShape } from './control-line.ts'
import { PlatformError } from './error.ts'
import { genesisHash, hashEvent, type JobEvent } from './event.ts'
import { faultInEvent, isKnownType } from './fact-shape.ts'
import { canonical, sha256, type Sha256 } from './hash.ts'
import { parseId, type JobId } from './id.ts'
import { isJsonObject, type Json } from './json.ts'
import { isLineFault, linesOf } from './lines.ts'
import { printTree, TREE_LIMITS } from './tree.ts'
import { parseTreeObject } from './tree-object.ts'
import { upgradeEvent, type StoredEvent } from './upgrade.ts'

export const BUNDLE_FORMAT = 1
/** How a file that holds one is named, and its type on the wire. */
export const BUNDLE_SUFFIX = '.senmon-job'
export const BUNDLE_MEDIA_TYPE = 'application/x-ndjson'
/** What one line of content holds at most, before base64. */
export const CHUNK_BYTES = 1024 * 1024

export interface BundleHead {
  readonly type: 'bundle'
  readonly format: typeof BUNDLE_FORMAT
  readonly jobId: JobId
  /** How many events it holds, and the hash of the last. */
  readonly events: number
  readonly headHash: Sha256
  /** False when the trees and files of the workspace were left out. */
  readonly files: boolean
}

export type BundleLine =
  | BundleHead
  | { readonly type: 'event'; readonly event: StoredEvent }
  /** A piece of content from `offset` on; pieces of one follow one another. */
  | {
      readonly type: 'content'
      readonly hash: Sha256
      readonly offset: number
      readonly base64: string
      readonly last: boolean
    }
  /** `hash` is over all bytes before this line. */
  | { readonly type: 'end'; readonly contents: number; readonly hash: Sha256 }

/** What content is for; the same bytes may serve as several. */
export type ContentUse = 'lock' | 'prompt' | 'tree' | 'file'

/** What a reader is given, each checked as far as what came before it tells. */
export type BundlePart =
  | BundleHead
  | { readonly type: 'event'; readonly event: JobEvent }
  | {
      readonly type: 'content'
      readonly hash: Sha256
      readonly bytes: Uint8Array
      readonly uses: readonly ContentUse[]
    }
  | { readonly type: 'end'; readonly contents: number; readonly bytes: number }

export interface BundleLimits {
  /** Of all events together, as text. */
  readonly eventBytes: number
  readonly bytes: number
  /** Of a type or shape that this version does not know: refused when false. */
  readonly unknownEvents: boolean
}

/** For whoever only looks. */
export const UNBOUNDED: BundleLimits = { eventBytes: Infinity, bytes: Infinity, unknownEvents: true }

/** Members stay in their order: a person reads the arguments of a call as its model wrote them. */
export function printBundleLine(line: BundleLine): string {
  return `${JSON.stringify(line)}\n`
}

/** The lines of one content. */
export function* contentLines(
  hash: Sha256,
  bytes: Uint8Array,
): Generator<Extract<BundleLine, { type: 'content' }>, void, void> {
  let offset = 0
  do {
    const end = Math.min(bytes.length, offset + CHUNK_BYTES)
    const base64 = Buffer.from(bytes.subarray(offset, end)).toString('base64')
    yield { type: 'content', hash, offset, base64, last: end === bytes.length }
    offset = end
  } while (offset < bytes.length)
}

/** The content that an event names, with what it is for. */
export function contentOf(event: JobEvent): readonly (readonly [hash: Sha256, use: ContentUse])[] {
  switch (event.type) {
    case 'jobCreated': {
      const { lockHash, inputTreeHash } = event.data
      return inputTreeHash === null
        ? [[lockHash, 'lock']]
        : [
            [lockHash, 'lock'],
            [inputTreeHash, 'tree'],
          ]
    }
    case 'jobForked':
      return [[event.data.lockHash, 'lock']]
    case 'generated':
    case 'compacted':
      return [[event.data.promptHash, 'prompt']]
    case 'workspaceChanged':
      return [[event.data.treeHash, 'tree']]
    default:
      return []
  }
}

/** The content that a content names. Throws `workspace_invalid` for a tree that is none. */
export function contentIn(use: ContentUse, bytes: Uint8Array): readonly (readonly [hash: Sha256, use: ContentUse])[] {
  if (use !== 'tree') return []
  return parseTreeObject(bytes, 'a bundle').map(({ hash, type }) => [hash, type === 'file' ? 'file' : 'tree'] as const)
}

/** Prints lines and the end that follows from them. */
export function bundlePrinter(): {
  print(line: Exclude<BundleLine, { type: 'end' }>): string
  end(contents: number): string
} {
  const bytes = createHash('sha256')
  return {
    print(line) {
      const text = printBundleLine(line)
      bytes.update(text)
      return text
    },
    end: (contents) => printBundleLine({ type: 'end', contents, hash: bytes.digest('hex') as Sha256 }),
  }
}

/** The parts of a bundle, in order. Throws `bundle_invalid` at the first fault, and `input_too_large`. */
export async function* readBundle(
  chunks: AsyncIterable<Uint8Array>,
  limits: BundleLimits = UNBOUNDED,
): AsyncGenerator<BundlePart, void, void> {
  const reader = new BundleReader(limits)
  for await (const line of linesOf(counted(chunks, limits))) {
    const part = reader.take(isLineFault(line) ? { fault: line.message } : line)
    if (part !== undefined) yield part
  }
  reader.end()
}

const NEWLINE = 10

async function* counted(chunks: AsyncIterable<Uint8Array>, { bytes }: BundleLimits): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0
  let lastByte: number | undefined = NEWLINE
  for await (const chunk of chunks) {
    sizeBytes += chunk.length
    if (sizeBytes > bytes) throw new PlatformError('input_too_large', `A bundle may have at most ${bytes} bytes.`)
    lastByte = chunk.at(-1) ?? lastByte
    yield chunk
  }
  if (lastByte !== NEWLINE) throw invalid('The bundle breaks off in the middle of a line.')
}

const count = z.int().min(0)
const hash = z.custom<Sha256>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value), 'not a SHA-256')
const jobId = z.custom<JobId>((value) => parseId('job', value) !== undefined, 'not a job id')
const nullableText = z.string().nullable()
const line = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('bundle'),
    format: z.literal(BUNDLE_FORMAT, `this Senmon reads format ${BUNDLE_FORMAT}`),
    jobId,
    events: count,
    headHash: hash,
    files: z.boolean(),
  }),
  z.strictObject({
    type: z.literal('event'),
    event: z.strictObject({
      v: count,
      jobId,
      seq: count,
      type: z.string(),
      runId: nullableText,
      expertKey: nullableText,
      stepNumber: count.nullable(),
      at: z.number(),
      data: z.custom<Json>((value) => isJsonObject(value), 'not an object'),
      prevHash: hash,
      hash,
    }),
  }),
  z.strictObject({
    type: z.literal('content'),
    hash,
    offset: count,
    base64: z.string().max(Math.ceil(CHUNK_BYTES / 3) * 4),
    last: z.boolean(),
  }),
  z.strictObject({ type: z.literal('end'), contents: count, hash }),
])
type ReadLine = z.output<typeof line>

/** A name that something gave: what for, where it was given first, and what came. */
interface Named {
  readonly uses: Set<ContentUse>
  readonly by: string
  sizeBytes: number | undefined
}

/** What a tree comes to, path by path. */
interface Extent {
  readonly entries: number
  readonly bytes: number
  readonly depth: number
}

class BundleReader {
  readonly #limits: BundleLimits
  #head: BundleHead | undefined
  #lines = 0
  readonly #bytes = createHash('sha256')
  #seq = 0
  #prevHash: Sha256 | undefined
  #eventBytes = 0
  readonly #named = new Map<Sha256, Named>()
  /** The children of each tree that came. */
  readonly #trees = new Map<Sha256, ReturnType<typeof parseTreeObject>>()
  #open: { readonly hash: Sha256; readonly chunks: Uint8Array[]; sizeBytes: number } | undefined
  #contents = 0
  #contentBytes = 0
  #ended = false

  constructor(limits: BundleLimits) {
    this.#limits = limits
  }

  /** The part that a line completes; undefined while a content is in the making. */
  take(text: string | { readonly fault: string }): BundlePart | undefined {
    this.#lines += 1
    if (this.#ended) throw this.#bad('something follows the end')
    if (typeof text !== 'string') throw this.#bad(text.fault)
    const json = parseJson(text)
    if (isLineFault(json)) throw this.#bad(json.message)
    if (JSON.stringify(json.value) !== text) throw this.#bad('it is not the one text of what it says')
    const parsed = line.safeParse(json.value)
    if (!parsed.success) {
      const [issue] = parsed.error.issues
      throw this.#bad(`it is no line of a bundle: ${issue?.path.join('.') || 'its root'}: ${issue?.message}`)
    }
    const part = this.#read(parsed.data, text.length)
    if (!this.#ended) this.#bytes.update(`${text}\n`)
    return part
  }

  /** Throws when something is still to come. */
  end(): void {
    if (!this.#ended) throw invalid(`The bundle breaks off after ${this.#lines} lines.`)
  }

  #read(read: ReadLine, size: number): BundlePart | undefined {
    if (this.#head === undefined) {
      if (read.type !== 'bundle') throw this.#bad('a bundle begins with what it holds')
      if (read.events === 0) throw this.#bad('it holds no event')
      this.#head = read
      this.#prevHash = genesisHash(read.jobId)
      return read
    }
    if (this.#seq < this.#head.events) {
      if (read.type !== 'event') throw this.#bad(`event ${this.#seq + 1} is missing`)
      this.#eventBytes += size
      if (this.#eventBytes > this.#limits.eventBytes)
        throw new PlatformError('input_too_large', `Its events have more than ${this.#limits.eventBytes} bytes.`)
      return { type: 'event', event: this.#event(read.event as StoredEvent, this.#head) }
    }
    switch (read.type) {
      case 'content':
        return this.#content(read)
      case 'end':
        return this.#finish(read)
      default:
        throw this.#bad(`a line of type ${read.type} comes too late`)
    }
  }

  #event(stored: StoredEvent, head: BundleHead): JobEvent {
    const { seq } = stored
    const bad = (why: string) => invalid(`Event ${this.#seq + 1} ${why} (line ${this.#lines}).`)
    if (stored.jobId !== head.jobId) throw bad(`is of job ${stored.jobId}, not ${head.jobId}`)
    if (seq !== this.#seq + 1) throw bad(`says that it is event ${seq}`)
    if (stored.prevHash !== this.#prevHash) throw bad('does not follow from the event before it')
    if (hashEvent(stored as JobEvent) !== stored.hash) throw bad('does not hash to what it says')
    if (seq === head.events && stored.hash !== head.headHash) throw bad('is not the head that the first line names')
    const event = upgradeEvent(stored)
    if (isKnownType(event.type)) {
      const fault = faultInEvent(event)
      if (fault !== undefined) throw bad(`is no ${event.type}: ${fault}`)
    } else if (!this.#limits.unknownEvents) throw bad('is of a type that this Senmon does not know')
    if ((event.type === 'jobCreated') !== (seq === 1)) throw bad('stands where no job is created, or before one is')
    this.#seq = seq
    this.#prevHash = stored.hash
    for (const [name, use] of contentOf(event)) this.#name(name, use, `event ${seq}`)
    return event
  }

  #name(hash: Sha256, use: ContentUse, by: string): void {
    if (this.#head?.files === false && (use === 'tree' || use === 'file')) return
    const named = this.#named.get(hash)
    if (named === undefined) this.#named.set(hash, { uses: new Set([use]), by, sizeBytes: undefined })
    else if (named.sizeBytes === undefined) named.uses.add(use)
    // Any bytes may be a file; whatever else it is, it must have been looked at as that.
    else if (use !== 'file' && !named.uses.has(use))
      throw invalid(`Content ${hash} is named as a ${use} after it came.`)
  }

  #content(read: Extract<ReadLine, { type: 'content' }>): BundlePart | undefined {
    const bad = (why: string) => invalid(`Content ${read.hash} ${why} (line ${this.#lines}).`)
    const bytes = Buffer.from(read.base64, 'base64')
    if (bytes.toString('base64') !== read.base64) throw bad('is not base64')
    this.#open ??= { hash: read.hash, chunks: [], sizeBytes: 0 }
    const open = this.#open
    if (open.hash !== read.hash) throw bad(`begins before ${open.hash} is whole`)
    if (open.sizeBytes !== read.offset) throw bad(`goes on at ${read.offset}, and ${open.sizeBytes} bytes came`)
    const named = this.#named.get(read.hash)
    if (named === undefined) throw bad('is named by nothing before it')
    if (named.sizeBytes !== undefined) throw bad('comes twice')
    if (!read.last && bytes.length !== CHUNK_BYTES) throw bad('comes in a piece of another size')
    open.chunks.push(bytes)
    open.sizeBytes += bytes.length
    if (open.sizeBytes > TREE_LIMITS.fileBytes) throw bad(`is above ${TREE_LIMITS.fileBytes} bytes`)
    if (!read.last) return undefined
    this.#open = undefined
    const whole = open.chunks.length === 1 ? bytes : Buffer.concat(open.chunks)
    if (sha256(whole) !== read.hash) throw bad('does not hash to its name')
    named.sizeBytes = whole.length
    this.#contents += 1
    this.#contentBytes += whole.length
    for (const use of named.uses) this.#check(read.hash, use, whole)
    return { type: 'content', hash: read.hash, bytes: whole, uses: [...named.uses] }
  }

  /** Throws when content is not what it is named as; learns what it names itself. */
  #check(hash: Sha256, use: ContentUse, bytes: Uint8Array): void {
    const bad = (why: string) => invalid(`Content ${hash} is no ${use}: ${why}.`)
    if (use === 'file') return
    if (use === 'tree') {
      const entries = treeEntries(bytes, bad)
      this.#trees.set(hash, entries)
      for (const entry of entries)
        this.#name(entry.hash, entry.type === 'file' ? 'file' : 'tree', `${entry.name} in the tree ${hash}`)
      return
    }
    const value = valueOf(bytes)
    if (value === undefined) throw bad('it is not the one text of a JSON value')
    const fault = use === 'lock' ? faultInLock(value) : faultOf(promptShape, value)
    if (fault !== undefined) throw bad(fault)
  }

  #finish({ contents, hash: whole }: Extract<ReadLine, { type: 'end' }>): BundlePart {
    if (this.#open !== undefined) throw this.#bad(`content ${this.#open.hash} is not whole`)
    for (const [hash, { uses, by, sizeBytes }] of this.#named)
      if (sizeBytes === undefined)
        throw invalid(`Content ${hash}, a ${[...uses].join(' and ')} named by ${by}, is missing.`)
    if (contents !== this.#contents) throw this.#bad(`${contents} contents should have come, and ${this.#contents} did`)
    this.#measure()
    if (this.#bytes.digest('hex') !== whole) throw this.#bad('the lines before it do not hash to what it says')
    this.#ended = true
    return { type: 'end', contents, bytes: this.#contentBytes }
  }

  /** Throws for a tree that is larger than a machine restores: few objects can name one another very often. */
  #measure(): void {
    const extents = new Map<Sha256, Extent>()
    const extentOf = (hash: Sha256, level: number): Extent => {
      const known = extents.get(hash)
      if (known !== undefined) return known
      if (level > TREE_LIMITS.depth)
        throw invalid(`The tree ${hash} lies deeper than ${TREE_LIMITS.depth} directories.`)
      let [entries, bytes, depth] = [1, 0, 0]
      for (const entry of this.#trees.get(hash) ?? []) {
        if (entry.type === 'file') {
          entries += 1
          bytes += entry.sizeBytes
          if (this.#named.get(entry.hash)?.sizeBytes !== entry.sizeBytes)
            throw invalid(`${entry.name} in the tree ${hash} has not the size that the tree says.`)
        } else {
          const below = extentOf(entry.hash, level + 1)
          entries += below.entries
          bytes += below.bytes
          depth = Math.max(depth, below.depth + 1)
        }
      }
      if (entries > TREE_LIMITS.files || bytes > TREE_LIMITS.bytes || depth > TREE_LIMITS.depth)
        throw invalid(`The tree ${hash} is larger than a workspace may be.`)
      const extent = { entries, bytes, depth }
      extents.set(hash, extent)
      return extent
    }
    for (const hash of this.#trees.keys()) extentOf(hash, 0)
  }

  #bad(why: string): PlatformError {
    return invalid(`Line ${this.#lines} of the bundle is bad: ${why.replace(/\.$/, '')}.`)
  }
}

function invalid(message: string): PlatformError {
  return new PlatformError('bundle_invalid', message)
}

function treeEntries(bytes: Uint8Array, bad: (why: string) => PlatformError): ReturnType<typeof parseTreeObject> {
  let entries
  try {
    entries = parseTreeObject(bytes, 'the bundle')
  } catch (error) {
    if (error instanceof PlatformError) throw bad(error.message)
    throw error
  }
  if (printTree(entries).text !== new TextDecoder().decode(bytes)) throw bad('it is not the one text of its entries')
  return entries
}

/** The JSON value whose canonical text the bytes are; undefined when they are none. */
function valueOf(bytes: Uint8Array): Json | undefined {
  const text = new TextDecoder().decode(bytes)
  const parsed = parseJson(text)
  return isLineFault(parsed) || canonical(parsed.value) !== text ? undefined : parsed.value
}

const strings = z.record(z.string(), z.string())
const lockedPackage = { name: z.string(), version: z.string(), integrity: z.string() }
/** Skills of other types are shown by their type alone. */
const stdioSkill = z.looseObject({
  type: z.literal('mcpStdioSkill'),
  packages: z.array(z.looseObject({ ...lockedPackage, path: z.string() })),
  entry: z.string(),
  args: z.array(z.string()),
  pick: z.array(z.string()).nullable(),
  omit: z.array(z.string()),
  rule: nullableText,
  requiredEnv: z.array(z.string()),
  allowedDomains: z.array(z.string()),
})
const interactiveSkill = z.looseObject({
  type: z.literal('interactiveSkill'),
  rule: nullableText,
  tools: z.record(
    z.string(),
    z.looseObject({ kind: z.string(), description: z.string(), inputSchema: z.looseObject({}) }),
  ),
})
const otherSkill = z.looseObject({
  type: z
    .string()
    .refine((type) => type !== 'mcpStdioSkill' && type !== 'interactiveSkill', 'not a skill of that type'),
})
const lockedExpert = z.looseObject({
  key: z.string(),
  name: z.string(),
  version: z.string(),
  package: z.looseObject(lockedPackage),
  description: z.string(),
  instruction: z.string(),
  model: z.string().nullable(),
  maxSteps: count.nullable(),
  delegates: strings,
  skills: z.record(z.string(), z.union([stdioSkill, interactiveSkill, otherSkill])),
})
const lock = z.looseObject({
  version: z.literal(1),
  coordinator: z.string(),
  experts: z.record(z.string(), lockedExpert),
})

/** A lock of a bundle is shown and replayed with; what runs must be known to a registry besides. */
function faultInLock(value: Json): string | undefined {
  const fault = faultOf(lock, value)
  if (fault !== undefined) return fault
  const { coordinator, experts } = value as { coordinator: string; experts: object } // the shape above
  return Object.hasOwn(experts, coordinator) ? undefined : 'its coordinator is not among its experts'
}

function faultOf(shape: z.ZodType, value: Json): string | undefined {
  const parsed = shape.safeParse(value)
  if (parsed.success) return undefined
  const [issue] = parsed.error.issues
  return `${issue?.path.join('.') || 'its root'}: ${issue?.message}`
}
