/**
 * Who has spent what: the tree of accounts of one job, as a fold of its log. The job is the root; each run has an
 * account under its caller's. What a run spends is spent by it and by all above it, and must have room in each.
 *
 * B1 What is used and set aside is never above a limit, as long as no generation takes more than was set aside for it.
 * B2 What was set aside and never settled counts as spent: the provider may have been paid.
 * B3 A question is put only when room is lacking that no settling could give.
 * B4 While an account has an open question, no second one is put for it; after a stop, none at all until it is raised.
 * B5 A raise changes the account that was asked about, and no other.
 * B6 Time counts while a machine has the job, up to the last thing recorded of one that died; waiting is free.
 * B7 A price that is not known has no room under a limit of money.
 */
import {
  amountOf,
  isUnlimited,
  minus,
  nothing,
  plus,
  raised,
  verdictOf,
  type Amount,
  type Budget,
  type Measure,
} from './budget.ts'
import type { PlacedFact } from './conversation.ts'
import type { QuestionId, RunId } from './id.ts'
import type { Usage } from './usage.ts'

/** The account of the job itself; all others are named by their run. */
export const JOB = 'job'
export type AccountName = typeof JOB | RunId

export interface Account {
  /** Null for the job. */
  readonly parent: AccountName | null
  readonly limits: Budget
  readonly used: Amount
  readonly reserved: Amount
  /** The job's time when this account was opened, ms. */
  readonly openedMs: number
  /** How many questions were put for it: the next one's ordinal. */
  readonly questions: number
  /** The last question, and what became of it. */
  readonly asking: { readonly id: QuestionId; readonly state: 'open' | 'stopped' } | null
}

export interface Ledger {
  readonly accounts: Readonly<Partial<Record<AccountName, Account>>>
  /** What is set aside for generations that are under way, by run. */
  readonly outstanding: Readonly<Record<RunId, Amount>>
  /** The step whose calls have been counted, by run. */
  readonly counted: Readonly<Record<RunId, number>>
  /** The question that a run waits for. */
  readonly held: Readonly<Record<RunId, QuestionId>>
  readonly lastRoot: RunId | null
  /** Time under leases that have ended, ms. */
  readonly timeMs: number
  /** When the current lease began; null without one. Epoch ms. */
  readonly leasedAt: number | null
  /** When something was last recorded. Epoch ms. */
  readonly lastAt: number
}

const noAccount: Account = {
  parent: null,
  limits: {},
  used: nothing,
  reserved: nothing,
  openedMs: 0,
  questions: 0,
  asking: null,
}

export const emptyLedger: Ledger = {
  accounts: { [JOB]: noAccount },
  outstanding: {},
  counted: {},
  held: {},
  lastRoot: null,
  timeMs: 0,
  leasedAt: null,
  lastAt: 0,
}

/** What an expert allows one run of it. */
export type LimitsOf = (expertKey: string) => Budget | undefined

/**
 * The ledger after a fact that came at `at`, epoch ms. Total: what fits nothing changes nothing but `lastAt`. Without
 * `limitsOf` the job's account alone is kept.
 */
export function spend(before: Ledger, fact: PlacedFact, at: number, limitsOf: LimitsOf | null): Ledger {
  const ledger = { ...before, lastAt: Math.max(before.lastAt, at) }
  switch (fact.type) {
    case 'jobCreated':
      return alter(ledger, JOB, (account) => ({ ...account, limits: fact.data.budget ?? {} }))
    case 'jobForked':
      return forked(ledger, before.lastAt, fact.data)
    case 'jobContinued':
      // A query to a job that is open changes no account.
      return fact.data.mode === undefined ? continued(ledger, fact.data.query, fact.data.budget ?? {}) : ledger
    case 'leaseGranted':
      return { ...loseAll(ledger), leasedAt: at }
    case 'leaseExpired':
      return endLease(ledger, before.lastAt)
    case 'jobRested':
      return endLease(ledger, at)
    case 'jobFinished':
      return closeAll(endLease(ledger, at))
    case 'answered':
      return answered(ledger, fact.data.questionId, verdictOf(fact.data.value))
    default:
      return fact.runId === null ? ledger : spendByRun(ledger, fact, fact.runId, at, limitsOf)
  }
}

