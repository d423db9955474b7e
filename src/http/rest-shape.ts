/** The shapes of the REST answers, and the one table from our statuses to the ten that its clients know. */
import { shareOf } from '../../schema/context.ts'
import type { Checkpoint } from '../job/checkpoint.ts'
import { contextOf, type RunContext } from '../job/run-context.ts'
import { budgetOf } from '../job/job-budget.ts'
import { isOpen, type JobSummary } from '../job/job-summary.ts'
import type { Usage } from '../../schema/usage.ts'
import type { WorkspaceItem } from '../workspace/workspaces.ts'

/**
 * First match wins; null matches anything. Three of the ten never occur here: `requestDelegateResult` (a delegation
 * stays within its job), `canceling` (a cancel is decided at once) and `expired` (a job has no time to live).
 */
const STATUSES = [
  { status: 'queued', outcome: null, reason: null, name: 'queued' },
  { status: 'running', outcome: null, reason: null, name: 'processing' },
  { status: 'waiting', outcome: null, reason: null, name: 'requestInteractiveToolResult' },
  { status: 'finished', outcome: 'completed', reason: null, name: 'completed' },
  { status: 'finished', outcome: 'canceled', reason: null, name: 'canceled' },
  { status: 'finished', outcome: 'failed', reason: 'step_limit', name: 'exceededMaxSteps' },
  { status: 'finished', outcome: 'failed', reason: null, name: 'failed' },
] as const

export type ExpertJobStatus = (typeof STATUSES)[number]['name'] | 'requestDelegateResult' | 'canceling' | 'expired'

/** The name of a job's status for REST clients. */
export function printStatus(job: Pick<JobSummary, 'status' | 'outcome' | 'reason'>): ExpertJobStatus {
  const row = STATUSES.find(
    ({ status, outcome, reason }) =>
      status === job.status &&
      (outcome === null || outcome === job.outcome) &&
      (reason === null || reason === job.reason),
  )
  return row?.name ?? 'failed'
}

const printMoment = (atMs: number) => new Date(atMs).toISOString()

function printUsage(usage: Usage) {
  return { ...usage, totalTokens: usage.inputTokens + usage.outputTokens }
}

function printContext(context: RunContext | null) {
  return context && { ...context, share: shareOf(context) }
}

/** A job as `data.expertJob`. */
export function printExpertJob(job: JobSummary) {
  return {
    type: 'expertJob',
    id: job.id,
    applicationId: job.applicationId,
    userId: job.userId,
    status: printStatus(job),
    outcome: job.outcome,
    reason: job.reason,
    message: job.message,
    runtimeVersion: 'v1.0',
    expertKey: job.expertKey,
    query: job.query ?? undefined,
    model: job.model ?? undefined,
    maxSteps: job.maxSteps ?? undefined,
    result: job.result,
    ...(job.structured === undefined ? {} : { resultJson: job.structured }),
    currentStep: job.steps,
    totalSteps: job.steps,
    totalDuration: job.updatedAt - job.createdAt,
    usage: printUsage(job.usage),
    budget: budgetOf(job) ?? undefined,
    context: printContext(contextOf(job)) ?? undefined,
    queuedQueries: job.steering?.queued.map(({ query }) => query) ?? [],
    questions: job.questions
      .filter(isOpen)
      .map(({ id, runId, purpose, kind, title, schema, toolName, args, argsHash, dueAt }) => ({
        id,
        runId,
        purpose,
        kind,
        title,
        schema,
        toolName,
        args,
        argsHash,
        ...(dueAt === undefined ? {} : { dueAt: printMoment(dueAt) }),
      })),
    cancellation: job.cancellation,
    createdAt: printMoment(job.createdAt),
    updatedAt: printMoment(job.updatedAt),
    completedAt: job.status === 'finished' ? printMoment(job.updatedAt) : undefined,
  }
}

/** A checkpoint as `data.checkpoint` and as a frame of the stream. */
export function printCheckpoint(checkpoint: Checkpoint) {
  const { id, seq, jobId, runId, expertKey, stepNumber, status, treeHash, stateHash } = checkpoint
  return {
    type: 'checkpoint',
    id,
    sequence: seq,
    expertJobId: jobId,
    runId,
    expert: { key: expertKey },
    stepNumber,
    status,
    messages: checkpoint.messages,
    newMessages: checkpoint.newMessages,
    toolCalls: checkpoint.toolCalls,
    toolResults: checkpoint.toolResults,
    context: printContext(checkpoint.context),
    compactions: checkpoint.compactions,
    usage: printUsage(checkpoint.usage),
    treeHash,
    stateHash,
    createdAt: printMoment(checkpoint.createdAt),
  }
}

/** A workspace's item as `data.workspaceItem`. */
export function printItem(item: WorkspaceItem, job: JobSummary) {
  const isUser = item.owner === 'user'
  return {
    type: item.type === 'file' ? 'workspaceItemFile' : 'workspaceItemDirectory',
    id: item.id,
    path: item.path,
    owner: item.owner,
    lifecycle: 'expertJob',
    permission: isUser ? 'readOnly' : 'readWrite',
    ...(item.type === 'file'
      ? { key: item.hash, mimeType: 'application/octet-stream', size: item.sizeBytes ?? 0 }
      : { key: item.hash }),
    createdAt: printMoment(job.createdAt),
    updatedAt: printMoment(isUser ? job.createdAt : job.updatedAt),
  }
}
