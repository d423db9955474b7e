/** The ledger of a job: no order of asking, settling, crashing and raising lets a budget be overspent. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { budgetQuestionOf } from '../../schema/budget-question.ts'
import { MEASURES, plus, type Amount, type Budget, type Measure, type Raise } from '../../schema/budget.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import type { Question } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { deriveId, type RunId } from '../../schema/id.ts'
import {
  emptyLedger,
  JOB,
  leaveToCall,
  leaveToGenerate,
  OUTPUT_TOKENS_LEAST,
  pathOf,
  spend,
  timeOf,
  type Account,
  type AccountName,
  type Estimate,
  type Ledger,
} from '../../schema/ledger.ts'
import { refuseAnswer } from '../../src/job/answer.ts'
import { jobFact } from '../run/simulation.ts'
import { JOB as JOB_ID, LEAD } from '../run/team.ts'

const runOf = (name: string): RunId => deriveId('run', name)
const COUNTED = ['costUsd', 'inputTokens', 'cachedInputTokens', 'outputTokens', 'steps'] as const

/** A job whose ledger takes facts as a control plane would record them. */
class Books {
  ledger: Ledger = emptyLedger
  now = 1_000
  readonly questions: Question[] = []
  readonly #limits: ReadonlyMap<string, Budget>

  constructor(job: Budget, limits: ReadonlyMap<string, Budget> = new Map()) {
    this.#limits = limits
    const data = {
      expertKey: LEAD,
      query: 'q',
      userId: null,
      model: null,
      maxSteps: null,
      lockHash: sha256(''),
      inputTreeHash: null,
      budget: job,
    }
    this.take(jobFact({ type: 'jobCreated', data }))
    this.lease()
  }