function spendByRun(ledger: Ledger, fact: PlacedFact, runId: RunId, at: number, limitsOf: LimitsOf | null): Ledger {
  switch (fact.type) {
    case 'runStarted': {
      const { parent } = fact.data
      const lastRoot = parent === null ? runId : ledger.lastRoot
      if (limitsOf === null || ledger.accounts[runId] !== undefined) return { ...ledger, lastRoot }
      const limits = limitsOf(fact.expertKey ?? '') ?? {}
      const account = { ...noAccount, parent: parent?.runId ?? JOB, limits, openedMs: timeOf(ledger, at) }
      return { ...ledger, lastRoot, accounts: { ...ledger.accounts, [runId]: account } }
    }
    case 'budgetReserved': {
      const { amount } = fact.data
      if (fact.data.of === 'calls') {
        const counted = { ...ledger.counted, [runId]: fact.stepNumber ?? 0 }
        return charge({ ...ledger, counted }, runId, (account) => ({ ...account, used: plus(account.used, amount) }))
      }
      const settled = lose(ledger, runId)
      const outstanding = { ...settled.outstanding, [runId]: amount }
      return charge({ ...settled, outstanding }, runId, (account) => ({
        ...account,
        reserved: plus(account.reserved, priced(amount)),
      }))
    }
    case 'generated': {
      const amount = amountOf(fact.data.usage)
      return charge(release(ledger, runId), runId, (account) => ({ ...account, used: plus(account.used, amount) }))
    }
    case 'generationInterrupted':
    case 'compacted':
      return settleStepless(ledger, runId, fact.data.usage)
    case 'compactionFailed': {
      const { code, usage } = fact.data
      return usage === null && REFUSED_BEFORE.has(code) ? release(ledger, runId) : settleStepless(ledger, runId, usage)
    }
    case 'generationFailed':
      return REFUSED_BEFORE.has(fact.data.code) ? release(ledger, runId) : lose(ledger, runId)
    case 'budgetHeld': {
      const { questionId } = fact.data
      const lost = lose(ledger, runId)
      // The answer may have come first: then nothing holds the run.
      const isAsked = namesIn(lost).some((name) => lost.accounts[name]?.asking?.id === questionId)
      return isAsked ? { ...lost, held: { ...lost.held, [runId]: questionId } } : lost
    }
    case 'questionAsked': {
      const { question } = fact.data
      const name = question.purpose === 'budget' ? accountIn(question.args) : undefined
      if (name === undefined) return ledger
      const asking = { id: question.id, state: 'open' } as const
      return alter(ledger, name, (account) => ({ ...account, asking, questions: account.questions + 1 }))
    }
    case 'runFinished':
      return closeWith(ledger, runId)
    case 'toolReturned': {
      // A run that is held gives its calls up for a query: none was made.
      const { [runId]: question, ...held } = ledger.held
      if (question !== undefined) return { ...ledger, held }
      if (ledger.counted[runId] === fact.stepNumber) return ledger
      const amount = { ...nothing, toolCalls: 1 }
      return charge(ledger, runId, (account) => ({ ...account, used: plus(account.used, amount) }))
    }
    default:
      return ledger
  }
}

/** What was used by what is no step of a run; null counts as all that was set aside. */
function settleStepless(ledger: Ledger, runId: RunId, usage: Usage | null): Ledger {
  if (usage === null) return lose(ledger, runId)
  const amount = { ...amountOf(usage), steps: 0 }
  return charge(release(ledger, runId), runId, (account) => ({ ...account, used: plus(account.used, amount) }))
}

/** Failures of a generation that a provider was not paid for: it was refused, or never asked. */
const REFUSED_BEFORE: ReadonlySet<string> = new Set([
  'model_not_found',
  'model_key_missing',
  'model_key_refused',
  'model_overloaded',
  'model_refused',
  'context_exceeded',
  'rehearsal_diverged',
  'rehearsal_invalid',
])

/** The account that a question of ours is about. */
function accountIn(args: unknown): AccountName | undefined {
  const name = typeof args === 'object' && args !== null && 'account' in args ? args.account : undefined
  return typeof name === 'string' ? (name as AccountName) : undefined // one that is unknown changes nothing
}

