/** The question that is put when an account has no room left: what it says, and what may be answered. */
import { exactUsd, type Amount, type Measure } from './budget.ts'
import type { Question } from './event.ts'
import { hashOf } from './hash.ts'
import { deriveId, type JobId, type RunId } from './id.ts'
import type { Json, JsonObject } from './json.ts'
import { JOB, timeOf, type AccountName, type Ledger } from './ledger.ts'

export interface Lacking {
  readonly account: AccountName
  readonly measures: readonly Measure[]
  /** The run that wants to go on, and what it wants. */
  readonly runId: RunId
  readonly stepNumber: number
  readonly of: 'generation' | 'calls'
  /** Whose limits they are: an expert's key; null for the job's. */
  readonly expertKey: string | null
  readonly model: string | null
  /** Null when there is no price for the model. */
  readonly needsUsd: number | null
  readonly needs: Partial<Readonly<Record<Measure, number>>>
}

/** What a person calls a measure. */
const WORDS: Readonly<Record<Measure, string>> = {
  costUsd: 'dollars',
  inputTokens: 'input tokens',
  cachedInputTokens: 'cached input tokens',
  outputTokens: 'output tokens',
  steps: 'steps',
  toolCalls: 'tool calls',
  wallSeconds: 'seconds',
}

/** The same question for whoever derives it from the same log: its id counts the questions of its account. */
export function budgetQuestionOf(origin: JobId, ledger: Ledger, lacking: Lacking, at: number): Question {
  const { account: name, measures, runId, stepNumber, of } = lacking
  const account = ledger.accounts[name]
  if (account === undefined) throw new TypeError(`there is no account ${name}`)
  const { limits } = account
  const used = usedOf(account.used, Math.max(0, timeOf(ledger, at) - account.openedMs))
  const { expertKey, model, needsUsd, needs } = lacking
  const args = {
    account: name,
    expertKey,
    of,
    lacking: [...measures],
    limits: { ...limits },
    used: { ...used },
    needs: { ...needs, ...(measures.includes('costUsd') ? { costUsd: needsUsd } : {}) },
    model,
  } satisfies JsonObject
  const priceless = measures.includes('costUsd') && (needsUsd === null || used.costUsd === null)
  return {
    id: deriveId('que', origin, 'budget', name, account.questions),
    runId,
    callId: `${of}_${stepNumber}`,
    purpose: 'budget',
    kind: 'schema',
    title: titleOf(lacking, limits, used, priceless),
    schema: schemaOf(limits, used, measures),
    toolName: 'budget',
    args,
    argsHash: hashOf(args),
  }
}

type Used = Readonly<Record<Measure, number | null>>

function usedOf(used: Amount, timeMs: number): Used {
  return { ...used, wallSeconds: Math.ceil(timeMs / 1000) }
}

function titleOf(
  { account, expertKey, measures, model, needsUsd, needs, of }: Lacking,
  limits: Partial<Record<Measure, number>>,
  used: Used,
  priceless: boolean,
): string {
  const whose = account === JOB ? 'The job' : `This run of ${expertKey ?? 'its expert'}`
  if (priceless)
    return [
      `The price of ${needsUsd === null ? (model ?? 'the model') : 'what was used'} is not known, so a limit in dollars cannot be kept.`,
      `Stop, or lift the limit of ${print('costUsd', limits.costUsd ?? 0)}?`,
    ].join('\n')
  const lines = measures.map((measure) => {
    const need = measure === 'costUsd' ? needsUsd : (needs[measure] ?? null)
    const more =
      need === null || need === 0
        ? ''
        : `; ${of === 'calls' ? 'the next calls need room for' : 'the next generation needs room for'} ${print(measure, need)}`
    return `${whose} has used ${bare(measure, used[measure] ?? 0)} of ${print(measure, limits[measure] ?? 0)}${more}.`
  })
  return [...lines, 'Raise the limit, or stop?'].join('\n')
}

function bare(measure: Measure, value: number): string {
  return measure === 'costUsd' ? `$${exactUsd(value)}` : String(value)
}

function print(measure: Measure, value: number): string {
  return measure === 'costUsd' ? bare(measure, value) : `${value} ${WORDS[measure]}`
}

/** "stop", or new totals: at least what they are now, above what is used, and for all that is lacking. */
function schemaOf(limits: Partial<Record<Measure, number>>, used: Used, measures: readonly Measure[]): JsonObject {
  const properties: Record<string, Json> = {}
  for (const [measure, limit] of Object.entries(limits)) {
    const spent = used[measure as Measure] // a limit's key is a measure
    const total = { type: ['number', 'null'], minimum: limit, ...(spent === null ? {} : { exclusiveMinimum: spent }) }
    properties[measure] = spent === null ? { type: 'null' } : total
  }
  const raise = { type: 'object', properties, required: [...measures], additionalProperties: false }
  return {
    anyOf: [
      { const: 'stop' },
      { type: 'object', properties: { raise }, required: ['raise'], additionalProperties: false },
    ],
  }
}
