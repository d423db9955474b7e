/**
 * What each process says of its pools, kept where all of them can read it, and what follows for each pool as a whole.
 *
 * PR1 Machines are counted from their rows, whichever process is asked and whichever lives.
 * PR2 A process that has not reported for a while still counts in what it gave, and is shown as silent.
 * PR3 One that ended says so, still counts in what it gave, and is shown no more.
 */
import type { Clock } from '../../schema/clock.ts'
import type { Resume } from '../../schema/event.ts'
import type { Log } from '../log.ts'
import type { Explanation } from './explanation.ts'
import type { MachineLimit } from './machine-provider.ts'
import type { MachineState } from './machine.ts'
import type { Target } from './plan.ts'

/** One process's word on one pool. */
export interface PoolReport {
  /** Which process. */
  readonly holder: string
  /** As of `explanation.at`. */
  readonly explanation: Explanation
}

/** Port: reports by pool and process, the newest of each, and the machines that there are. */
export interface PoolReportStore {
  /** Replaces what this process said before, and forgets what others said before `before` (epoch ms). */
  put(report: PoolReport, before: number): Promise<void>
  /** All that are kept, those of a pool together. */
  list(): Promise<readonly PoolReport[]>
  /** Machines by pool and state, without those that are gone. */
  count(): Promise<readonly MachineCount[]>
}

export interface MachineCount {
  readonly pool: string
  readonly state: MachineState
  readonly count: number
}

/** A pool as operators see it. */
export interface PoolView {
  readonly name: string
  readonly counts: readonly Omit<MachineCount, 'pool'>[]
  readonly processes: readonly {
    readonly holder: string
    readonly at: number
    readonly isSilent: boolean
    readonly leads: boolean
    /** What it wants; null for who does not lead. Where machines are each process's own, each leads its own. */
    readonly target: Target | null
    /** What one of its machines may use; [] where nobody says. */
    readonly limits: readonly MachineLimit[]
    /** Why less is asked of the provider than is wanted. */
    readonly restraints: readonly string[]
  }[]
  /** How jobs came by their machines, since each process started. */
  readonly given: readonly { readonly resume: Resume; readonly count: number }[]
  /** The share of them that found a machine running or suspended; null before there was one. */
  readonly warmShare: number | null
  /** Machines that the provider has and no row knows, as who leads saw it last. */
  readonly strays: number
  readonly actions: Explanation['actions']
  readonly faults: Explanation['faults']
}

/** A process that has said nothing for as long is shown as silent, in ms. */
export const SILENT_MS = 30_000
/** What a process said is forgotten after as long, in ms. */
const KEPT_MS = 3_600_000
const REPORT_MS = 3_000
/** Actions and faults that are shown of a pool, of all processes. */
const SHOWN_MAX = 10

/** By name. */
export function viewPools(
  reports: readonly PoolReport[],
  counts: readonly MachineCount[],
  now: number,
): readonly PoolView[] {
  const names = new Set([...reports.map(({ explanation }) => explanation.pool), ...counts.map(({ pool }) => pool)])
  return [...names].toSorted().map((name) => {
    const own = reports.filter(({ explanation }) => explanation.pool === name)
    const said = own.map(({ explanation }) => explanation)
    const given = new Map<Resume, number>()
    for (const explanation of said)
      for (const resume of ['resumed', 'cold', 'reserve', 'created'] as const) {
        const count = explanation.given[resume] ?? 0
        if (count > 0) given.set(resume, (given.get(resume) ?? 0) + count)
      }
    const all = [...given.values()].reduce((sum, count) => sum + count, 0)
    const newest = <One extends { readonly at: number }>(kept: readonly One[]) =>
      kept.toSorted((one, other) => other.at - one.at).slice(0, SHOWN_MAX)
    return {
      name,
      counts: counts.filter(({ pool }) => pool === name).map(({ state, count }) => ({ state, count })),
      processes: own
        .filter(({ explanation: { isLast = false } }) => !isLast)
        .map(({ holder, explanation: { at, leads, target, limits = [], restraints = [] } }) => {
          const isSilent = now - at > SILENT_MS
          return {
            holder,
            at,
            isSilent,
            leads: leads && !isSilent,
            target: isSilent ? null : target,
            limits,
            restraints: isSilent ? [] : restraints,
          }
        })
        .toSorted((one, other) => other.at - one.at),
      given: [...given].map(([resume, count]) => ({ resume, count })),
      warmShare: all === 0 ? null : (given.get('resumed') ?? 0) / all,
      strays: said
        .filter(({ leads, at, isLast = false }) => leads && !isLast && now - at <= SILENT_MS)
        .reduce((sum, one) => sum + one.strays, 0),
      actions: newest(said.flatMap(({ actions }) => actions)),
      faults: newest(said.flatMap(({ faults }) => faults)),
    }
  })
}

/** What the doors ask: all pools, whichever process keeps them. */
export interface PoolViews {
  list(): Promise<readonly PoolView[]>
}

export function openPoolViews(store: PoolReportStore, clock: Clock): PoolViews {
  return {
    list: async () => {
      const [reports, counts] = await Promise.all([store.list(), store.count()])
      return viewPools(reports, counts, clock.now())
    },
  }
}

export interface PoolReportsDependencies {
  readonly holder: string
  readonly explain: () => Explanation
  readonly store: Pick<PoolReportStore, 'put'>
  readonly clock: Clock
  readonly log: Log
}

/** Reports every few seconds until it is closed. */
export function openPoolReports({ holder, explain, store, clock, log }: PoolReportsDependencies) {
  const closing = new AbortController()
  async function report(explanation: Explanation): Promise<void> {
    await store.put({ holder, explanation }, clock.now() - KEPT_MS).catch((error: unknown) => {
      log.warn('What the pool does could not be reported.', { error })
    })
  }
  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      await report(explain())
      await clock.sleep(REPORT_MS, closing.signal).catch(() => {})
    }
    await report({ ...explain(), isLast: true })
  }
  const running = run()
  return {
    async close(): Promise<void> {
      closing.abort(new Error('the reports are closing'))
      await running
    },
  }
}
