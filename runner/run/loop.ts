/** Performs what is owed until at rest: facts that follow at once, the rest of the world in parallel. */
import type { PlacedFact } from '../../schema/conversation.ts'
import type { Process } from '../../schema/decider.ts'
import { effectKey, standing, type Effect, type JobRuns, type PlacedRunFact } from './run.ts'

/** What performing an effect brought: facts to propose, and facts that the control plane has recorded already. */
export interface Performed {
  /** As a function, of the state once it is performed. */
  readonly proposed: readonly PlacedRunFact[] | ((state: JobRuns) => readonly PlacedRunFact[])
  readonly recorded: readonly PlacedFact[]
}

export type Owed = Exclude<Effect, { readonly type: 'record' }>

export interface LoopPorts {
  /** Rejects only when the machine cannot go on at all; a skill's or a model's failure is a fact. */
  perform(effect: Owed, state: JobRuns, signal: AbortSignal): Promise<Performed>
  /** Proposes a fact to the control plane; it is taken as happened from then on. */
  propose(fact: PlacedRunFact): void
}

export interface Loop {
  /** A fact that others recorded: an answer, a cancel. */
  tell(fact: PlacedFact): void
  /** Stops what is in flight; `rest` then resolves with `canceled`. */
  cancel(): void
  /** Resolves when nothing is owed. Rejects when an effect cannot be performed at all. */
  readonly rest: Promise<ReturnType<typeof standing>>
}

/** Drives a job's runs on from `state`, which its history led to. */
export function openLoop(core: Process<JobRuns, PlacedFact, Effect>, state: JobRuns, ports: LoopPorts): Loop {
  const abort = new AbortController()
  const { promise: rest, resolve, reject } = Promise.withResolvers<ReturnType<typeof standing>>()
  const inFlight = new Set<string>()
  const performed = new Set<string>()
  let now = state
  let ended = false

  const end = (settle: () => void): void => {
    if (ended) return
    ended = true
    abort.abort(new Error('the loop has ended'))
    settle()
  }

  const propose = (fact: PlacedRunFact): void => {
    now = core.evolve(now, fact)
    ports.propose(fact)
  }

  const start = (effect: Owed, key: string): void => {
    if (performed.has(key)) throw new Error(`${key} is owed still after it was performed`)
    inFlight.add(key)
    ports.perform(effect, now, abort.signal).then(
      ({ proposed, recorded }) => {
        if (ended) return
        inFlight.delete(key)
        // A listing that failed may be owed again, to another run of the same expert.
        if (effect.type !== 'listTools') performed.add(key)
        const owed = core.pending(now).find((one) => effectKey(one) === key)
        for (const fact of recorded) now = core.evolve(now, fact)
        const facts = typeof proposed === 'function' ? proposed(now) : proposed
        for (const fact of facts) if (owed !== undefined) propose(placed(fact, owed, now))
        advance()
      },
      (error: unknown) => end(() => reject(error)),
    )
  }

  const advance = (): void => {
    if (ended) return
    try {
      let effects = core.pending(now)
      for (let facts = recordsIn(effects); facts.length > 0; facts = recordsIn(effects)) {
        for (const fact of facts) propose(fact)
        effects = core.pending(now)
      }
      for (const effect of effects) {
        const key = effectKey(effect)
        if (effect.type !== 'record' && key !== undefined && !inFlight.has(key)) start(effect, key)
      }
      if (effects.length === 0 && (inFlight.size === 0 || now.canceled)) end(() => resolve(standing(now)))
    } catch (error) {
      end(() => reject(error))
    }
  }

  queueMicrotask(advance)
  return {
    tell(fact) {
      now = core.evolve(now, fact)
      advance()
    },
    cancel() {
      now = { ...now, canceled: true }
      end(() => resolve('canceled'))
    },
    rest,
  }
}

/**
 * A fact in the place of the run that it is owed to now: one that asked for a listing may have reached the step
 * limit meanwhile, and another of the same expert still wants it.
 */
function placed(fact: PlacedRunFact, owed: Effect, state: JobRuns): PlacedRunFact {
  if (owed.type === 'record' || owed.runId === fact.runId) return fact
  return { ...fact, runId: owed.runId, stepNumber: state.runs[owed.runId]?.stepNumber ?? 0 }
}

function recordsIn(effects: readonly Effect[]): readonly PlacedRunFact[] {
  return effects.flatMap((effect) => (effect.type === 'record' ? [effect.fact] : []))
}
