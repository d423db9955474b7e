/**
 * Budgets of the job that a machine drives: before a run spends anything, room for it is set aside or a question is
 * put. Decided at once and in one place for all runs of the job, from its ledger, so that no two get the same room.
 */
import type { Clock } from '../../schema/clock.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import type { Measure } from '../../schema/budget.ts'
import { budgetQuestionOf } from '../../schema/budget-question.ts'
import type { HostFact, Place, RunFact } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import {
  emptyLedger,
  JOB,
  leaveToCall,
  leaveToGenerate,
  OUTPUT_TOKENS_LEAST,
  pathOf,
  spend,
  timeLeft,
  type AccountName,
  type Estimate,
  type Ledger,
} from '../../schema/ledger.ts'
import type { Lock } from '../../schema/lock.ts'
import { costAtMost, type Price } from '../gateway/price.ts'
import { inputTokensAtMost, measure, noPrompt, type PromptSize } from './prompt-size.ts'

/** The facts of a budget: what the control plane records on a run's behalf. */
export type BudgetFact =
  | Extract<HostFact, { type: 'budgetReserved' | 'budgetHeld' }>
  | Extract<RunFact, { type: 'questionAsked' }>

export interface Decision {
  /** To be recorded, in order, before anything is spent; the last one is the answer to a run that is held. */
  readonly facts: readonly BudgetFact[]
  readonly isHeld: boolean
  /** What the model may write, and how long it may take; null for no bound. */
  readonly outputTokensMax: number | null
  readonly timeMs: number | null
}

export interface BudgetPlace {
  readonly runId: RunId
  readonly expertKey: string
  readonly stepNumber: number
}

const FREE: Decision = { facts: [], isHeld: false, outputTokensMax: null, timeMs: null }

export class Budgets {
  readonly #origin: JobId
  readonly #lock: Lock
  readonly #model: string | null
  readonly #priceOf: (model: string) => Price | undefined
  readonly #clock: Clock
  readonly #sizes = new Map<RunId, PromptSize>()
  readonly #steps = new Map<RunId, number>()
  readonly #asking = new Set<RunId>()
  #ledger: Ledger = emptyLedger
  /** Resolved whenever room may have come free. */
  #settled = Promise.withResolvers<void>()

  constructor(
    origin: JobId,
    { lock, model }: { readonly lock: Lock; readonly model: string | null },
    priceOf: (model: string) => Price | undefined,
    clock: Clock,
  ) {
    this.#origin = origin
    this.#lock = lock
    this.#model = model
    this.#priceOf = priceOf
    this.#clock = clock
  }

  /** Takes a recorded fact, or one that will be; each once, in order. */
  take(fact: PlacedFact, at: number): void {
    this.#ledger = spend(this.#ledger, fact, at, (key) => this.#lock.experts[key as ExpertKey]?.budget) // or unknown
    this.#measure(fact)
    this.#settled.resolve()
    this.#settled = Promise.withResolvers()
  }

