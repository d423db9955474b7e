/**
 * The life of a machine elsewhere: it says who it is, makes itself ready, waits for a job, perhaps suspended, does that
 * one job, and ends. It never does a second one: it must be stopped and started to be clean.
 *
 * LF1 It says who it is once for each boot, before anything else.
 * LF2 It suspends itself only when told to, and asks for its job from before until after.
 * LF3 It does one job, then ends.
 * LF4 Its clock is set by the control plane's before its job sees it, where it is off by more than `SKEW_MS_MAX`.
 * LF5 However long it stood still, it gives the control plane up only after it has asked for `ALONE_MS_MAX` in vain.
 * LF6 One that can do no job says why, and asks for none: what it lacks, or how its supervisor ended before it was primed.
 */
import type { Clock } from '../../schema/clock.ts'
import type { ImageFacts } from '../../schema/machine-image.ts'
import { LINK_PROTOCOL, UNFIT_CHARS_MAX, WAKE_MS, type Assignment, type Enrolled } from '../../schema/machine-link.ts'
import type { MachineId } from '../../schema/id.ts'
import type { MachinePlan } from '../../schema/machine-plan.ts'
import { attend } from './attended.ts'
import { DoorError, type Door } from './door.ts'
import type { SupervisorProcess } from './supervisor-process.ts'

export interface LifePorts {
  readonly machineId: MachineId
  readonly bootId: string
  readonly image: ImageFacts
  readonly door: Door
  /** The provider's token that says which machine this is. */
  readonly identity: () => Promise<string>
  /** Suspends this machine; resolves before it, or long after. */
  readonly suspend: () => Promise<void>
  /** What the image lacks, in a sentence. */
  readonly lack: () => string | undefined
  readonly start: (plan: MachinePlan) => SupervisorProcess
  /** Measures how long something takes; it need not be right, nor go on while the machine is suspended. */
  readonly clock: Clock
  /** Sets the machine's clock forward by `ms`, or back. */
  readonly moveClock: (ms: number) => Promise<void>
  /** Ends it from outside. */
  readonly signal: AbortSignal
  readonly report: (text: string) => void
}

/** More than an answer is under way; what tokens, certificates and schedules forgive. */
const SKEW_MS_MAX = 5_000
const RETRY_MS = 250
const UNFIT_TRIES_MAX = 6
/** A cold computer takes a second or two; the pool takes one that is not up for lost after as long or less. */
const PRIME_MS_MAX = 60_000
const RETRY_MS_MAX = 5_000
/** Without the control plane for this long it ends: whoever pays for it will find it stopped. */
const ALONE_MS_MAX = 600_000
/** A call and the rest after it take no longer: whatever passes beyond that between two, it stood still. */
const TURN_MS_MAX = 20_000
/** As many polls of a machine that is being suspended come one after the other; then fewer. */
const WAKES_MAX = 1_200
const WAKE_MS_LATE = 1_000

/** Resolves with why it ended. */
export async function live(ports: LifePorts): Promise<string> {
  const { machineId, bootId, image, door, clock, signal, report } = ports
  const enrolled = await enrol(ports)
  const request = { machineId, bootId }
  const lack = ports.lack()
  if (lack !== undefined) return await sayUnfit(ports, enrolled.secret, lack)
  let supervisor: SupervisorProcess
  try {
    supervisor = ports.start(enrolled.plan)
  } catch (error) {
    return await sayUnfit(ports, enrolled.secret, `Its supervisor cannot be started: ${String(error)}`)
  }
  const primed = primedLines(supervisor)
  const fault = await faultOf(ports, supervisor, primed.isPrimed)
  if (fault !== undefined) {
    await supervisor.kill()
    return await sayUnfit(ports, enrolled.secret, fault)
  }

  async function obtain(): Promise<Assignment | string> {
    let isWaking = false
    let wakes = 0
    let aloneMs = 0
    for (let askedAt = clock.now(), tries = 0; !signal.aborted; askedAt = clock.now()) {
      try {
        const answer = await (isWaking ? door.wake(enrolled.secret, request) : door.park(enrolled.secret, request))
        aloneMs = 0
        tries = 0
        if (answer.type === 'assigned') return answer.assignment
        if (answer.type === 'end') return answer.reason
        if (answer.type === 'suspend' && !isWaking) {
          isWaking = true
          wakes = 0
          void ports.suspend().catch((error: unknown) => report(`It could not suspend itself: ${String(error)}`))
        }
      } catch (error) {
        if (!(error instanceof DoorError)) throw error
        if (error.refused) return error.message
        if (aloneMs > ALONE_MS_MAX) return 'the control plane is gone'
        tries += 1
      }
      // A machine that was resumed asks as often as before: only here can it have been suspended.
      if (isWaking) await rest(ports, (wakes += 1) < WAKES_MAX ? WAKE_MS : WAKE_MS_LATE)
      else if (tries > 0) await rest(ports, Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(tries, 10)))
      if (tries > 0) aloneMs += Math.min(TURN_MS_MAX, clock.now() - askedAt)
    }
    return 'it was told to end'
  }

  const died = supervisor.ended.then(({ reason, stderrTail }) => `${reason}: ${stderrTail}`)
  const assignment = await Promise.race([obtain(), died])
  if (typeof assignment === 'string') {
    await supervisor.kill()
    return assignment
  }
  // What was kept from before a suspension is dead.
  door.forget()
  await setClock(ports)
  const { linesUrl: url, jobId, fence } = assignment
  return await attend({
    ...ports,
    place: { url, secret: enrolled.secret, name: { ...request, jobId, fence } },
    image,
    supervisor: { ...supervisor, lines: primed.lines },
  })
}