/** A run's accounts, its own first and the job's last. */
export function pathOf(ledger: Ledger, runId: RunId): readonly AccountName[] {
  const path: AccountName[] = []
  for (let name: AccountName | null = runId; name !== null && !path.includes(name);) {
    const account: Account | undefined = ledger.accounts[name]
    if (account === undefined) break
    path.push(name)
    name = account.parent
  }
  return path.includes(JOB) ? path : [...path, JOB]
}

function alter(ledger: Ledger, name: AccountName, how: (account: Account) => Account): Ledger {
  // A name may come from a log of elsewhere.
  const account = Object.hasOwn(ledger.accounts, name) ? ledger.accounts[name] : undefined
  return account === undefined ? ledger : { ...ledger, accounts: { ...ledger.accounts, [name]: how(account) } }
}

function charge(ledger: Ledger, runId: RunId, how: (account: Account) => Account): Ledger {
  return pathOf(ledger, runId).reduce((next, name) => alter(next, name, how), ledger)
}

/** Nobody sets money aside for what has no price: there is no limit of money above it (B7). */
function priced(amount: Amount): Amount {
  return { ...amount, costUsd: amount.costUsd ?? 0 }
}

/** What was set aside for the run's generation is free again. */
function release(ledger: Ledger, runId: RunId): Ledger {
  const { [runId]: amount, ...outstanding } = ledger.outstanding
  if (amount === undefined) return ledger
  const reserved = priced(amount)
  return charge({ ...ledger, outstanding }, runId, (account) => ({
    ...account,
    reserved: minus(account.reserved, reserved),
  }))
}

/** What was set aside for the run's generation counts as spent (B2). */
function lose(ledger: Ledger, runId: RunId): Ledger {
  const amount = ledger.outstanding[runId]
  if (amount === undefined) return ledger
  return charge(release(ledger, runId), runId, (account) => ({ ...account, used: plus(account.used, amount) }))
}

function loseAll(ledger: Ledger): Ledger {
  return runsIn(ledger.outstanding).reduce(lose, ledger)
}

function runsIn(record: Readonly<Record<RunId, unknown>>): readonly RunId[] {
  return Object.keys(record) as RunId[] // the keys that the type gives it
}

function namesIn({ accounts }: Ledger): readonly AccountName[] {
  return Object.keys(accounts) as AccountName[] // the keys that the type gives it
}

function endLease(ledger: Ledger, at: number): Ledger {
  const { leasedAt } = ledger
  const lost = loseAll(ledger)
  if (leasedAt === null) return lost
  return { ...lost, timeMs: lost.timeMs + Math.max(0, at - leasedAt), leasedAt: null }
}

/** Nobody waits for an answer any more, and a further query may ask again. */
function closeAll(ledger: Ledger): Ledger {
  const quiet = namesIn(ledger).reduce((next, name) => alter(next, name, (one) => ({ ...one, asking: null })), ledger)
  return { ...quiet, held: {} }
}

/** With a run nobody asks about its account any more, nor with the coordinator's about the job's. */
function closeWith(before: Ledger, runId: RunId): Ledger {
  const { [runId]: _, ...held } = before.held
  const ledger = { ...lose(before, runId), held }
  const close = (next: Ledger, name: AccountName): Ledger =>
    alter(next, name, (one) => (one.asking?.state === 'open' ? { ...one, asking: null } : one))
  return runId === ledger.lastRoot ? close(close(ledger, runId), JOB) : close(ledger, runId)
}

/** What the parent had under way is the parent's to pay; its time goes on in it, not here. */
function forked(
  ledger: Ledger,
  lastAt: number,
  { query, budget }: { readonly query: string | null; readonly budget?: Budget },
): Ledger {
  const ended = endLease(runsIn(ledger.outstanding).reduce(release, ledger), lastAt)
  const open = query === null ? ended : closeAll(ended)
  if (budget === undefined) return open
  // A raise, too, ends a stop; a question that is open is answered besides.
  return alter(open, JOB, ({ limits, asking, ...account }) => ({
    ...account,
    limits: raised(limits, budget),
    asking: asking?.state === 'stopped' ? null : asking,
  }))
}