  take(fact: PlacedFact): void {
    this.ledger = spend(this.ledger, fact, this.now, (key) => this.#limits.get(key))
  }

  lease(): void {
    this.take(jobFact({ type: 'leaseGranted', data: { fence: 1, holder: 'h' } }))
  }

  crash(): void {
    this.take(jobFact({ type: 'leaseExpired', data: { fence: 1, reason: 'x' } }))
    this.lease()
  }

  start(runId: RunId, parent: RunId | null, expertKey: string = LEAD): void {
    const caller = parent === null ? null : { runId: parent, callId: 'c' }
    const data = { query: 'q', parent: caller, continues: null, depth: 0 }
    this.take({ type: 'runStarted', data, runId, expertKey, stepNumber: 0 })
  }

  place(runId: RunId) {
    return { runId, expertKey: LEAD, stepNumber: 1 }
  }

  /** Asks for a generation; what was granted, or that it was not. */
  ask(runId: RunId, estimate: Estimate) {
    const leave = leaveToGenerate(this.ledger, runId, estimate, this.now)
    if (leave.is === 'granted')
      this.take({ type: 'budgetReserved', data: { of: 'generation', amount: leave.amount }, ...this.place(runId) })
    if (leave.is === 'lacking') this.hold(runId, leave.account, leave.measures)
    return leave
  }

  hold(runId: RunId, account: AccountName, measures: readonly Measure[]): void {
    const asking = this.ledger.accounts[account]?.asking ?? null
    const lacking = {
      account,
      measures,
      runId,
      stepNumber: 1,
      of: 'generation' as const,
      expertKey: null,
      model: 'm',
      needsUsd: 1,
      needs: {},
    }
    const question = asking === null ? budgetQuestionOf(JOB_ID, this.ledger, lacking, this.now) : undefined
    if (question !== undefined) {
      this.questions.push(question)
      this.take({ type: 'questionAsked', data: { question }, ...this.place(runId) })
    }
    const questionId = asking?.id ?? question?.id
    if (questionId === undefined) throw new Error('nothing holds the run')
    this.take({ type: 'budgetHeld', data: { of: 'generation', questionId }, ...this.place(runId) })
  }

  settle(runId: RunId, share: number): void {
    const amount = this.ledger.outstanding[runId]
    if (amount === undefined) return
    const part = (whole: number): number => Math.floor(whole * share)
    const usage = {
      inputTokens: part(amount.inputTokens),
      cachedInputTokens: part(amount.cachedInputTokens),
      outputTokens: part(amount.outputTokens),
      reasoningTokens: 0,
      costUsd: amount.costUsd === null ? null : Math.floor(amount.costUsd * share * 1e9) / 1e9,
    }
    const data = { parts: [], usage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 1 }
    this.take({ type: 'generated', data, ...this.place(runId) })
  }

  fail(runId: RunId, code: string): void {
    this.take({ type: 'generationFailed', data: { code, message: '', model: 'm' }, ...this.place(runId) })
  }

  answer(question: Question, value: 'stop' | { readonly raise: Raise }): void {
    this.take(jobFact({ type: 'answered', data: { questionId: question.id, value } }))
  }

  open(): readonly Question[] {
    return this.questions.filter(({ id }) =>
      accountsOf(this.ledger).some(([, { asking }]) => asking?.id === id && asking.state === 'open'),
    )
  }
}

function accountsOf(ledger: Ledger): readonly (readonly [AccountName, Account])[] {
  return Object.entries(ledger.accounts) as [AccountName, Account][] // the members that the type gives it
}

/** Accounts in which more is used and set aside than their limit. */
function overspent(ledger: Ledger): readonly string[] {
  return accountsOf(ledger).flatMap(([name, { limits, used, reserved }]) => {
    const total = plus(used, reserved)
    return COUNTED.filter((measure) => (total[measure] ?? Infinity) > (limits[measure] ?? Infinity)).map(
      (measure) => `${name} ${measure}: ${total[measure]} > ${limits[measure]}`,
    )
  })
}

/** Prices and limits that meet exactly as often as not. */
const estimates: fc.Arbitrary<Estimate> = fc.record({
  inputTokens: fc.constantFrom(0, 1, 100, 1000, 4096),
  inputUsd: fc.constantFrom(0, 0.001, 0.1, 1 / 3),
  outputTokenUsd: fc.constantFrom(0, 0.000015, 0.0001, 0.001),
})
const budgets: fc.Arbitrary<Budget> = fc.record(
  {
    costUsd: fc.constantFrom(0.1, 0.256, 0.5, 1, 2.56, 10),
    inputTokens: fc.constantFrom(1000, 4096, 5000, 100_000),
    cachedInputTokens: fc.constantFrom(4096, 10_000),
    outputTokens: fc.constantFrom(256, 512, 4096, 33_000, 100_000),
    steps: fc.constantFrom(1, 2, 5, 40),
  },
  { requiredKeys: [] },
)
const SHARES = [0, 0.01, 0.5, 1] as const
type Move =
  | { readonly do: 'start'; readonly under: number; readonly limits: Budget }
  | { readonly do: 'ask'; readonly run: number; readonly estimate: Estimate }
  | { readonly do: 'settle'; readonly run: number; readonly share: number }
  | { readonly do: 'fail'; readonly run: number; readonly code: string }
  | { readonly do: 'crash' | 'pass' }
  | { readonly do: 'answer'; readonly which: number; readonly factor: number }
const index = fc.nat(7)
const moves: fc.Arbitrary<readonly Move[]> = fc.array(
  fc.oneof(
    { weight: 2, arbitrary: fc.record({ do: fc.constant('start' as const), under: index, limits: budgets }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('ask' as const), run: index, estimate: estimates }) },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('settle' as const), run: index, share: fc.constantFrom(...SHARES) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('fail' as const),
        run: index,
        code: fc.constantFrom('model_stalled', 'model_refused', 'unheard_of'),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('crash' as const, 'pass' as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('answer' as const), which: index, factor: fc.constantFrom(0, 1, 2) }),
    },
  ),
  { maxLength: 60 },
)

