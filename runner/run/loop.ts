/** Performs what is owed until at rest: facts that follow at once, the rest of the world in parallel. */
import type { PlacedFact } from '../../schema/conversation.ts'
import type { Process } from '../../schema/decider.ts'
import { effectKey, standing, type Effect, type JobRuns, type PlacedRunFact } from './run.ts'
import { hears } from './steered.ts'

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
  const { promise: rest, resolve, reject } = Promise.withResolvers<ReturnType<typeof standing>>()
  const inFlight = new Map<string, { readonly effect: Owed; readonly stop: AbortController }>()
  const performed = new Set<string>()
  let now = state
  let ended = false

  const end = (settle: () => void): void => {
    if (ended) return
    ended = true
    const why = new Error('the loop has ended')
    for (const { stop } of inFlight.values()) stop.abort(why)
    settle()
  }

  const propose = (fact: PlacedRunFact): void => {
    now = core.evolve(now, fact)
    ports.propose(fact)
  }

  const start = (effect: Owed, key: string): void => {
    if (performed.has(key)) throw new Error(`${key} is owed still after it was performed`)
    const stop = new AbortController()
    inFlight.set(key, { effect, stop })
    ports.perform(effect, now, stop.signal).then(
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
      (error: unknown) => {
        if (!stop.signal.aborted || ended) return end(() => reject(error))
        inFlight.delete(key)
        performed.add(key)
        advance()
      },
    )
  }

  /** A call that is not owed any more, since a query interrupted it, is not waited for. */
  const stopNeedless = (effects: readonly Effect[]): void => {
    const owed = new Set(effects.map(effectKey))
    for (const [key, { effect, stop }] of inFlight)
      if (effect.type === 'callTool' && !owed.has(key)) stop.abort(new Error('a query interrupted the call'))
  }

  const advance = (): void => {
    if (ended) return
    try {
      let effects = core.pending(now)
      for (let facts = recordsIn(effects, inFlight); facts.length > 0; facts = recordsIn(effects, inFlight)) {
        for (const fact of facts) propose(fact)
        effects = core.pending(now)
      }
      stopNeedless(effects)
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

function recordsIn(
  effects: readonly Effect[],
  inFlight: ReadonlyMap<string, { readonly effect: Owed }>,
): readonly PlacedRunFact[] {
  const facts = effects.flatMap((effect) => (effect.type === 'record' ? [effect.fact] : []))
  return facts.filter((fact) => hears(fact, inFlight))
}
