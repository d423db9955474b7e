/** Generations that a machine asks for: the messages come from the log, the prompt from the machine, by its hash. */
import type { Clock } from '../../schema/clock.ts'
import type { GenerateParams } from '../../schema/control.ts'
import { wantsCompaction } from '../../schema/context.ts'
import { Conversations, settled } from '../../schema/conversation.ts'
import { PlatformError } from '../../schema/error.ts'
import type { HostFact, JobEvent } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { RunId } from '../../schema/id.ts'
import { canonical, hashOf } from '../../schema/hash.ts'
import { textOf, type Prompt } from '../../schema/message.ts'
import type { Usage } from '../../schema/usage.ts'
import type { Gateway } from '../gateway/gateway.ts'
import { bytesOf } from '../gateway/token.ts'
import type { Attempt, Jobs } from '../job/jobs.ts'
import { compactionMessages, keptOf } from './compaction.ts'
import type { Log } from '../log.ts'
import type { ContentStore } from '../workspace/content-store.ts'

export type GenerationEnd = Extract<
  HostFact,
  { type: 'generated' | 'generationFailed' | 'generationInterrupted' | 'compacted' | 'compactionFailed' }
>

export interface GenerationBounds {
  /** A query waits that is to be read first. */
  readonly isInterrupted?: boolean
  /** What the model may write; null for what its provider allows. */
  readonly outputTokensMax?: number | null
  readonly cut?: AbortSignal
}

export interface Generations {
  /** Takes every event of the log, in order. */
  see(event: JobEvent): void
  /** The size of the prompt, which is known from then on. Throws `protocol_breach`. */
  promptBytes(params: GenerateParams): Promise<number>
  /**
   * What to record of the generation, which does not begin when it is interrupted already. Throws `protocol_breach`, or
   * the reason of a signal: its own, or that of `cut`.
   */
  generate(params: GenerateParams, bounds?: GenerationBounds): Promise<GenerationEnd>
  /** Gives up what is in flight for a query; what is asked for afterwards is generated. */
  interrupt(): void
  /** Aborts what is in flight; gives the runs that it was for. */
  cancel(): ReadonlySet<RunId>
}