  /** Why a run cannot ask for leave now; undefined when it can. */
  refuse(runId: RunId): string | undefined {
    if (this.#asking.has(runId) || this.#ledger.outstanding[runId] !== undefined)
      return `run ${runId} generates already`
    const questionId = this.#ledger.held[runId]
    return questionId === undefined ? undefined : `run ${runId} is held by question ${questionId}`
  }

  /** Why a machine's fact cannot be so; undefined when a budget has nothing against it. */
  refuseFact(fact: RunFact & Place, interrupts: boolean): string | undefined {
    // Calls that are given up for a query need no room: they are not made.
    if (interrupts && fact.type === 'toolReturned' && fact.data.result.isError) return undefined
    switch (fact.type) {
      case 'runStarted':
        return fact.data.parent === null ? undefined : this.#refuseCall(fact.data.parent.runId)
      case 'toolReturned':
      case 'questionAsked':
        return fact.runId === null ? undefined : this.#refuseCall(fact.runId)
      case 'runFinished': {
        const stopped = fact.runId !== null && this.#ledger.held[fact.runId] !== undefined
        const isIt = stopped && this.#isStopped(fact.runId)
        return fact.data.reason !== 'budget_exhausted' || isIt ? undefined : `nobody stopped run ${fact.runId}`
      }
      default:
        return undefined
    }
  }

  #isStopped(runId: RunId): boolean {
    const questionId = this.#ledger.held[runId]
    return pathOf(this.#ledger, runId).some((name) => {
      const asking = this.#ledger.accounts[name]?.asking
      return asking?.id === questionId && asking?.state === 'stopped'
    })
  }

  /** A call is made only when the calls of its step have been counted. */
  #refuseCall(runId: RunId): string | undefined {
    const counts = pathOf(this.#ledger, runId).some(
      (name) => this.#ledger.accounts[name]?.limits.toolCalls !== undefined,
    )
    if (!counts || this.#ledger.counted[runId] === this.#steps.get(runId)) return undefined
    return `the calls of step ${this.#steps.get(runId)} of run ${runId} have not been counted`
  }

  /** Leave for a generation. Waits while others hold room that may come free. Throws the signal's reason. */
  async toGenerate(place: BudgetPlace, promptBytes: number, signal: AbortSignal): Promise<Decision> {
    const { runId } = place
    const expert = this.#lock.experts[place.expertKey as ExpertKey] // the admission found it
    const model = this.#model ?? expert?.model ?? null
    const estimate = this.#estimate(runId, model, promptBytes)
    this.#asking.add(runId)
    try {
      for (;;) {
        signal.throwIfAborted()
        const at = this.#clock.now()
        const leave = leaveToGenerate(this.#ledger, runId, estimate, at)
        switch (leave.is) {
          case 'free':
            return FREE
          case 'granted': {
            const fact = { type: 'budgetReserved', data: { of: 'generation', amount: leave.amount } } as const
            this.#decide(place, [fact], at)
            const { outputTokens } = leave.amount
            return { facts: [fact], isHeld: false, outputTokensMax: outputTokens, timeMs: leave.timeMs }
          }
          case 'lacking': {
            const { outputTokenUsd, inputUsd, inputTokens } = estimate
            const needsUsd =
              inputUsd === null || outputTokenUsd === null ? null : inputUsd + OUTPUT_TOKENS_LEAST * outputTokenUsd
            const needs = { inputTokens, cachedInputTokens: inputTokens, outputTokens: OUTPUT_TOKENS_LEAST, steps: 1 }
            const { account, measures } = leave
            return this.#hold(place, { account, measures, of: 'generation', model, needsUsd, needs }, at)
          }
          case 'later':
            await Promise.race([this.#settled.promise, aborted(signal)])
        }
      }
    } finally {
      this.#asking.delete(runId)
    }
  }

  /** Leave for the calls of a step. */
  toCall(place: BudgetPlace, calls: number): Decision {
    const at = this.#clock.now()
    const leave = leaveToCall(this.#ledger, place.runId, calls)
    if (leave.is === 'lacking') {
      const { account, measures } = leave
      const needs = { toolCalls: calls }
      return this.#hold(place, { account, measures, of: 'calls', model: null, needsUsd: null, needs }, at)
    }
    const amount = leave.is === 'granted' ? leave.amount : undefined
    if (amount === undefined) throw new TypeError(`calls of ${place.runId} are ${leave.is}`)
    const fact = { type: 'budgetReserved', data: { of: 'calls', amount } } as const
    this.#decide(place, [fact], at)
    return { ...FREE, facts: [fact] }
  }

  /** A generation was cut because its time ran out: what was set aside for it is spent, and the run is held. */
  cut(place: BudgetPlace): Decision {
    const at = this.#clock.now()
    const path = pathOf(this.#ledger, place.runId)
    const left = (name: AccountName): number => timeLeft(this.#ledger, name, at) ?? Infinity
    const account = path.toSorted((a, b) => left(a) - left(b))[0] ?? JOB
    const lacking = { account, measures: ['wallSeconds'] as const, of: 'generation' as const, needs: {} }
    return this.#hold(place, { ...lacking, model: null, needsUsd: null }, at)
  }

  #hold(
    place: BudgetPlace,
    lacking: {
      readonly account: AccountName
      readonly measures: readonly Measure[]
      readonly of: 'generation' | 'calls'
      readonly model: string | null
      readonly needsUsd: number | null
      readonly needs: Partial<Readonly<Record<Measure, number>>>
    },
    at: number,
  ): Decision {
    const { runId, stepNumber } = place
    const { account, of } = lacking
    const asking = this.#ledger.accounts[account]?.asking ?? null
    const facts: BudgetFact[] = []
    let questionId = asking?.id
    if (questionId === undefined) {
      const expertKey = account === JOB ? null : this.#expertOf(account)
      const question = budgetQuestionOf(this.#origin, this.#ledger, { ...lacking, runId, stepNumber, expertKey }, at)
      facts.push({ type: 'questionAsked', data: { question } })
      questionId = question.id
    }
    facts.push({ type: 'budgetHeld', data: { of, questionId } })
    this.#decide(place, facts, at)
    return { facts, isHeld: true, outputTokensMax: null, timeMs: null }
  }

  readonly #experts = new Map<RunId, string>()

  #expertOf(runId: RunId): string | null {
    return this.#experts.get(runId) ?? null
  }

  #decide(place: BudgetPlace, facts: readonly BudgetFact[], at: number): void {
    const { runId, expertKey, stepNumber } = place
    for (const fact of facts) this.take({ ...fact, runId, expertKey, stepNumber }, at)
  }

  #estimate(runId: RunId, model: string | null, promptBytes: number): Estimate {
    const inputTokens = inputTokensAtMost(this.#sizes.get(runId) ?? noPrompt, promptBytes)
    const price = model === null ? undefined : this.#priceOf(model)
    if (price === undefined) return { inputTokens, inputUsd: null, outputTokenUsd: null }
    return { inputTokens, ...costAtMost(price, inputTokens) }
  }

  #measure(fact: PlacedFact): void {
    const { runId } = fact
    if (runId === null) return
    if (fact.type === 'runStarted') this.#experts.set(runId, fact.expertKey ?? '')
    if (fact.type === 'generated') this.#steps.set(runId, fact.stepNumber ?? 0)
    const before = fact.type === 'runStarted' && fact.data.continues !== null ? fact.data.continues : undefined
    const size = measure(
      this.#sizes.get(runId) ?? noPrompt,
      fact,
      before === undefined ? undefined : this.#sizes.get(before),
    )
    this.#sizes.set(runId, size)
  }
}

async function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const fail = (): void => reject(signal.reason as Error)
    if (signal.aborted) fail()
    signal.addEventListener('abort', fail, { once: true })
  })
}
