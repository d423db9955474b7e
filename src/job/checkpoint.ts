/** Checkpoints: what a job's events say at each step's end, enough to show it and to go on from it. */
import { Conversations } from '../../schema/conversation.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import { parseId, type JobId, type RunId } from '../../schema/id.ts'
import { SentPrompts, type SentPrompt } from '../../schema/sent-prompt.ts'
import type { Message, ToolCallPart, ToolResultPart } from '../../schema/message.ts'
import { completes } from '../../schema/base-tool.ts'
import { addUsage, noUsage, type Usage } from '../../schema/usage.ts'

export interface Checkpoint {
  /** Follows from the job and `seq`: the same for whoever folds the same log. */
  readonly id: string
  /** The seq of the step's last event. */
  readonly seq: number
  readonly jobId: JobId
  readonly runId: RunId
  readonly expertKey: string
  readonly stepNumber: number
  /** `completed` when the step called no tool, or completed by one, and its text was not rejected; else `proceeding`. */
  readonly status: 'proceeding' | 'completed'
  /** The run's whole conversation up to here. */
  readonly messages: readonly Message[]
  /** The part of it that is new since the run's last checkpoint. */
  readonly newMessages: readonly Message[]
  /** Calls of this step's generation, in order. */
  readonly toolCalls: readonly ToolCallPart[]
  readonly toolResults: readonly ToolResultPart[]
  /** What the step's generation was asked with; null for a step without one. */
  readonly prompt: SentPrompt | null
  /** How full the model's window is for the next step; `window` is null while it is not known. */
  readonly context: { readonly tokens: number; readonly window: number | null }
  /** How often what the run knew was replaced by a summary, up to here. */
  readonly compactions: number
  /** Of this step alone. */
  readonly usage: Usage
  /** The workspace at the step's end; null while it is empty. */
  readonly treeHash: Sha256 | null
  readonly stateHash: Sha256
  /** Epoch ms. */
  readonly createdAt: number
}

export interface Checkpoints {
  /** The checkpoint that this event completes; events come in the order of the log. */
  add(event: JobEvent): Checkpoint | undefined
}

/** A fold over one job's events from its first; each event costs what it adds. */
export function openCheckpoints(jobId: JobId): Checkpoints {
  const conversations = new Conversations()
  const prompts = new SentPrompts(conversations)
  const sent = new Map<RunId, SentPrompt>()
  /** What a run took over from the one that it continues is not new. */
  const inherited = new Map<RunId, number>()
  const usages = new Map<RunId, Usage>()
  let treeHash: Sha256 | null = null
  return {
    add(event) {
      const { runId } = event
      const added = runId === null ? [] : conversations.of(runId).added
      const prompt = prompts.add(event)
      if (event.type === 'workspaceChanged') treeHash = event.data.treeHash
      if (runId === null) return undefined
      if (event.type === 'runStarted' && event.data.continues !== null)
        inherited.set(runId, conversations.of(event.data.continues).added.length)
      if (prompt !== undefined) sent.set(runId, prompt)
      if (event.type === 'generated' || event.type === 'compacted')
        usages.set(runId, addUsage(usages.get(runId) ?? noUsage, event.data.usage))
      if (event.type !== 'stepFinished') return undefined
      const { messages, context } = conversations.of(runId)
      const newMessages = added.slice(inherited.get(runId) ?? 0)
      const usage = usages.get(runId) ?? noUsage
      inherited.delete(runId)
      usages.delete(runId)
      const asked = sent.get(runId) ?? null
      sent.delete(runId)
      const toolCalls = newMessages.flatMap((message) => (message.role === 'expert' ? callsOf(message.content) : []))
      const toolResults = newMessages.flatMap((message) => (message.role === 'tool' ? message.content : []))
      return {
        id: printCheckpointId(jobId, event.seq),
        seq: event.seq,
        jobId,
        runId,
        expertKey: event.expertKey ?? '',
        stepNumber: event.stepNumber ?? 0,
        // A text that was rejected is followed by what its model reads about it.
        status: isLastStep(toolCalls, toolResults, newMessages.at(-1)) ? 'completed' : 'proceeding',
        messages,
        newMessages,
        toolCalls,
        toolResults,
        prompt: asked,
        context: { tokens: context.tokens, window: context.window },
        compactions: context.compactions,
        usage,
        treeHash,
        stateHash: event.data.stateHash,
        createdAt: event.at,
      }
    },
  }
}

function isLastStep(
  calls: readonly ToolCallPart[],
  results: readonly ToolResultPart[],
  last: Message | undefined,
): boolean {
  if (calls.length === 0) return last?.role === 'expert'
  return last?.role === 'tool' && calls.length === results.length && results.every(completes)
}

function callsOf(parts: readonly { readonly type: string }[]): readonly ToolCallPart[] {
  return parts.filter((part): part is ToolCallPart => part.type === 'toolCall')
}

/** All checkpoints of a job. */
export function listCheckpoints(jobId: JobId, events: Iterable<JobEvent>): readonly Checkpoint[] {
  const checkpoints = openCheckpoints(jobId)
  const all: Checkpoint[] = []
  for (const event of events) {
    const checkpoint = checkpoints.add(event)
    if (checkpoint !== undefined) all.push(checkpoint)
  }
  return all
}

export function printCheckpointId(jobId: JobId, seq: number): string {
  return `chk_${jobId.slice('job_'.length)}_${seq}`
}

/** Where a checkpoint stands, or undefined when the text is not a checkpoint's id. */
export function parseCheckpointId(text: string): { readonly jobId: JobId; readonly seq: number } | undefined {
  const [, job, seq] = /^chk_([0-9a-z]{16,40})_([1-9]\d{0,9})$/.exec(text) ?? []
  const jobId = parseId('job', `job_${job}`)
  return jobId === undefined ? undefined : { jobId, seq: Number(seq) }
}
