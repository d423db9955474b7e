/**
 * The program behind `senmon replay`: a bundle on stdin, one JSON report on stdout. It has no network and needs none.
 * Its only argument is JSON: ReplayRequest.
 */
import { createReadStream } from 'node:fs'
import { readBundle, type BundlePart } from '../../schema/bundle.ts'
import { PlatformError } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Prompt } from '../../schema/message.ts'
import { replayModel } from './model-replay.ts'
import { replayStates } from './state-replay.ts'

interface ReplayRequest {
  /** Play it again with recorded generations and results, too. */
  readonly model: boolean
  /** In place of the instruction of `expert`, or of the coordinator. */
  readonly instruction: string | null
  readonly expert: string | null
  /** A bundle whose lock is played with in place of the job's own. */
  readonly lockPath: string | null
}

/** What of a bundle a replay needs. */
class Recorded {
  readonly events: JobEvent[] = []
  readonly #contents = new Map<Sha256, unknown>()

  add(part: BundlePart): void {
    if (part.type === 'event') this.events.push(part.event)
    else if (part.type === 'content' && (part.uses.includes('lock') || part.uses.includes('prompt')))
      // The reader has checked that it is JSON, and what it is named as.
      this.#contents.set(part.hash, JSON.parse(new TextDecoder().decode(part.bytes)))
  }

  prompt(hash: Sha256): Prompt | undefined {
    return this.#contents.get(hash) as Prompt | undefined
  }

  /** The lock in force at an event: that of the job, or of the last fork before it. */
  locks(): (seq: number) => Lock {
    const from = this.events.flatMap(({ seq, type, data }) =>
      type === 'jobCreated' || type === 'jobForked' ? [{ seq, lock: this.#contents.get(data.lockHash) as Lock }] : [],
    )
    const [first] = from
    if (first === undefined) throw new PlatformError('bundle_invalid', 'The bundle holds no job.')
    return (seq) => from.findLast((one) => one.seq <= seq)?.lock ?? first.lock
  }

  lastLock(): Lock {
    return this.locks()(this.events.length)
  }
}

async function read(chunks: AsyncIterable<Uint8Array>): Promise<Recorded> {
  const record = new Recorded()
  for await (const part of readBundle(chunks)) record.add(part)
  return record
}

/** The locks to play with, when something is to be otherwise. Throws `expert_not_found`. */
async function locksFor(
  record: Recorded,
  { instruction, expert, lockPath }: ReplayRequest,
): Promise<(seq: number) => Lock> {
  const own = record.locks()
  const other = lockPath === null ? undefined : (await read(createReadStream(lockPath))).lastLock()
  const at = other === undefined ? own : () => other
  if (instruction === null) return at
  const told = new Map<Lock, Lock>()
  return (seq) => {
    const lock = at(seq)
    const known = told.get(lock)
    if (known !== undefined) return known
    const key = (expert ?? lock.coordinator) as ExpertKey // looked up, and found or not
    const locked = Object.hasOwn(lock.experts, key) ? lock.experts[key] : undefined
    if (locked === undefined) throw new PlatformError('expert_not_found', `The job's lock has no expert ${key}.`)
    const made = { ...lock, experts: { ...lock.experts, [key]: { ...locked, instruction } } }
    told.set(lock, made)
    return made
  }
}

async function report(request: ReplayRequest): Promise<object> {
  const record = await read(process.stdin)
  const { events } = record
  const states = replayStates(events, record.locks())
  const played = request.model
    ? replayModel(events, await locksFor(record, request), (hash) => record.prompt(hash))
    : null
  return { jobId: events[0]?.jobId, events: events.length, ...states, model: played }
}

async function main(): Promise<object> {
  try {
    return await report(JSON.parse(process.argv[2] ?? '{}') as ReplayRequest) // the command line wrote it
  } catch (error) {
    if (error instanceof PlatformError) return { code: error.code, message: error.message }
    throw error
  }
}

const text = `${JSON.stringify(await main())}\n`
process.stdout.write(text, () => process.exit(0))
