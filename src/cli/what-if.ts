/** A fork beside its parent: the steps that both took after the checkpoint, and where they part. */
import { readBundle } from '../../schema/bundle.ts'
import type { JobEvent } from '../../schema/event.ts'
import { canonical } from '../../schema/hash.ts'
import { textOf } from '../../schema/message.ts'
import { addUsage, noUsage, type Usage } from '../../schema/usage.ts'
import { listCheckpoints, type Checkpoint } from '../job/checkpoint.ts'
import type { Api } from './api.ts'
import { bundlePath } from './bundle-source.ts'
import { shownLine } from './terminal.ts'

/** What a step came to, as people compare it. */
export interface Step {
  readonly text: string
  readonly calls: readonly string[]
  readonly results: readonly string[]
  /** The workspace at its end; null while it is empty. */
  readonly tree: string | null
  readonly costUsd: number | null
  readonly tokens: number
}
type Aspect = 'text' | 'calls' | 'results' | 'tree'
const ASPECTS: readonly Aspect[] = ['text', 'calls', 'results', 'tree']

export interface Pair {
  readonly runId: string
  readonly expertKey: string
  readonly stepNumber: number
  /** Null where only the other took the step. */
  readonly before: Step | null
  readonly after: Step | null
  /** In what they differ; all of it when one of them is missing. */
  readonly differs: readonly Aspect[]
}

export interface Comparison {
  readonly parentJobId: string
  readonly jobId: string
  /** Of the checkpoint that the fork goes on from. */
  readonly seq: number
  /** Steps after it, in the parent's order, then those that only the fork took. */
  readonly steps: readonly Pair[]
  readonly before: Usage & { readonly steps: number; readonly result: string | null }
  readonly after: Usage & { readonly steps: number; readonly result: string | null }
}

/** Pairs steps by run and number: runs of a fork have the ids that they have in its parent. */
export function compare(parent: readonly JobEvent[], fork: readonly JobEvent[]): Comparison {
  const forked = fork.findLast((event) => event.type === 'jobForked')
  if (forked === undefined) throw new TypeError('the job is no fork')
  const { parentSeq: seq, parentJobId } = forked.data
  const { jobId } = forked
  const [early, late] = [stepsAfter(parent, seq), stepsAfter(fork, seq)]
  const byStep = new Map(late.map((one) => [nameOf(one), one]))
  const paired = early.map((one) => pair(one, byStep.get(nameOf(one))))
  const known = new Set(early.map(nameOf))
  const added = late.filter((one) => !known.has(nameOf(one))).map((one) => pair(undefined, one))
  return { parentJobId, jobId, seq, steps: [...paired, ...added], before: sum(parent, early), after: sum(fork, late) }
}

function stepsAfter(events: readonly JobEvent[], seq: number): readonly Checkpoint[] {
  const [first] = events
  return first === undefined ? [] : listCheckpoints(first.jobId, events).filter((one) => one.seq > seq)
}

function nameOf({ runId, stepNumber }: Checkpoint): string {
  return `${runId} ${stepNumber}`
}

function sum(events: readonly JobEvent[], steps: readonly Checkpoint[]): Comparison['before'] {
  const usage = steps.reduce((total, one) => addUsage(total, one.usage), noUsage)
  const end = events.findLast((event) => event.type === 'jobFinished')
  return { ...usage, steps: steps.length, result: end?.data.result ?? null }
}

function pair(early: Checkpoint | undefined, late: Checkpoint | undefined): Pair {
  const one = late ?? early
  if (one === undefined) throw new TypeError('a pair of nothing')
  const { runId, expertKey, stepNumber } = one
  const [before, after] = [early === undefined ? null : stepOf(early), late === undefined ? null : stepOf(late)]
  const differs = ASPECTS.filter(
    (aspect) => before === null || after === null || canonical(before[aspect]) !== canonical(after[aspect]),
  )
  return { runId, expertKey, stepNumber, before, after, differs }
}

function stepOf({ newMessages, toolCalls, toolResults, treeHash, usage }: Checkpoint): Step {
  const said = newMessages.flatMap((message) => (message.role === 'expert' ? [textOf(message.content)] : []))
  return {
    text: said.join('\n'),
    calls: toolCalls.map(({ name, args }) => `${name} ${canonical(args)}`),
    results: toolResults.map(({ name, content, isError }) => `${name} ${isError ? 'failed: ' : ''}${textOf(content)}`),
    tree: treeHash,
    costUsd: usage.costUsd,
    tokens: usage.inputTokens + usage.outputTokens,
  }
}

/** Both logs as the server has them. */
export async function compareFork(api: Api, jobId: string): Promise<Comparison> {
  const fork = await readEvents(api, jobId)
  const parentJobId = fork.findLast((event) => event.type === 'jobForked')?.data.parentJobId
  return compare(parentJobId === undefined ? [] : await readEvents(api, parentJobId), fork)
}

async function readEvents(api: Api, jobId: string): Promise<readonly JobEvent[]> {
  const events: JobEvent[] = []
  for await (const part of readBundle(await api.download(bundlePath(jobId, { files: false }))))
    if (part.type === 'event') events.push(part.event)
  return events
}

/** Lines as a difference is read: what both have once, what only one has under `-` (then) or `+` (now). */
export function printComparison({
  parentJobId,
  jobId,
  seq,
  steps,
  before: old,
  after: made,
}: Comparison): readonly string[] {
  const first = steps.find(({ differs }) => differs.length > 0)
  const lines = [`--- ${parentJobId} after event ${seq}`, `+++ ${jobId}`]
  for (const { expertKey, stepNumber, before, after, differs } of steps) {
    const title = `step ${stepNumber} of ${expertKey}`
    if (differs.length === 0) lines.push(`  ${title}: the same`)
    else if (after === null) lines.push(`- ${title}: ${print(before)}`)
    else if (before === null) lines.push(`+ ${title}: ${print(after)}`)
    else {
      lines.push(`  ${title}: another ${differs.join(', ')}`)
      for (const aspect of differs)
        lines.push(`-   ${aspect}: ${printAspect(before, aspect)}`, `+   ${aspect}: ${printAspect(after, aspect)}`)
    }
  }
  const at =
    first === undefined ? 'no divergence' : `the first divergence is step ${first.stepNumber} of ${first.expertKey}`
  lines.push(`${at}; ${printSum(old)} then, ${printSum(made)} now`)
  if (old.result !== made.result) lines.push(`- result: ${shownLine(old.result ?? 'none yet')}`)
  lines.push(`${old.result === made.result ? ' ' : '+'} result: ${shownLine(made.result ?? 'none yet')}`)
  return lines
}

function print(step: Step | null): string {
  if (step === null) return ''
  return shownLine([step.text, ...step.calls].filter((text) => text !== '').join('; '))
}

function printAspect(step: Step, aspect: Aspect): string {
  const value = step[aspect]
  return shownLine(typeof value === 'string' ? value : value === null ? 'empty' : value.join('; ') || 'none')
}

function printSum({ steps, costUsd, inputTokens, outputTokens }: Comparison['before']): string {
  const cost = costUsd === null ? 'at an unknown cost' : `for $${costUsd.toFixed(4)}`
  return `${steps} step${steps === 1 ? '' : 's'}, ${inputTokens + outputTokens} tokens ${cost}`
}
