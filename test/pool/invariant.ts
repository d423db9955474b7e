/**
 * What the platform promises of machines and jobs, each with where it is held: by the model of the pool in virtual time
 * (`pool-model.ts`, `load-model.ts`), or by the tests that are named. `npm run campaign -- pool-model` prints the table.
 */

interface Promised {
  readonly says: string
  /** Tests beside the model, from the repository's root. */
  readonly alsoIn: readonly string[]
}

export const INVARIANTS = {
  I1: { says: 'a machine has one owner, and an attempt one machine', alsoIn: ['test/contract/pool-store.ts'] },
  I2: { says: 'a job has one live attempt, and its fences only rise', alsoIn: ['test/job/job.test.ts'] },
  I3: { says: 'nothing is stored under a fence that is not the last', alsoIn: ['test/contract/job-log.ts'] },
  I4: { says: 'no accepted job is lost, and each ends', alsoIn: ['test/attempt/whole-scenario.test.ts'] },
  I5: { says: 'a job ends once, and nothing follows', alsoIn: ['test/job/job.test.ts'] },
  I6: { says: 'events are numbered without a gap and never change', alsoIn: ['test/contract/job-log.ts'] },
  I7: {
    says: 'a machine that was given a job is given another only after a stop',
    alsoIn: ['test/pool/errands.test.ts'],
  },
  I8: {
    says: 'what a job leaves on disk or in memory reaches no other',
    alsoIn: ['test/adapter/sandbox-escapes.test.ts'],
  },
  I9: { says: 'machines are bounded, one for each order', alsoIn: ['test/pool/plan.test.ts'] },
  I10: { says: 'nothing but its own attempt ends a claimed machine', alsoIn: ['test/pool/errands.test.ts'] },
  I11: { says: 'rows and machines name each other in the end', alsoIn: ['test/pool/census.test.ts'] },
  I12: { says: 'calls keep to their rate, and no job waits for a list', alsoIn: ['test/fly/bucket.test.ts'] },
  I13: { says: 'the pool comes to rest', alsoIn: ['test/pool/plan.test.ts'] },
  I14: { says: 'it shrinks late, the longest idle first, never in a rush', alsoIn: ['test/pool/plan.test.ts'] },
  I15: { says: 'a new generation replaces the old without a dip', alsoIn: ['test/pool/plan.test.ts'] },
  I16: { says: 'a snapshot that is lost fails no job', alsoIn: ['test/pool/pools.test.ts'] },
  I17: { says: 'clocks that jump lose nothing', alsoIn: ['test/job/job.test.ts'] },
  I18: { says: 'a canceled job starts nothing, and its machine ends', alsoIn: ['test/attempt/cancel.test.ts'] },
  I19: { says: 'quotas hold, and nobody starves', alsoIn: ['test/pool/assign.test.ts'] },
  I20: { says: 'a death between any two awaits breaks nothing', alsoIn: ['test/attempt/whole-scenario.test.ts'] },
  I21: { says: 'a leader of before changes nothing', alsoIn: ['test/contract/pool-store.ts'] },
  I22: { says: 'an outage fails no job, and no herd follows', alsoIn: ['test/pool/outage.test.ts'] },
  I23: { says: 'suspends under way keep to their allowance', alsoIn: ['test/pool/plan.test.ts'] },
  I24: { says: 'no more jobs find nothing than twice what was promised', alsoIn: ['test/pool/sizing.test.ts'] },
} as const satisfies Readonly<Record<string, Promised>>

export type Invariant = keyof typeof INVARIANTS
export const INVARIANT_IDS = Object.keys(INVARIANTS) as readonly Invariant[] // the keys of the very table

/** What was looked at, and what was found, by invariant. */
export class Findings {
  readonly #looks = new Map<Invariant, number>()
  readonly #violations = new Map<Invariant, Set<string>>()
  readonly #where: string

  constructor(where: string) {
    this.#where = where
  }

  /** One look at an invariant: `what` is said when it did not hold. */
  look(invariant: Invariant, holds: boolean, what: () => string): void {
    this.#looks.set(invariant, this.looks(invariant) + 1)
    if (holds) return
    const known = this.#violations.get(invariant) ?? new Set<string>()
    this.#violations.set(invariant, known.add(`${this.#where}: ${what()} (${invariant})`))
  }

  looks(invariant: Invariant): number {
    return this.#looks.get(invariant) ?? 0
  }

  violations(invariant: Invariant): readonly string[] {
    return [...(this.#violations.get(invariant) ?? [])]
  }

  get all(): readonly string[] {
    return INVARIANT_IDS.flatMap((invariant) => this.violations(invariant))
  }
}