export function openGenerations(
  dependencies: {
    readonly gateway: Gateway
    readonly content: ContentStore
    readonly jobs: Pick<Jobs, 'show'>
    readonly clock: Clock
    readonly log: Log
  },
  attempt: Attempt,
  over: AbortSignal,
): Generations {
  const { gateway, content, jobs, clock, log } = dependencies
  const { jobId, applicationId, lock } = attempt
  const conversations = new Conversations()
  /** Each from the moment at which it was sent, as requests of other runs name it while it is being stored. */
  const prompts = new Map<string, Promise<Prompt>>()
  const inFlight = new Set<RunId>()
  const canceled = new AbortController()
  const ended = AbortSignal.any([over, canceled.signal])
  let interrupted = new AbortController()

  async function promptOf(params: GenerateParams): Promise<Prompt> {
    const { promptHash, prompt } = params
    if (prompt !== undefined && !prompts.has(promptHash)) {
      if (hashOf(prompt) !== promptHash)
        throw new PlatformError('protocol_breach', `The prompt is not what ${promptHash} names.`)
      const stored = content.put(new TextEncoder().encode(canonical(prompt))).then(() => prompt)
      // Whoever waits for it hears of a failure; when nobody does, nobody needs to.
      stored.catch(() => {})
      prompts.set(promptHash, stored)
    }
    const known = prompts.get(promptHash)
    if (known === undefined) throw new PlatformError('protocol_breach', `No prompt ${promptHash} was sent.`)
    return known
  }

  async function generate(params: GenerateParams, bounds: GenerationBounds): Promise<GenerationEnd> {
    const { isInterrupted = false, outputTokensMax = null, cut } = bounds
    const over = cut === undefined ? ended : AbortSignal.any([ended, cut])
    const { runId, expertKey, stepNumber, promptHash, purpose } = params
    const prompt = await promptOf(params)
    const conversation = conversations.of(runId)
    const { messages, context } = conversation
    if (messages.length !== params.messageCount)
      throw new PlatformError(
        'protocol_breach',
        `Run ${runId} has ${messages.length} messages in the log and ${params.messageCount} in the machine.`,
      )
    const expert = lock.experts[expertKey as ExpertKey] // the admission found the run's expert in the lock
    if (expert === undefined) throw new PlatformError('protocol_breach', `Expert ${expertKey} is not in the lock.`)
    if (purpose === 'compaction' && !wantsCompaction(context, settled(conversation), expert.compaction))
      throw new PlatformError('protocol_breach', `Run ${runId} owes no compaction.`)
    const model = attempt.model ?? expert.model
    if (model === null) {
      const message = `Expert ${expertKey} names no model, and neither does the job.`
      return { type: 'generationFailed', data: { code: 'model_not_found', message, model: '' } } as const
    }
    const startedAt = clock.now()
    const interruption = isInterrupted ? AbortSignal.abort() : interrupted.signal
    const giveUp = (usage: Usage | null): GenerationEnd => {
      const durationMs = Math.max(0, clock.now() - startedAt)
      return { type: 'generationInterrupted', data: { model, usage, durationMs } }
    }
    const uncompacted = (code: string, message: string, usage: Usage | null): GenerationEnd => ({
      type: 'compactionFailed',
      data: { code, message, model, usage },
    })
    if (isInterrupted) return giveUp(null)
    const place = { jobId, runId, expertKey, stepNumber }
    try {
      const isCompaction = purpose === 'compaction'
      const isExceeded = context.exceeded !== null
      const read = isCompaction ? compactionMessages(messages, isExceeded) : messages
      const { parts, usage, finishReason, contextWindow } = await gateway.generate(
        {
          applicationId,
          model,
          expert,
          stepNumber,
          prompt,
          messages: read,
          ...(isCompaction ? { purpose } : {}),
          ...(outputTokensMax === null ? {} : { outputTokensMax }),
        },
        (kind, text) => {
          // A summary is a message to the model, and nothing that the run says.
          if (!isCompaction) jobs.show({ type: 'delta', ...place, kind, text })
        },
        AbortSignal.any([over, interruption]),
      )
      if (interruption.aborted) return giveUp(usage)
      const durationMs = Math.max(0, clock.now() - startedAt)
      if (isCompaction) {
        const summary = textOf(parts).trim()
        if (summary === '') return uncompacted('model_error', `${model} wrote no summary.`, usage)
        const kept = keptOf(messages, isExceeded ? {} : expert.compaction)
        return { type: 'compacted', data: { summary, kept, usage, model, promptHash, durationMs } }
      }
      const data = { parts, usage, model, finishReason, promptHash, durationMs }
      return { type: 'generated', data: contextWindow === null ? data : { ...data, contextWindow } }
    } catch (error) {
      over.throwIfAborted()
      if (interruption.aborted) return giveUp(null)
      if (!(error instanceof PlatformError)) log.error('The gateway failed.', { jobId, runId, error })
      const { code, message } =
        error instanceof PlatformError ? error : { code: 'model_error', message: `${model} could not be asked.` }
      if (purpose === 'compaction') return uncompacted(code, message, null)
      return { type: 'generationFailed', data: { code, message, model } }
    }
  }

  return {
    see: (event) => conversations.add(event),
    promptBytes: async (params) => bytesOf(await promptOf(params)),
    async generate(params, bounds = {}) {
      if (inFlight.has(params.runId))
        throw new PlatformError('protocol_breach', `Run ${params.runId} generates already.`)
      inFlight.add(params.runId)
      try {
        return await generate(params, bounds)
      } finally {
        inFlight.delete(params.runId)
      }
    },
    interrupt() {
      interrupted.abort(new Error('a query interrupted the generation'))
      interrupted = new AbortController()
    },
    cancel() {
      const cut = new Set(inFlight)
      canceled.abort(new Error('the job is being canceled'))
      return cut
    },
  }
}
