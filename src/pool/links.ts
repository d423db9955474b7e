/**
 * Machines that come to us over the network: who they are, what they are to do, and the lines of those that have a job.
 * Any process answers a machine without a job, from its row; the lines go to the process that keeps the attempt.
 *
 * LK1 A machine is believed to be one of ours only with the provider's own word for it, at every boot.
 * LK2 Its secret is good for one boot, between two times that it became clean, and for nothing once its row has moved on.
 * LK3 It hears of a job only while its row says that it is to have it, and gets lines only when it holds the row.
 * LK4 Lines pass only under the fence and boot that hold the row; a machine that is let go hears nothing more.
 * LK5 A machine that is not heard for `LOST_MS` is lost.
 * LK6 One that says that it can do no job gets none: its row says why, whoever waits for it hears it, and it is ended.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { MachineId } from '../../schema/id.ts'
import type { ImageFacts } from '../../schema/machine-image.ts'
import {
  LOST_MS,
  PARK_MS,
  type Enrolled,
  type EnrolRequest,
  type LinkAnswer,
  type LinkName,
  type LinkRequest,
  type MachineEnd,
  type UnfitRequest,
} from '../../schema/machine-link.ts'
import type { MachinePlan, SkillsLine } from '../../schema/machine-plan.ts'
import type { Secret } from '../../schema/secret.ts'
import type { Log } from '../log.ts'
import { openLineLink, type LineLink } from './line-link.ts'
import type { Machine } from './machine-host.ts'
import { isClean, unfitFault, type MachineCommand, type PooledMachine } from './machine.ts'
import { moveMachine } from './moves.ts'
import type { PoolStore } from './pool-store.ts'

/** What the provider says of a machine that shows its token. */
export interface ProvenMachine {
  readonly providerId: string
}

export interface LinksDependencies {
  readonly store: Pick<PoolStore, 'find' | 'change'>
  /** 32 bytes that all processes of the platform share, and nothing else knows. */
  readonly key: Secret
  /** Throws `unauthenticated` unless the token is the provider's, for this very machine and its image. */
  readonly prove: (identity: string, machine: PooledMachine) => Promise<ProvenMachine>
  /** How compartments are started in an image. */
  readonly planOf: (image: ImageFacts) => MachinePlan
  readonly clock: Clock
  readonly log: Log
}

export interface Links {
  /** Throws `unauthenticated`, `fence_stale`. */
  enrol(request: EnrolRequest): Promise<Enrolled>
  /** Held for at most `PARK_MS`. Throws `unauthenticated`. */
  park(secret: string, request: LinkRequest, signal: AbortSignal): Promise<LinkAnswer>
  wake(secret: string, request: LinkRequest): Promise<LinkAnswer>
  /** A machine can do no job. Throws `unauthenticated`. */
  unfit(secret: string, request: UnfitRequest): Promise<void>

  /**
   * A machine comes for its lines, or comes again: it holds its row from the first time on. Throws `unauthenticated`;
   * `fence_stale` when the job is over, another's, or kept elsewhere.
   */
  come(secret: string, name: LinkName, image: ImageFacts): Promise<LineLink>
  /** The link of a machine that has come. Throws the same. */
  link(secret: string, name: LinkName): LineLink
  /** How the machine ended, in its own word. */
  end(secret: string, name: LinkName, end: MachineEnd): void

  /**
   * Waits until a claimed machine comes for its lines, which is when `hold` is asked. Throws `machine_failed` when it has
   * not come before `deadline`, `fence_stale` when it is another's.
   */
  expect(
    machine: PooledMachine,
    provide: (image: ImageFacts) => Promise<SkillsLine>,
    hold: (bootId: string) => Promise<boolean>,
    deadline: number,
  ): Promise<Machine>
  close(): void
}

/** Between two looks at the row of a machine that is parked with us, and of one that has a job. */
const LOOK_MS = 200
const WATCH_MS = 5_000

interface Expected {
  readonly machine: PooledMachine
  readonly link: LineLink
  readonly hold: (bootId: string) => Promise<boolean>
  readonly arrived: PromiseWithResolvers<void>
  readonly ended: PromiseWithResolvers<MachineEnd>
  readonly provide: (image: ImageFacts) => Promise<SkillsLine>
  holding: Promise<boolean> | undefined
  bootId: string | undefined
  heardAt: number
}

