/** Budgets as they are typed, and what a job cost as it is read. Pure. */
import { MEASURES, type Measure, type Raise } from '../../schema/budget.ts'
import { PlatformError } from '../../schema/error.ts'
import { isJsonObject, type JsonObject } from '../../schema/json.ts'
import type { ShownJob, ShownQuestion } from './api.ts'
import type { Option } from './command.ts'

export const BUDGET_OPTIONS: Readonly<Record<string, Option>> = {
  'budget-usd': { type: 'string', value: 'dollars', help: 'The most that it may cost; then it asks.' },
  budget: {
    type: 'string',
    multiple: true,
    value: 'measure=n',
    help: `The same in another measure (${MEASURES.slice(1).join(', ')}); may be repeated.`,
  },
}

/** In place of a number, lifts a limit. */
const LIFTED = 'none'

/** The budget of the options, as a member of an API's input; {} for none. Throws input_invalid. */
export function parseBudget(usd: string | undefined, pairs: readonly string[]): { readonly budget?: JsonObject } {
  const typed = [...(usd === undefined ? [] : [`costUsd=${usd}`]), ...pairs]
  const lifting = typed.find((pair) => pair.endsWith(`=${LIFTED}`))
  if (lifting !== undefined)
    throw new PlatformError('input_invalid', `"${lifting}" is no limit; leave it out for none.`)
  return typed.length === 0 ? {} : { budget: { ...parsePairs(typed) } }
}

function parsePairs(typed: readonly string[]): Raise {
  const budget: Partial<Record<Measure, number | null>> = {}
  for (const pair of typed) {
    const [name = '', text = ''] = pair.split('=')
    const measure = MEASURES.find((one) => one === name)
    const limit = text === LIFTED ? null : Number(text)
    if (measure === undefined || text.trim() === '' || (limit !== null && !Number.isFinite(limit)))
      throw new PlatformError(
        'input_invalid',
        `"${pair}" is no limit: write measure=number, where the measure is one of ${MEASURES.join(', ')}.`,
      )
    budget[measure] = limit
  }
  return budget
}

/** An answer to a question of a budget: `stop`, or new totals such as `costUsd=5 steps=none`; undefined for other text. */
export function parseRaise(text: string): 'stop' | { readonly raise: Raise } | undefined {
  const typed = text.trim()
  if (typed === 'stop') return 'stop'
  return /^\w+=\S+(?:\s+\w+=\S+)*$/.test(typed) ? { raise: parsePairs(typed.split(/\s+/)) } : undefined
}

/** The commands that raise what a question says is lacking, or stop. */
export function printHowToRaise(jobId: string, { id, args }: ShownQuestion): string {
  const lacking = isJsonObject(args) && Array.isArray(args['lacking']) ? args['lacking'] : []
  const options = MEASURES.filter((measure) => lacking.includes(measure)).map((measure) =>
    measure === 'costUsd' ? '--budget-usd <dollars>' : `--budget ${measure}=<n>`,
  )
  return [
    `Raise it with: senmon continue ${jobId} ${options.join(' ')}`,
    `Stop it with: senmon answer ${jobId} ${id} stop`,
    '',
  ].join('\n')
}

/** A share as people read it: whole percents. */
export function printShare(share: number): string {
  return `${Math.round(share * 100)} %`
}

/** What a job used, in a line, and how full that made its model's window. */
export function printCost({ usage, context }: ShownJob): string {
  const full = context === null || context.share === null ? '' : `, ${printShare(context.share)} of its model's window`
  const { inputTokens, outputTokens, costUsd } = usage
  const tokens = `${inputTokens.toLocaleString('en-US')} input and ${outputTokens.toLocaleString('en-US')} output tokens`
  return costUsd === null
    ? `${tokens}, at a price that is not known${full}`
    : `${tokens}, $${costUsd.toFixed(4)}${full}`
}
