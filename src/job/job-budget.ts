/** A job's own budget, as its row has it: the account of the job alone, kept once the job has a limit. */
import { MEASURES, type Budget, type Measure } from '../../schema/budget.ts'
import type { NewEvent } from '../../schema/event.ts'
import type { QuestionId } from '../../schema/id.ts'
import { emptyLedger, JOB, spend, timeOf, type Ledger } from '../../schema/ledger.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { refuse, type Refusal } from '../../schema/error.ts'
import { refuseAnswer } from './answer.ts'
import { isOpen, type JobSummary, type QuestionSummary, type RunSummary } from './job-summary.ts'

/** The ledger after `event`; undefined while the job has no budget of its own. */
export function keepLedger(
  before: Pick<JobSummary, 'ledger' | 'usage' | 'steps'>,
  event: NewEvent & { readonly at: number },
): Ledger | undefined {
  const ledger = before.ledger ?? (givenBy(event) === undefined ? undefined : openLedger(before))
  return ledger === undefined ? undefined : spend(ledger, event, event.at, null)
}

function givenBy(event: NewEvent): Budget | undefined {
  switch (event.type) {
    case 'jobCreated':
    case 'jobContinued':
    case 'jobForked':
      return event.data.budget
    default:
      return undefined
  }
}

/** For a job that gets its first limit when it is continued or forked: what it used counts. */
function openLedger({ usage, steps }: Pick<JobSummary, 'usage' | 'steps'>): Ledger {
  const account = emptyLedger.accounts[JOB]
  if (account === undefined) throw new TypeError('an empty ledger has no account of the job')
  const { costUsd, inputTokens, cachedInputTokens, outputTokens } = usage
  const used = { ...account.used, costUsd, inputTokens, cachedInputTokens, outputTokens, steps }
  return { ...emptyLedger, accounts: { [JOB]: { ...account, used } } }
}

export type Measured = Readonly<Record<Measure, number | null>>

export interface JobBudget {
  readonly limits: Budget
  /** What was spent, and what was set aside and never settled. */
  readonly used: Measured
  /** What is set aside for generations that are under way. */
  readonly reserved: Measured
}

/** As clients see it; null for a job without a budget of its own. */
export function budgetOf({ ledger }: Pick<JobSummary, 'ledger'>): JobBudget | null {
  const account = ledger?.accounts[JOB]
  if (ledger === undefined || account === undefined) return null
  const { limits, used, reserved } = account
  return {
    limits,
    used: { ...used, wallSeconds: Math.ceil(timeOf(ledger, ledger.lastAt) / 1000) },
    reserved: { ...reserved, wallSeconds: 0 },
  }
}

/** Questions of budgets that wait for an answer. */
export function openBudgetQuestions(job: Pick<JobSummary, 'questions'>): readonly QuestionSummary[] {
  return job.questions.filter((question) => question.purpose === 'budget' && isOpen(question))
}

/** Those that ask about the job's own budget, and no run's. */
export function openJobBudgetQuestions(job: Pick<JobSummary, 'questions'>): readonly QuestionSummary[] {
  return openBudgetQuestions(job).filter(({ args }) => isJsonObject(args) && args['account'] === JOB)
}

/** Whether the end of a run, or of a call of it, may leave a question open: a budget's lives as long as its account. */
export function isWithdrawnBy(
  runs: readonly RunSummary[],
  { purpose, runId, args }: QuestionSummary,
  endedId: string | null,
): boolean {
  if (purpose !== 'budget') return runId === endedId
  const account = isJsonObject(args) ? args['account'] : null
  if (account !== JOB) return account === endedId
  return runs.some((run) => run.id === endedId && run.parentRunId === null)
}

/** The answer that a raised budget is to each of the questions, or why it is none. */
export function answersWith(
  questions: readonly QuestionSummary[],
  budget: Budget,
): readonly { readonly questionId: QuestionId; readonly value: Json }[] | Refusal {
  const answers: { readonly questionId: QuestionId; readonly value: Json }[] = []
  for (const question of questions) {
    const limits = limitsIn(question)
    const raise = Object.fromEntries(Object.entries(budget).filter(([measure]) => limits.has(measure)))
    const value = { raise }
    const refused = refuseRaise(question, budget) ?? refuseAnswer(question, value)
    if (refused !== undefined) return refused
    answers.push({ questionId: question.id, value })
  }
  return answers
}

/** In plain words what the schema of the question says as well. */
function refuseRaise({ id, args }: QuestionSummary, budget: Budget): Refusal | undefined {
  if (!isJsonObject(args)) return undefined
  const { lacking, limits, used } = args
  const at = (of: Json | undefined, measure: string): number | undefined => {
    const value = of !== undefined && isJsonObject(of) ? of[measure] : undefined
    return typeof value === 'number' ? value : undefined
  }
  for (const measure of MEASURES) {
    const [limit, spent, raised] = [at(limits, measure), at(used, measure), budget[measure]]
    if (limit === undefined) continue
    if (raised === undefined && Array.isArray(lacking) && lacking.includes(measure))
      return refuse('answer_invalid', `Question ${id} lacks ${measure}, of which the budget says nothing.`)
    if (raised === undefined) continue
    if (raised < limit)
      return refuse(
        'answer_invalid',
        `budget.${measure} ${raised} is below the limit of ${limit}, which can only be raised.`,
      )
    if (spent !== undefined && raised <= spent)
      return refuse('answer_invalid', `budget.${measure} ${raised} is not above the ${spent} that were used.`)
  }
  return undefined
}

function limitsIn({ args }: QuestionSummary): ReadonlySet<string> {
  const limits = isJsonObject(args) ? args['limits'] : undefined
  return new Set(limits !== undefined && isJsonObject(limits) ? Object.keys(limits) : [])
}

/** Why a budget lets a finished job not go on. */
export function refuseBudget(
  job: Pick<JobSummary, 'id' | 'ledger' | 'usage' | 'steps'>,
  budget: Budget,
): Refusal | undefined {
  const used = budgetOf({ ledger: job.ledger ?? openLedger(job) })?.used
  for (const measure of MEASURES) {
    const limit = budget[measure]
    const spent = used?.[measure] ?? null
    if (limit !== undefined && spent !== null && limit <= spent)
      return refuse(
        'input_invalid',
        `budget.${measure} ${limit} is not above the ${spent} that job ${job.id} has used.`,
      )
  }
  return undefined
}