/** Why it is not primed: undefined when it is, since a runner has then come up in a compartment and done a job of its own. */
async function faultOf(
  { clock, signal }: LifePorts,
  supervisor: SupervisorProcess,
  isPrimed: Promise<boolean>,
): Promise<string | undefined> {
  const over = new AbortController()
  const late = clock.sleep(PRIME_MS_MAX, AbortSignal.any([over.signal, signal])).then(
    () => `It has not made itself ready within ${PRIME_MS_MAX} ms.`,
    () => 'It was told to end before it was ready.',
  )
  const ready = isPrimed.then(async (is) => {
    if (is) return undefined
    const { reason, stderrTail } = await supervisor.ended
    return `No compartment comes up in it (${reason}): ${stderrTail}`
  })
  try {
    return await Promise.race([ready, late])
  } finally {
    over.abort(new Error('it is known'))
  }
}

/** LF6 */
async function sayUnfit(ports: LifePorts, secret: string, reason: string): Promise<string> {
  const { machineId, bootId, door, report, signal } = ports
  const request = { machineId, bootId, reason: reason.slice(0, UNFIT_CHARS_MAX) }
  for (let tries = 0; tries < UNFIT_TRIES_MAX && !signal.aborted; tries++) {
    try {
      await door.unfit(secret, request)
      break
    } catch (error) {
      report(`It is not known yet that it is not fit: ${String(error)}`)
      if (error instanceof DoorError && error.refused) break
      await rest(ports, RETRY_MS * 2 ** tries)
    }
  }
  return reason
}

/** After a resume it is late by as long as the machine slept, until the host's own correction comes. */
async function setClock({ door, moveClock, report }: LifePorts): Promise<void> {
  const skewMs = door.skewMs()
  if (skewMs === null || Math.abs(skewMs) <= SKEW_MS_MAX) return
  report(`Its clock is off by ${Math.round(skewMs)} ms.`)
  await moveClock(skewMs).catch((error: unknown) => report(`Its clock could not be set: ${String(error)}`))
}

async function enrol(ports: LifePorts): Promise<Enrolled> {
  const { machineId, bootId, image, door, identity, clock, report, signal } = ports
  const since = clock.now()
  for (let tries = 0; ; tries++) {
    try {
      return await door.enrol({ protocol: LINK_PROTOCOL, machineId, bootId, identity: await identity(), image })
    } catch (error) {
      // Its row may not be readable yet, and its token may come from a clock that is late: a refusal is no end here.
      report(`It is not known yet: ${String(error)}`)
      if (signal.aborted || clock.now() - since > ALONE_MS_MAX) throw error
      await rest(ports, Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(tries, 10)))
    }
  }
}

async function rest({ clock, signal }: LifePorts, ms: number): Promise<void> {
  await clock.sleep(ms, signal).catch(() => {})
}

/** Reads until the machine is primed (P3.8), and gives every line once. */
function primedLines(supervisor: SupervisorProcess): {
  readonly isPrimed: Promise<boolean>
  readonly lines: AsyncIterable<string>
} {
  const reader = supervisor.lines[Symbol.asyncIterator]()
  const read: string[] = []
  const isPrimed = (async () => {
    for (;;) {
      const next = await reader.next()
      if (next.done === true) return false
      read.push(next.value)
      if (next.value.includes('"type":"alive"')) return true
    }
  })().catch(() => false)
  async function* all(): AsyncGenerator<string> {
    await isPrimed
    yield* read
    for (;;) {
      const next = await reader.next()
      if (next.done === true) return
      yield next.value
    }
  }
  return { isPrimed, lines: all() }
}