/** Plays moves; `see` looks before and after each. */
function play(job: Budget, script: readonly Move[], see: (books: Books, before: Ledger, move: Move) => void): Books {
  const limits = new Map<string, Budget>()
  const books = new Books(job, limits)
  const runs: RunId[] = [runOf('0')]
  books.start(runOf('0'), null)
  const at = <One>(all: readonly One[], i: number): One | undefined => all[i % Math.max(1, all.length)]
  for (const move of script) {
    const before = books.ledger
    const run = 'run' in move ? at(runs, move.run) : undefined
    const busy = run !== undefined && books.ledger.outstanding[run] !== undefined
    switch (move.do) {
      case 'start': {
        if (runs.length >= 8) break
        const id = runOf(String(runs.length))
        limits.set(id, move.limits)
        books.start(id, at(runs, move.under) ?? null, id)
        runs.push(id)
        break
      }
      case 'ask':
        if (run !== undefined && !busy && before.held[run] === undefined) books.ask(run, move.estimate)
        break
      case 'settle':
        if (run !== undefined) books.settle(run, move.share)
        break
      case 'fail':
        if (run !== undefined && busy) books.fail(run, move.code)
        break
      case 'crash':
        books.crash()
        break
      case 'pass':
        books.now += 1500
        break
      case 'answer': {
        const question = at(books.open(), move.which)
        if (question === undefined) break
        const { limits: known } = question.args as unknown as { readonly limits: Budget }
        const raise = Object.fromEntries(Object.entries(known).map(([key, limit]) => [key, limit * 2 + 1]))
        books.answer(question, move.factor === 0 ? 'stop' : { raise: move.factor === 1 ? raise : lifted(known) })
      }
    }
    see(books, before, move)
  }
  return books
}

const lifted = (limits: Budget): Raise => Object.fromEntries(Object.keys(limits).map((key) => [key, null]))