export function openLinks(dependencies: LinksDependencies): Links {
  const { store, key, prove, planOf, clock, log } = dependencies
  const closing = new AbortController()
  const expected = new Map<MachineId, Expected>()
  /** Polls that are held here, to be answered when their machine is expected. */
  const parked = new Map<MachineId, () => void>()

  /** LK2: the row's `boots` is in it, so that a stop makes every older one worthless. */
  function secretOf(machine: PooledMachine, bootId: string): string {
    const bytes = createHmac('sha256', Buffer.from(key.reveal(), 'hex'))
    return bytes.update(`machine ${machine.id} ${bootId} ${machine.boots}`).digest('base64url')
  }

  function demandSecret(machine: PooledMachine | undefined, bootId: string, secret: string): PooledMachine {
    const refused = new PlatformError('unauthenticated', 'This is no machine of ours in this boot.')
    if (machine === undefined || machine.state === 'gone') throw refused
    const [good, given] = [secretOf(machine, bootId), secret].map((text) => Buffer.from(text))
    if (good === undefined || given === undefined || good.length !== given.length) throw refused
    if (!timingSafeEqual(good, given)) throw refused
    return machine
  }

  async function move(machine: PooledMachine, command: MachineCommand): Promise<PooledMachine> {
    return (await moveMachine(store, machine, command)).machine
  }

  /** What a machine that was found to be itself is to do, by its row. */
  function answerOf(machine: PooledMachine, isParked: boolean): LinkAnswer {
    const { state, owner } = machine
    switch (state) {
      case 'waking':
        if (owner === null || owner.linesUrl === null || !isClean(machine)) break
        return {
          type: 'assigned',
          assignment: { linesUrl: owner.linesUrl, jobId: owner.jobId, fence: owner.fence },
        }
      case 'suspending':
        return isParked ? { type: 'suspend' } : { type: 'wait' }
      case 'ready':
      case 'creating':
      case 'booting':
      case 'hot':
        return { type: 'wait' }
      default:
    }
    return { type: 'end', reason: `the machine is ${state}` }
  }

  async function rowOf(secret: string, { machineId, bootId }: LinkRequest): Promise<PooledMachine> {
    return demandSecret(await store.find(machineId), bootId, secret)
  }

  function expectedBy(secret: string, name: LinkName): Expected {
    const one = expected.get(name.machineId)
    const stale = new PlatformError('fence_stale', `The machine ${name.machineId} has no job here.`)
    if (one === undefined || one.link.isClosed) throw stale
    demandSecret(one.machine, name.bootId, secret)
    const { owner } = one.machine
    if (owner === null || owner.jobId !== name.jobId || owner.fence !== name.fence) throw stale
    if (one.bootId !== undefined && one.bootId !== name.bootId) throw stale
    one.heardAt = clock.now()
    return one
  }

  function heldBy(secret: string, name: LinkName): Expected {
    const one = expectedBy(secret, name)
    if (one.bootId === name.bootId) return one
    throw new PlatformError('fence_stale', `The machine ${name.machineId} has no job here.`)
  }

  /** LK3: the first to come with the right secret holds the row, and only then is anything for it. */
  async function demandHeld(one: Expected, bootId: string, image: ImageFacts): Promise<void> {
    one.holding ??= (async () => {
      const skills = await one.provide(image)
      if (one.link.isClosed || !(await one.hold(bootId))) return false
      one.bootId = bootId
      one.link.send(skills)
      one.arrived.resolve()
      return true
    })().catch((error: unknown) => {
      one.arrived.reject(error)
      return false
    })
    if (await one.holding) return
    one.arrived.reject(new PlatformError('fence_stale', `The machine ${one.machine.id} is another's.`))
    throw new PlatformError('fence_stale', `The machine ${one.machine.id} has no job here.`)
  }

  async function watch(one: Expected): Promise<void> {
    const over = new AbortController()
    void one.ended.promise.then(() => over.abort(new Error('it ended')))
    const either = AbortSignal.any([over.signal, closing.signal])
    while (!either.aborted) {
      await clock.sleep(WATCH_MS, either).catch(() => {})
      if (either.aborted) break
      if (clock.now() - one.heardAt > LOST_MS) {
        one.ended.resolve({ reason: 'lost', stderrTail: `It was not heard for ${LOST_MS} ms.` })
        one.link.finish()
        break
      }
      const row = await store.find(one.machine.id).catch(() => one.machine) // a database that is away ends nothing
      const isOurs = row?.owner?.jobId === one.machine.owner?.jobId && row?.owner?.fence === one.machine.owner?.fence
      if (isOurs) continue
      one.ended.resolve({ reason: 'fenced', stderrTail: 'Its row is another attempt’s, or nobody’s.' })
      one.link.finish()
      break
    }
  }

  return {
    async enrol({ machineId, bootId, identity, image }) {
      const found = await store.find(machineId)
      if (found === undefined || found.state === 'gone')
        throw new PlatformError('unauthenticated', 'This is no machine of ours in this boot.')
      const { providerId } = await prove(identity, found)
      // The order's answer may have been lost: this is the machine, and this is its name.
      const machine =
        found.providerId === null ? await move(found, { type: 'created', now: clock.now(), providerId }) : found
      return { secret: secretOf(machine, bootId), plan: planOf(image) }
    },
    async park(secret, request, signal) {
      const until = clock.now() + PARK_MS
      let machine = await rowOf(secret, request)
      const isNew = machine.bootId !== request.bootId || machine.state === 'creating' || machine.state === 'booting'
      if (isNew) machine = await move(machine, { type: 'up', now: clock.now(), bootId: request.bootId })
      for (;;) {
        const answer = answerOf(machine, true)
        if (answer.type !== 'wait' || clock.now() >= until || signal.aborted) return answer
        const rung = new AbortController()
        parked.set(machine.id, () => rung.abort(new Error('expected')))
        await clock.sleep(LOOK_MS, AbortSignal.any([rung.signal, signal, closing.signal])).catch(() => {})
        parked.delete(machine.id)
        if (closing.signal.aborted) return { type: 'wait' }
        machine = await rowOf(secret, request)
      }
    },
    wake: async (secret, request) => answerOf(await rowOf(secret, request), false),
    async unfit(secret, request) {
      const machine = await rowOf(secret, request)
      // Once it has a job its lines say how that ends.
      if (machine.state === 'busy') return
      const fault = unfitFault(request.reason)
      await move(machine, { type: 'retire', now: clock.now(), fault })
      const failure = new PlatformError('machine_failed', `The machine ${machine.id} did not start. ${fault}`)
      expected.get(machine.id)?.arrived.reject(failure)
      log.warn('A machine can do no job.', { machineId: machine.id, generation: machine.generation, fault })
    },

    async come(secret, name, image) {
      const one = expectedBy(secret, name)
      await demandHeld(one, name.bootId, image)
      return one.link
    },
    link: (secret, name) => heldBy(secret, name).link,
    end(secret, name, end) {
      const one = heldBy(secret, name)
      one.link.finish()
      one.ended.resolve(end)
    },

    async expect(machine, provide, hold, deadline) {
      const one: Expected = {
        machine,
        link: openLineLink(),
        hold,
        arrived: Promise.withResolvers(),
        ended: Promise.withResolvers(),
        provide,
        holding: undefined,
        bootId: undefined,
        heardAt: clock.now(),
      }
      expected.set(machine.id, one)
      parked.get(machine.id)?.()
      const came = new AbortController()
      const leave = (): void => {
        one.link.close()
        if (expected.get(machine.id) === one) expected.delete(machine.id)
      }
      const late = clock
        .sleep(Math.max(0, deadline - clock.now()), AbortSignal.any([came.signal, closing.signal]))
        .then(() => {
          throw new PlatformError('machine_failed', `The machine ${machine.id} did not come for its job in time.`)
        })
      try {
        await Promise.race([one.arrived.promise, late])
      } catch (error) {
        leave()
        throw error
      } finally {
        late.catch(() => {})
        one.arrived.promise.catch(() => {})
        came.abort(new Error('it came'))
      }
      void watch(one).catch((error: unknown) =>
        log.error('A machine is watched no more.', { machineId: machine.id, error }),
      )
      return {
        obtained: { resume: 'cold', machineId: machine.id, phases: null },
        processes: () => (one.link.isClosed ? 0 : 1),
        send: (line) => one.link.send(line),
        get unreadBytes() {
          return one.link.unheardBytes
        },
        lines: one.link.lines,
        ended: one.ended.promise,
        destroy: async () => {
          leave()
          one.ended.resolve({ reason: 'destroyed', stderrTail: '' })
        },
      }
    },
    close() {
      closing.abort(new Error('links are closing'))
      for (const { link } of expected.values()) link.close()
      expected.clear()
    },
  }
}
