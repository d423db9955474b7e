/**
 * A machine with a job: its supervisor's lines to the keeper and back, whatever becomes of the connections between.
 *
 * AT1 Every line of the supervisor reaches the keeper once, in order, or the machine ends.
 * AT2 A keeper that says that the job is another's, or that is not heard for `LOST_MS`, ends the machine.
 * AT3 While lines wait above the limit the supervisor is not read.
 */
import type { Clock } from '../../schema/clock.ts'
import { isLineFault, linesOf } from '../../schema/lines.ts'
import type { ImageFacts } from '../../schema/machine-image.ts'
import { BATCH_BYTES, BEAT_MS, LOST_MS } from '../../schema/machine-link.ts'
import { DoorError, type Door, type LinkPlace } from './door.ts'
import { LineSpool } from './line-spool.ts'
import type { SupervisorProcess } from './supervisor-process.ts'

const SPOOL_BYTES_MAX = 64 * 1024 * 1024
const RETRY_MS = 100
const RETRY_MS_MAX = 2_000
/** The stream down is taken for dead after as many beats that did not come. */
const SILENT_BEATS = 3

export interface AttendedOptions {
  readonly door: Door
  readonly place: LinkPlace
  readonly image: ImageFacts
  readonly supervisor: SupervisorProcess
  readonly clock: Clock
  /** Ends the machine from outside. */
  readonly signal: AbortSignal
  readonly report: (text: string) => void
}

/** Resolves when the job is over and nothing of it runs, with why. */
export async function attend(options: AttendedOptions): Promise<string> {
  const { door, place, image, supervisor, clock, report } = options
  const spool = new LineSpool()
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, options.signal])
  let heard = 0
  let heardAt = clock.now()
  let change = Promise.withResolvers<void>()
  let isSaid = false
  /** The keeper takes no line before it has been asked for one: that is when this machine holds its row. */
  const held = Promise.withResolvers<void>()
  const ring = (): void => {
    change.resolve()
    change = Promise.withResolvers()
  }
  const failed = (error: unknown): void => {
    if (!(error instanceof DoorError)) over.abort(error)
    else if (error.refused) over.abort(new Error('fenced'))
    else if (clock.now() - heardAt > LOST_MS) over.abort(new Error('lost'))
  }

  async function read(): Promise<void> {
    for await (const line of supervisor.lines) {
      spool.push(`${line}\n`)
      ring()
      while (spool.bytes > SPOOL_BYTES_MAX && !signal.aborted) await Promise.race([change.promise, ended(signal)])
      if (signal.aborted) return
    }
    isSaid = true
    ring()
  }

  const isAllSaid = (): boolean => isSaid && spool.isEmpty

  async function say(): Promise<void> {
    await Promise.race([held.promise, ended(signal)])
    for (let tries = 0; !signal.aborted && !isAllSaid();) {
      if (spool.isEmpty && tries === 0) await within(change.promise, BEAT_MS)
      if (signal.aborted) return
      const { from, text } = spool.batch(BATCH_BYTES)
      try {
        if (!spool.acknowledge(await door.say(place, from, heard, text)))
          throw new Error('more was acknowledged than said')
        heardAt = clock.now()
        tries = 0
        ring()
      } catch (error) {
        failed(error)
        tries += 1
        await pause(tries)
      }
    }
  }

  async function hear(): Promise<void> {
    for (let tries = 0; !signal.aborted; tries++) {
      const quiet = new AbortController()
      let beatAt = clock.now()
      void (async () => {
        while (!quiet.signal.aborted && clock.now() - beatAt < SILENT_BEATS * BEAT_MS)
          await clock.sleep(BEAT_MS, quiet.signal).catch(() => {})
        quiet.abort(new Error('the stream down is silent'))
      })()
      try {
        const bytes = await door.hear(place, image, heard, AbortSignal.any([signal, quiet.signal]))
        held.resolve()
        for await (const line of linesOf(bytes)) {
          beatAt = clock.now()
          heardAt = beatAt
          tries = 0
          if (isLineFault(line)) throw new DoorError(false, line.message)
          if (line === '') continue
          await supervisor.send(`${line}\n`)
          heard += 1
        }
      } catch (error) {
        if (!signal.aborted) failed(error instanceof DoorError ? error : new DoorError(false, String(error)))
      } finally {
        quiet.abort(new Error('over'))
      }
      await pause(tries + 1)
    }
  }

  async function pause(tries: number): Promise<void> {
    if (signal.aborted) return
    await clock.sleep(Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(tries - 1, 10)), signal).catch(() => {})
  }
  async function within(one: Promise<void>, ms: number): Promise<void> {
    const enough = new AbortController()
    await Promise.race([one, clock.sleep(ms, AbortSignal.any([enough.signal, signal])).catch(() => {})])
    enough.abort(new Error('enough'))
  }

  void hear().catch((error: unknown) => over.abort(error))
  const reading = read().catch((error: unknown) => over.abort(error))
  await say()
  if (signal.aborted) {
    const why = signal.reason instanceof Error ? signal.reason.message : String(signal.reason)
    report(`The job is over here: ${why}.`)
    await supervisor.kill()
    await reading
    return why
  }
  const end = await supervisor.ended
  await door.end(place, end).catch((error: unknown) => report(`The end was not said: ${String(error)}`))
  over.abort(new Error('done'))
  return end.reason
}

async function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
