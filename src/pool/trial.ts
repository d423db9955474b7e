/**
 * Tries one machine of a provider for real: it boots and says who it is, is suspended and resumed, restores a tree, begins a
 * small job, and is destroyed. For operators, before a server depends on it.
 *
 * TR1 Whatever went wrong, the machine is destroyed, and seen to be gone, before the trial is over; else its name is said.
 */
import type { Clock } from '../../schema/clock.ts'
import type { MachineLine } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import { chain, genesisHash, type NewEvent } from '../../schema/event.ts'
import { printExpertKey } from '../../schema/expert-key.ts'
import { sha256 } from '../../schema/hash.ts'
import { makeId, type MachineId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import { printTree } from '../../schema/tree.ts'
import type { Machine } from './machine-host.ts'
import { ProviderError, type MachineProvider } from './machine-provider.ts'
import { orderMachine, stepMachine, type MachineCommand, type PooledMachine } from './machine.ts'
import { moveMachine } from './moves.ts'
import type { PoolStore } from './pool-store.ts'

/** What a trial needs of a pool's rows: one. */
export type LoneRow = Pick<PoolStore, 'find' | 'change' | 'hold'> & { put(machine: PooledMachine): void }

export function openLoneRow(): LoneRow {
  let row: PooledMachine | undefined
  return {
    put: (machine) => void (row = machine),
    find: async (id) => (row?.id === id ? row : undefined),
    change: async (steps) =>
      steps.map(({ next }) => {
        if (row?.id !== next.id || row.version + 1 !== next.version) return false
        row = next
        return true
      }),
    async hold(id, owner, bootId, now) {
      const step = row?.id === id ? stepMachine(row, { type: 'hold', owner, bootId, now }) : undefined
      if (step !== undefined) row = step.next
      return step?.next
    },
  }
}

export interface TrialDependencies {
  readonly provider: MachineProvider
  /** The row by which machines are known that come to `linesUrl`. */
  readonly row: LoneRow
  readonly id: MachineId
  readonly linesUrl: string
  readonly clock: Clock
}

export type TrialResult =
  /** How long each step took, in ms; `resumed` is false when the snapshot was lost and it booted anew. */
  | { readonly ok: true; readonly ms: Readonly<Record<Step, number>>; readonly resumed: boolean }
  | { readonly ok: false; readonly reason: string; readonly fix: string }

type Step = 'boot' | 'suspend' | 'resume' | 'job' | 'destroy'

const LOOK_MS = 200
/** The first boot of an image pulls it. */
const STEP_MS_MAX: Readonly<Record<Step, number>> = {
  boot: 180_000,
  suspend: 60_000,
  resume: 30_000,
  job: 30_000,
  destroy: 60_000,
}
const WORDS: Readonly<Record<Step, string>> = {
  boot: 'boot',
  suspend: 'suspend',
  resume: 'resume',
  job: 'do a job',
  destroy: 'end',
}
const FIXES: Readonly<Record<Step, string>> = {
  boot: 'See its words in `fly logs`; it must reach SENMON_PUBLIC_URL, and SENMON_FLY_IMAGE be built of this version.',
  suspend: 'See that SENMON_FLY_SIZE has at most 2048 MB; without suspending, jobs wait for a boot.',
  resume: 'Try again; when it goes on, look at Fly’s status.',
  job: 'Build the image of this version again, and push it (docs/deploy-fly.md).',
  destroy: 'Destroy it by `fly machine destroy --force`.',
}

const KEY = printExpertKey('probe', '1.0.0')
const LOCK: Lock = {
  version: 1,
  coordinator: KEY,
  experts: {
    [KEY]: {
      key: KEY,
      name: 'probe',
      version: '1.0.0',
      package: { name: 'probe', version: '1.0.0', integrity: 'sha512-' },
      description: 'Tries a machine.',
      instruction: 'Say that you are there.',
      model: 'none/none',
      maxSteps: null,
      delegates: {},
      skills: {},
    },
  },
}
const FILE = Buffer.from('tried')
const TREE = printTree([{ type: 'file', name: 'a.txt', hash: sha256(FILE), sizeBytes: FILE.length, executable: false }])
const CONTENT: ReadonlyMap<string, Buffer> = new Map([
  [sha256(FILE), FILE],
  [TREE.hash, Buffer.from(TREE.text)],
])

/** Never throws what the provider or the machine does. */
export async function tryMachine({ provider, row, id, linesUrl, clock }: TrialDependencies): Promise<TrialResult> {
  const now = clock.now()
  const order = { id, pool: 'probe', place: provider.places[0] ?? '', generation: provider.generation, now }
  row.put(orderMachine(order, null))
  const current = async (): Promise<PooledMachine> => (await row.find(id)) ?? orderMachine(order, null)
  const move = async (command: MachineCommand): Promise<void> => void (await moveMachine(row, await current(), command))
  const took: Partial<Record<Step, number>> = {}
  let connected: Machine | undefined
  /** False when the provider is known to have made none. */
  let isMade = true

  async function step<Value>(name: Step, act: (until: number) => Promise<Value>): Promise<Value> {
    const from = clock.now()
    try {
      const value = await act(from + STEP_MS_MAX[name])
      took[name] = Math.round(clock.now() - from)
      return value
    } catch (error) {
      if (!(error instanceof PlatformError)) throw error
      throw new Failure(name, error.message)
    }
  }
  /** Looks until it is so; a provider that is asked too often, or does not answer, is asked again. */
  async function reach(until: number, isSo: () => Promise<boolean>, otherwise: string): Promise<void> {
    for (;;) {
      const is = await isSo().catch((error: unknown) => {
        const mayPass = error instanceof ProviderError && ['throttled', 'ambiguous', 'state'].includes(error.fault)
        if (!mayPass || clock.now() > until) throw error
        return false
      })
      if (is) return
      if (clock.now() > until) throw new PlatformError('machine_failed', otherwise)
      await clock.sleep(LOOK_MS)
    }
  }

  async function run(): Promise<boolean> {
    await step('boot', async (until) => {
      const { providerId } = await provider.create(await current()).catch((error: unknown) => {
        isMade = !(error instanceof ProviderError) || error.fault === 'ambiguous'
        throw error
      })
      await move({ type: 'created', now: clock.now(), providerId })
      const isUp = async (): Promise<boolean> => {
        const { state, fault } = await current()
        if (state === 'retiring') throw new PlatformError('machine_failed', fault ?? 'It gave up.')
        return state === 'hot'
      }
      await reach(until, isUp, `It has not come to ${linesUrl} to say who it is.`)
    })
    const { bootId } = await current()
    await step('suspend', async (until) => {
      await move({ type: 'suspend', now: clock.now() })
      let askedAt = clock.now()
      const isSuspended = async (): Promise<boolean> => {
        const machine = await current()
        if ((await provider.look(machine)).state === 'suspended') return true
        if (clock.now() - askedAt > 5_000) {
          askedAt = clock.now()
          await provider.suspend(machine)
        }
        return false
      }
      await reach(until, isSuspended, 'It was not suspended.')
      await move({ type: 'suspended', now: clock.now() })
    })
    const owner = { jobId: makeId('job', 0, new Uint8Array(16)), fence: 1, linesUrl }
    await step('resume', async (deadline) => {
      await move({ type: 'claim', now: clock.now(), owner, deadline })
      const hold = async (boot: string): Promise<boolean> =>
        (await row.hold(id, owner, boot, clock.now())) !== undefined
      const coming = provider.connect(await current(), LOCK, hold, deadline)
      coming.catch(() => {})
      await provider.start(await current())
      connected = await coming
    })
    const machine = connected
    if (machine === undefined) throw new Failure('resume', 'It did not come.')
    await step('job', (until) => beginJob(machine, owner, until, clock))
    return (await current()).bootId === bootId
  }

  let result: TrialResult | Failure
  try {
    const resumed = await run()
    result = { ok: true, ms: { boot: 0, suspend: 0, resume: 0, job: 0, destroy: 0, ...took }, resumed }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    result = error
  }
  try {
    if (isMade)
      await step('destroy', async (until) => {
        await connected?.destroy()
        await reach(until, async () => provider.destroy(await current()).then(() => true), 'It was not destroyed.')
        const isGone = async (): Promise<boolean> => {
          const seen = await provider.look(await current()).catch((error: unknown) => {
            if (error instanceof ProviderError && error.fault === 'gone') return undefined
            throw error
          })
          return seen === undefined || seen.state === 'gone' || seen.state === 'destroying'
        }
        await reach(until, isGone, 'It is still there.')
      })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const { providerId } = await current()
    return { ok: false, reason: `The machine ${providerId ?? id} may be left: ${error.message}`, fix: FIXES.destroy }
  }
  if (!(result instanceof Failure)) return { ...result, ms: { ...result.ms, ...took } }
  return {
    ok: false,
    reason: `A machine was tried, and failed to ${WORDS[result.step]}: ${result.message}`,
    fix: FIXES[result.step],
  }
}

class Failure extends Error {
  readonly step: Step

  constructor(step: Step, message: string) {
    super(message)
    this.step = step
  }
}

/** Until the runner has read its history and asked for a generation, and a tree was restored; then it is told to end. */
async function beginJob(
  machine: Machine,
  { jobId, fence }: { readonly jobId: ReturnType<typeof makeId<'job'>>; readonly fence: number },
  until: number,
  clock: Clock,
): Promise<void> {
  const open = { v: 1, runId: null, expertKey: null, stepNumber: null } as const
  const created = { expertKey: KEY, query: 'Are you there?', userId: null, model: null, maxSteps: null } as const
  const facts: readonly NewEvent[] = [
    { ...open, type: 'jobCreated', data: { ...created, inputTreeHash: TREE.hash, lockHash: sha256('') } },
    { ...open, type: 'leaseGranted', data: { fence, holder: 'probe' } },
  ]
  const history = chain(jobId, 0, genesisHash(jobId), 0, facts)
  const start = { jobId, fence, lock: LOCK, model: null, treeHash: null, inputTreeHash: TREE.hash } as const
  machine.send({ type: 'start', protocol: 1, ...start, historyCount: history.length })
  for (const event of history) machine.send({ type: 'recorded', event })
  machine.send({ type: 'go' })
  const asked = new Set<string>()
  const hear = (line: MachineLine): void => {
    if (line.type !== 'request') return
    asked.add(line.method === 'blob' ? line.params.hash : line.method)
    const bytes = line.method === 'blob' ? CONTENT.get(line.params.hash) : undefined
    if (bytes !== undefined)
      machine.send({ type: 'reply', id: line.id, ok: true, value: { base64: bytes.toString('base64'), last: true } })
  }
  const isAllAsked = (): boolean => ['generate', ...CONTENT.keys()].every((one) => asked.has(one))
  const reading = (async () => {
    let isTold = false
    for await (const line of machine.lines) {
      hear(line)
      if (isTold || !isAllAsked()) continue
      isTold = true
      machine.send({ type: 'cancel', reason: 'It was a trial.' })
    }
    const { reason, stderrTail } = await machine.ended
    if (reason !== 'done') throw new PlatformError('machine_failed', `It ended otherwise (${reason}). ${stderrTail}`)
  })()
  const enough = new AbortController()
  const late = clock.sleep(until - clock.now(), enough.signal).then(() => {
    throw new PlatformError(
      'machine_failed',
      `It has not come through in time; it asked for ${[...asked].join(', ') || 'nothing'}.`,
    )
  })
  late.catch(() => {})
  try {
    await Promise.race([reading, late])
  } finally {
    enough.abort(new Error('it is over'))
  }
}