/** With more than the job had; without a query it is the coordinator's last run that goes on, with more of its own. */
function continued(ledger: Ledger, query: string | null, budget: Budget): Ledger {
  const open = closeAll(ledger)
  const job = alter(open, JOB, (account) => ({ ...account, limits: raised(account.limits, budget) }))
  if (query !== null || job.lastRoot === null) return job
  return alter(job, job.lastRoot, (account) => ({ ...account, limits: raiseKnown(account.limits, budget) }))
}

/** Limits that are there already, where the budget is above them. */
function raiseKnown(limits: Budget, budget: Budget): Budget {
  const raise = Object.entries(budget).filter(([measure, limit]) => limit > (limits[measure as Measure] ?? Infinity))
  return raised(limits, Object.fromEntries(raise))
}

function answered(ledger: Ledger, id: QuestionId, verdict: ReturnType<typeof verdictOf>): Ledger {
  const name = namesIn(ledger).find((one) => ledger.accounts[one]?.asking?.id === id)
  if (name === undefined || verdict === undefined) return ledger
  if (verdict === 'stop')
    return alter(ledger, name, (account) => ({ ...account, asking: { id, state: 'stopped' as const } }))
  const held = Object.fromEntries(Object.entries(ledger.held).filter(([, question]) => question !== id))
  return alter({ ...ledger, held }, name, (account) => ({
    ...account,
    limits: raised(account.limits, verdict),
    asking: null,
  }))
}

/** The job's time at a moment, ms. */
export function timeOf(ledger: Ledger, at: number): number {
  return ledger.timeMs + (ledger.leasedAt === null ? 0 : Math.max(0, at - ledger.leasedAt))
}

// ---- what may be spent

/** What a generation will take, as far as it can be known before. */
export interface Estimate {
  readonly inputTokens: number
  /** What the input costs at most; null when its price is not known. */
  readonly inputUsd: number | null
  readonly outputTokenUsd: number | null
}

/** A generation is asked for at most so much output, as much as one without a budget gets of the strictest provider. */
export const OUTPUT_TOKENS_MOST = 32_000
/** Below so much, a generation waits for others to settle, if that can give it more. */
export const OUTPUT_TOKENS_WANTED = 4_096
/** Below so much, no generation is begun: what it wrote would break off. */
export const OUTPUT_TOKENS_LEAST = 256

export type Leave =
  /** No account on the path has a limit. */
  | { readonly is: 'free' }
  /** There is room: to be set aside before anything is spent. `timeMs` is how long it may take. */
  | { readonly is: 'granted'; readonly amount: Amount; readonly timeMs: number | null }
  /** There will be room, perhaps, when others have settled. */
  | { readonly is: 'later' }
  | { readonly is: 'lacking'; readonly account: AccountName; readonly measures: readonly Measure[] }

/** Whether a run may generate now. */
export function leaveToGenerate(ledger: Ledger, runId: RunId, estimate: Estimate, at: number): Leave {
  const path = pathOf(ledger, runId).flatMap((name) => {
    const account = ledger.accounts[name]
    return account === undefined || isUnlimited(account.limits) ? [] : [{ name, account }]
  })
  if (path.length === 0) return { is: 'free' }
  for (const { name, account } of path) {
    const measures = lackingIn(account, estimate, timeLeft(ledger, name, at))
    if (measures.length > 0) return { is: 'lacking', account: name, measures }
  }
  const settled = outputRoom(path, estimate, (account) => account.used)
  const now = outputRoom(path, estimate, (account) => plus(account.used, account.reserved))
  if (now < Math.min(OUTPUT_TOKENS_WANTED, settled)) return { is: 'later' }
  const { inputTokens } = estimate
  const costUsd = costOf(estimate, now)
  const amount = { ...nothing, costUsd, inputTokens, cachedInputTokens: inputTokens, outputTokens: now, steps: 1 }
  const timesMs = path.flatMap(({ name }) => timeLeft(ledger, name, at) ?? [])
  return { is: 'granted', amount, timeMs: timesMs.length === 0 ? null : Math.min(...timesMs) }
}

