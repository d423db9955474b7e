/** The rows of a pool, watched: every change, whoever makes it, is held against what the pool promises. */
import type { MachineId } from '../../schema/id.ts'
import { isClean, type MachineState, type Owner, type PooledMachine } from '../../src/pool/machine.ts'
import type { Target } from '../../src/pool/plan.ts'
import type { Leadership, MachineChange, PoolStore } from '../../src/pool/pool-store.ts'
import { SUSPENDS_AT_FIRST } from '../../src/pool/pace.ts'
import type { Findings } from './invariant.ts'

/** A process, as far as its decisions are looked at. */
export interface Decider {
  readonly name: string
  readonly target: () => Target | null
}

export interface WatchedRows {
  readonly store: PoolStore
  readonly rows: ReadonlyMap<MachineId, PooledMachine>
  /** When a machine was claimed, by the true clock. */
  readonly claimedAt: ReadonlyMap<MachineId, number>
  /** The store as one process has it. */
  as(decider: Decider): PoolStore
}

export interface WatchedRowsOptions {
  readonly findings: Findings
  readonly now: () => number
  readonly readyMin: number
  readonly shrinkAfterMs: number
  /** Whether a process may take a machine from this owner: it is its own attempt, or the attempt is over. */
  readonly mayTake: (owner: Owner, process: string) => boolean
}

/** Between the clocks of two processes. */
const SKEW_MS = 10_000
const SUPPLY: ReadonlySet<MachineState> = new Set(['creating', 'booting', 'hot', 'suspending', 'ready'])

export function watchedRows(store: PoolStore, options: WatchedRowsOptions): WatchedRows {
  const { findings, now, readyMin, shrinkAfterMs } = options
  const rows = new Map<MachineId, PooledMachine>()
  const claimedAt = new Map<MachineId, number>()
  /** The last epoch of each pool. */
  const epochs = new Map<string, number>()

  function keep(machine: PooledMachine): void {
    const before = rows.get(machine.id)
    if (machine.owner !== null && before?.owner?.fence !== machine.owner.fence) claimedAt.set(machine.id, now())
    rows.set(machine.id, machine)
    const { owner, id } = machine
    if (owner === null) return
    const others = [...rows.values()].filter((one) => one.id !== id && one.owner?.jobId === owner.jobId)
    findings.look('I1', others.length === 0, () => `${owner.jobId} has ${others.length + 1} machines`)
  }

  function as(decider: Decider): PoolStore {
    let leadsSince: number | undefined
    let seen: readonly PooledMachine[] = []
    let suspendsDone = 0

    /** What a leader decided and is now true. */
    function lookAtDecision({ next }: MachineChange, before: PooledMachine | undefined): void {
      const { id, place } = next
      if (next.state === 'suspending') {
        const count = [...rows.values()].filter((one) => one.place === place && one.state === 'suspending').length
        const most = SUSPENDS_AT_FIRST + suspendsDone
        findings.look('I23', count <= most, () => `${count} suspends are under way at ${place}, of ${most}`)
      }
      const isReplaced = next.fault?.startsWith('its generation') === true
      const isShrunk = next.state === 'stopping' || next.state === 'retiring'
      if (!isShrunk || isReplaced || (before?.state !== 'ready' && before?.state !== 'reserve')) return
      const isLate = leadsSince !== undefined && now() - leadsSince >= shrinkAfterMs
      findings.look('I14', isLate, () => `${decider.name} gives ${id} up though it has just begun to lead`)
      findings.look('I14', decider.target()?.isPanic !== true, () => `${id} is given up in a rush`)
      const own = seen.filter((one) => one.place === place && isClean(one) && one.id !== id)
      const idle = own.filter((one) => one.state === before.state)
      const isOldest = idle.every(({ idleSince }) => (idleSince ?? 0) >= (before.idleSince ?? 0))
      findings.look('I14', isOldest, () => `${id} is given up before others that were idle for longer`)
      const supply = 1 + own.filter((one) => SUPPLY.has(one.state)).length
      const isEnough = before.state === 'reserve' || supply > readyMin
      findings.look('I14', isEnough, () => `${id} is given up of ${supply}, at least ${readyMin} of which are to stay`)
    }
    /** Somebody has lost a machine that was claimed. */
    function lookAtLoss({ id, owner, state }: PooledMachine, before: PooledMachine | undefined): void {
      if (before === undefined || before.owner === null || owner !== null || state === 'gone') return
      const loser = before.owner
      const isLate = before.deadline !== null && before.deadline <= now() + SKEW_MS
      const may = isLate || options.mayTake(loser, decider.name)
      findings.look('I10', may, () => `${decider.name} takes ${id} from ${loser.jobId}, which goes on`)
    }
    const isStale = (lead: Leadership | null): boolean => lead !== null && epochs.get(lead.pool) !== lead.epoch

    return {
      ...store,
      async add(machines, lead) {
        const isDone = await store.add(machines, lead)
        if (lead !== null)
          findings.look('I21', !isDone || !isStale(lead), () => `${decider.name} orders, and leads no more`)
        if (isDone) machines.forEach(keep)
        return isDone
      },
      async claim(request) {
        const claimed = await store.claim(request)
        if (claimed !== undefined) {
          const clean = request.holds || isClean(claimed.machine)
          findings.look('I7', clean, () => `${claimed.machine.id} is claimed and not clean`)
          keep(claimed.machine)
        }
        return claimed
      },
      rider: (request, news) =>
        store.rider(request, {
          ...news,
          claimed(claimed) {
            const clean = request.holds || isClean(claimed.machine)
            findings.look('I7', clean, () => `${claimed.machine.id} is claimed and not clean`)
            keep(claimed.machine)
            news.claimed(claimed)
          },
        }),
      async hold(...given) {
        const held = await store.hold(...given)
        if (held !== undefined) keep(held)
        return held
      },
      async change(changes, lead) {
        const before = changes.map(({ next }) => rows.get(next.id))
        const changed = await store.change(changes, lead)
        for (const [i, change] of changes.entries()) {
          if (changed[i] !== true) continue
          keep(change.next)
          lookAtLoss(change.next, before[i])
          if (before[i]?.state === 'suspending' && change.next.state === 'ready') suspendsDone += 1
          const isBoot = before[i]?.state === 'reserve' && change.next.state === 'booting'
          const isPlanned = change.verb === 'suspend' || isBoot
          if (isPlanned)
            findings.look('I21', lead !== null, () => `${decider.name} moves ${change.next.id}, and names no lead`)
          if (lead === null) continue
          findings.look('I21', !isStale(lead), () => `${decider.name} moves ${change.next.id}, and leads no more`)
          lookAtDecision(change, before[i])
        }
        return changed
      },
      async list(pool) {
        return (seen = await store.list(pool))
      },
      async lead(pool, holder, at, until) {
        const lead = await store.lead(pool, holder, at, until)
        if (lead === undefined) leadsSince = undefined
        else {
          const known = epochs.get(pool) ?? 0
          findings.look('I21', lead.epoch >= known, () => `epoch ${lead.epoch} of ${pool} follows ${known}`)
          epochs.set(pool, lead.epoch)
          leadsSince ??= now()
        }
        return lead
      },
    }
  }
  return { store, rows, claimedAt, as }
}