describe('the ledger of a job', () => {
  it('never has more used and set aside than a limit, in whatever order runs ask, settle, fail and crash (B1)', () => {
    fc.assert(
      fc.property(budgets, moves, (job, script) => {
        play(job, script, (books) => expect(overspent(books.ledger)).toEqual([]))
      }),
      { numRuns: 400 },
    )
  })

  it('lets fifty delegates at once use up a budget to its last token, and not one more (B1)', () => {
    const scripts = fc.array(fc.record({ run: fc.nat(49), share: fc.constantFrom(0.3, 0.9, 1) }), {
      minLength: 300,
      maxLength: 400,
    })
    fc.assert(
      fc.property(estimates, fc.constantFrom(1, 2.5, 7), scripts, (estimate, costUsd, script) => {
        const books = new Books({ costUsd, outputTokens: 40_000 })
        const lead = runOf('lead')
        books.start(lead, null)
        const delegates = Array.from({ length: 50 }, (_, i) => runOf(`delegate ${i}`))
        for (const id of delegates) books.start(id, lead)
        let mostTogether = 0
        for (const { run, share } of script) {
          for (const id of delegates)
            if (books.ledger.outstanding[id] === undefined && books.ledger.held[id] === undefined)
              books.ask(id, estimate)
          mostTogether = Math.max(mostTogether, Object.keys(books.ledger.outstanding).length)
          expect(overspent(books.ledger)).toEqual([])
          const busy = Object.keys(books.ledger.outstanding) as RunId[] // the keys that the type gives it
          const one = busy[run % Math.max(1, busy.length)]
          if (one !== undefined) books.settle(one, share)
        }
        const account = books.ledger.accounts[JOB]
        expect(account?.used.outputTokens).toBeLessThanOrEqual(40_000)
        expect(account?.used.costUsd).toBeLessThanOrEqual(costUsd)
      }),
      { numRuns: 30 },
    )
  })

  it('takes a call beyond what was set aside for it as spent, and gives nothing more away for it (B1)', () => {
    const books = new Books({ outputTokens: 10_000 })
    books.start(runOf('0'), null)
    books.start(runOf('1'), runOf('0'))
    const estimate = { inputTokens: 1, inputUsd: 0, outputTokenUsd: 0 }
    expect(books.ask(runOf('0'), estimate).is).toBe('granted')
    books.settle(runOf('0'), 1.5)
    expect(books.ledger.accounts[JOB]?.used.outputTokens).toBe(15_000)
    expect(books.ask(runOf('1'), estimate)).toMatchObject({ is: 'lacking', account: JOB, measures: ['outputTokens'] })
  })

  it('counts what was set aside and never settled as spent, and nothing twice (B2)', () => {
    fc.assert(
      fc.property(budgets, moves, (job, script) => {
        const books = play(job, script, () => {})
        const { ledger } = books
        books.crash()
        for (const [name, account] of accountsOf(ledger)) {
          const after = books.ledger.accounts[name]
          expect(after?.reserved).toEqual({ ...account.reserved, ...zero(account.reserved) })
          expect(after?.used).toEqual(plus(account.used, account.reserved))
        }
        expect(books.ledger.outstanding).toEqual({})
      }),
      { numRuns: 200 },
    )
  })

  it('asks only when no settling could give the room that is lacking (B3)', () => {
    fc.assert(
      fc.property(budgets, moves, (job, script) => {
        play(job, script, (books, before, move) => {
          if (move.do !== 'ask' || books.ledger.held === before.held) return
          const [held] = Object.keys(books.ledger.held).filter((id) => !Object.hasOwn(before.held, id)) as RunId[] // keys
          if (held === undefined) return
          const alone = new Books(job)
          alone.ledger = before
          alone.now = books.now
          for (const id of Object.keys(before.outstanding) as RunId[]) alone.fail(id, 'model_refused') // its keys
          expect(leaveToGenerate(alone.ledger, held, move.estimate, books.now).is).toBe('lacking')
        })
      }),
      { numRuns: 300 },
    )
  })

  it('never lets runs wait for one another when nothing is under way (B3)', () => {
    fc.assert(
      fc.property(budgets, moves, estimates, (job, script, estimate) => {
        const { ledger, now } = play(job, script, () => {})
        for (const name of Object.keys(ledger.accounts)) {
          if (name === JOB) continue
          const leave = leaveToGenerate(ledger, name as RunId, estimate, now)
          if (leave.is === 'later') expect(Object.keys(ledger.outstanding)).not.toEqual([])
          if (leave.is === 'granted') expect(leave.amount.outputTokens).toBeGreaterThanOrEqual(OUTPUT_TOKENS_LEAST)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('has one open question for an account at most, and asks a stopped one nothing (B4)', () => {
    fc.assert(
      fc.property(budgets, moves, (job, script) => {
        const asked = new Set<string>()
        const books = play(job, script, (now, before) => {
          for (const [name, account] of accountsOf(now.ledger)) {
            const was = before.accounts[name]?.asking
            if (was !== null && was !== undefined && account.asking !== null) expect(account.asking.id).toBe(was.id)
            if (was?.state === 'stopped') expect(account.asking).toEqual(was)
          }
        })
        for (const { id } of books.questions) {
          expect(asked.has(id)).toBe(false)
          asked.add(id)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('raises the account that was asked about and no other (B5)', () => {
    fc.assert(
      fc.property(budgets, moves, (job, script) => {
        play(job, script, (books, before, move) => {
          const changed = accountsOf(books.ledger).filter(
            ([name, { limits }]) => before.accounts[name] !== undefined && before.accounts[name]?.limits !== limits,
          )
          if (move.do !== 'answer') return expect(changed).toEqual([])
          expect(changed.length).toBeLessThanOrEqual(1)
          for (const [name] of changed) expect(before.accounts[name]?.asking?.state).toBe('open')
        })
      }),
      { numRuns: 200 },
    )
  })

  it('offers answers that raise what is lacking above what is used, or stop, and no others (B5)', () => {
    const books = new Books({ steps: 1, costUsd: 5 })
    books.start(runOf('0'), null)
    const estimate = { inputTokens: 1, inputUsd: 0, outputTokenUsd: 0.001 }
    books.ask(runOf('0'), estimate)
    books.settle(runOf('0'), 0.1)
    expect(books.ask(runOf('0'), estimate)).toMatchObject({ is: 'lacking', measures: ['steps'] })
    const [question] = books.questions
    if (question === undefined) throw new Error('nothing was asked')
    const fits = ['stop', { raise: { steps: 2 } }, { raise: { steps: null } }, { raise: { steps: 9, costUsd: 8 } }]
    const unfit = [
      'go on',
      true,
      null,
      {},
      { raise: {} },
      { raise: { steps: 1 } },
      { raise: { costUsd: 9 } },
      { raise: { steps: 9, costUsd: 1 } },
      { raise: { steps: 9, outputTokens: 1 } },
      { raise: { steps: '9' } },
    ]
    for (const value of fits) expect([value, refuseAnswer(question, value)]).toEqual([value, undefined])
    for (const value of unfit)
      expect([value, refuseAnswer(question, value)?.refused]).toEqual([value, 'answer_invalid'])
  })

  it('counts time while a machine has the job, and none while humans have it (B6)', () => {
    const books = new Books({ wallSeconds: 10 })
    books.start(runOf('0'), null)
    const estimate = { inputTokens: 1, inputUsd: null, outputTokenUsd: null }
    books.now += 4_000
    expect(books.ask(runOf('0'), estimate)).toMatchObject({ is: 'granted', timeMs: 6_000 })
    books.settle(runOf('0'), 1)
    books.take(jobFact({ type: 'jobRested', data: { questionIds: [] } }))
    books.now += 30 * 24 * 3_600_000
    expect(timeOf(books.ledger, books.now)).toBe(4_000)
    books.lease()
    expect(books.ask(runOf('0'), estimate)).toMatchObject({ is: 'granted', timeMs: 6_000 })
    books.settle(runOf('0'), 1)
    // The server is down for an hour; what its last machine did before that is all that counts.
    books.now += 1_000
    books.start(runOf('1'), runOf('0'))
    books.now += 3_600_000
    books.crash()
    expect(timeOf(books.ledger, books.now)).toBe(5_000)
    books.now += 5_000
    expect(books.ask(runOf('0'), estimate)).toMatchObject({ is: 'lacking', measures: ['wallSeconds'] })
  })

  it('has no room under a limit of money for what has no price, before anything is spent (B7)', () => {
    const unpriced = { inputTokens: 1, inputUsd: null, outputTokenUsd: null }
    const books = new Books({ costUsd: 1_000_000 })
    books.start(runOf('0'), null)
    expect(books.ask(runOf('0'), unpriced)).toMatchObject({ is: 'lacking', account: JOB, measures: ['costUsd'] })
    const [question] = books.questions
    if (question === undefined) throw new Error('nothing was asked')
    books.answer(question, { raise: { costUsd: null } })
    expect(books.ask(runOf('0'), unpriced).is).toBe('free')
    const bounded = new Books({ steps: 5 })
    bounded.start(runOf('0'), null)
    expect(bounded.ask(runOf('0'), unpriced)).toMatchObject({ is: 'granted', amount: { costUsd: null } })
  })

  it('stays without room once something in it had no price (B7)', () => {
    const books = new Books({ costUsd: 5 })
    books.start(runOf('0'), null)
    const usage = { inputTokens: 1, cachedInputTokens: 0, outputTokens: 1, reasoningTokens: 0, costUsd: null }
    const data = { parts: [], usage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 1 }
    books.take({ type: 'generated', data, ...books.place(runOf('0')) })
    const priced = { inputTokens: 1, inputUsd: 0, outputTokenUsd: 0 }
    expect(books.ask(runOf('0'), priced)).toMatchObject({ is: 'lacking', measures: ['costUsd'] })
  })

  it('counts the calls of a step together, and grants all of them or none (B1)', () => {
    const books = new Books({ toolCalls: 3 })
    books.start(runOf('0'), null)
    const granted = leaveToCall(books.ledger, runOf('0'), 2)
    if (granted.is !== 'granted') throw new Error('there is room')
    books.take({ type: 'budgetReserved', data: { of: 'calls', amount: granted.amount }, ...books.place(runOf('0')) })
    expect(leaveToCall(books.ledger, runOf('0'), 2)).toMatchObject({ is: 'lacking', measures: ['toolCalls'] })
    expect(leaveToCall(books.ledger, runOf('0'), 1).is).toBe('granted')
  })

  it('charges every account on the way to the job, and no other', () => {
    fc.assert(
      fc.property(budgets, moves, (job, script) => {
        play(job, script, (books, before, move) => {
          if (move.do !== 'settle') return
          const paid = accountsOf(books.ledger).filter(
            ([name, { used }]) => used.steps > (before.accounts[name]?.used.steps ?? 0),
          )
          if (paid.length === 0) return
          const [deepest] = Object.keys(before.outstanding).filter(
            (id) => !Object.hasOwn(books.ledger.outstanding, id),
          ) as RunId[]
          if (deepest === undefined) throw new Error('nobody settled')
          expect(new Set(paid.map(([name]) => name))).toEqual(new Set(pathOf(before, deepest)))
        })
      }),
      { numRuns: 100 },
    )
  })
})

function zero(amount: Amount): Amount {
  return Object.fromEntries(Object.keys(amount).map((measure) => [measure, 0])) as unknown as Amount // all its keys
}

it('names every measure of a budget once', () => {
  expect(new Set(MEASURES).size).toBe(7)
})