/** Whether a run may make the calls of its step. */
export function leaveToCall(ledger: Ledger, runId: RunId, calls: number): Leave {
  const path = pathOf(ledger, runId).flatMap((name) => {
    const account = ledger.accounts[name]
    const limit = account?.limits.toolCalls
    return account === undefined || limit === undefined ? [] : [{ name, account, limit }]
  })
  const lacking = path.find(({ account, limit }) => account.used.toolCalls + calls > limit)
  if (lacking !== undefined) return { is: 'lacking', account: lacking.name, measures: ['toolCalls'] }
  return { is: 'granted', amount: { ...nothing, toolCalls: calls }, timeMs: null }
}

/** How long an account may still go on, ms; null for ever. */
export function timeLeft(ledger: Ledger, name: AccountName, at: number): number | null {
  const account = ledger.accounts[name]
  const wallSeconds = account?.limits.wallSeconds
  return account === undefined || wallSeconds === undefined
    ? null
    : wallSeconds * 1000 - (timeOf(ledger, at) - account.openedMs)
}

/** What an account lacks for the least that a generation takes, were all that is under way settled at nothing. */
function lackingIn(account: Account, estimate: Estimate, leftMs: number | null): readonly Measure[] {
  const { limits, used } = account
  const least: Amount = {
    costUsd: costOf(estimate, OUTPUT_TOKENS_LEAST),
    inputTokens: estimate.inputTokens,
    cachedInputTokens: estimate.inputTokens,
    outputTokens: OUTPUT_TOKENS_LEAST,
    steps: 1,
    toolCalls: 0,
  }
  const total = plus(used, least)
  const lacks = (measure: Exclude<Measure, 'wallSeconds' | 'toolCalls'>): boolean => {
    const limit = limits[measure]
    const sum = total[measure]
    return limit !== undefined && (sum === null || sum > limit)
  }
  const measures: Measure[] = (
    ['costUsd', 'inputTokens', 'cachedInputTokens', 'outputTokens', 'steps'] as const
  ).filter(lacks)
  return leftMs !== null && leftMs <= 0 ? [...measures, 'wallSeconds'] : measures
}

function costOf({ inputUsd, outputTokenUsd }: Estimate, outputTokens: number): number | null {
  if (inputUsd === null || outputTokenUsd === null) return null
  return Math.ceil((inputUsd + outputTokens * outputTokenUsd) * 1e9 - 1e-3) / 1e9
}

/** The most output for which every account on the path has room; 0 when one has none for the rest of a generation. */
function outputRoom(
  path: readonly { readonly account: Account }[],
  estimate: Estimate,
  takenOf: (account: Account) => Amount,
): number {
  let most = OUTPUT_TOKENS_MOST
  for (const { account } of path) {
    const { limits } = account
    const taken = takenOf(account)
    const fits =
      taken.inputTokens + estimate.inputTokens <= (limits.inputTokens ?? Infinity) &&
      taken.cachedInputTokens + estimate.inputTokens <= (limits.cachedInputTokens ?? Infinity) &&
      taken.steps + 1 <= (limits.steps ?? Infinity)
    if (!fits) return 0
    most = Math.min(most, (limits.outputTokens ?? Infinity) - taken.outputTokens)
    if (limits.costUsd !== undefined) most = Math.min(most, affordable(limits.costUsd, taken.costUsd, estimate))
  }
  return Math.max(0, Math.floor(most))
}

/** The most output tokens that money is left for. */
function affordable(limitUsd: number, takenUsd: number | null, estimate: Estimate): number {
  const { inputUsd, outputTokenUsd } = estimate
  if (takenUsd === null || inputUsd === null || outputTokenUsd === null) return 0
  const leftUsd = limitUsd - takenUsd
  const fits = (tokens: number): boolean => (costOf(estimate, tokens) ?? Infinity) <= leftUsd + 5e-10
  if (outputTokenUsd === 0) return fits(0) ? OUTPUT_TOKENS_MOST : 0
  const near = Math.min(OUTPUT_TOKENS_MOST, Math.floor((leftUsd - inputUsd) / outputTokenUsd))
  // A quotient of dollars may be off by one token either way.
  return [near + 1, near, near - 1].find(fits) ?? 0
}
