/** Two subscriptions of a running job, checkpoints and events, until it has finished; its questions are answered. */
import { createClient } from 'graphql-sse'
import type { Platform } from './platform.ts'
import { DemoFailure, say } from './say.ts'

const JOB_MS = 300_000

export interface Checkpoint {
  readonly id: string
  readonly seq: number
  readonly expertKey: string
  readonly stepNumber: number
  readonly toolCalls: readonly { readonly name: string }[]
  readonly stateHash: string
}

export interface JobEvent {
  readonly seq: number
  readonly type: string
  readonly runId: string | null
  readonly expertKey: string | null
  readonly stepNumber: number | null
  readonly at: string
  readonly data: Readonly<Record<string, unknown>>
  readonly hash: string
}

export interface Seen {
  readonly checkpoints: readonly Checkpoint[]
  readonly events: readonly JobEvent[]
  readonly delegations: number
  readonly answers: number
}

const CHECKPOINTS = `subscription ($jobId: ID!) {
  checkpoints(jobId: $jobId) { id seq expertKey stepNumber toolCalls stateHash } }`
const EVENTS = `subscription ($jobId: ID!) {
  events(jobId: $jobId) { seq type runId expertKey stepNumber at data hash } }`

export async function followJob(platform: Platform, jobId: string): Promise<Seen> {
  const client = createClient({
    url: `${platform.url}/graphql`,
    headers: { authorization: `Bearer ${platform.key}` },
    retryAttempts: 0,
  })
  const checkpoints: Checkpoint[] = []
  const events: JobEvent[] = []
  let delegations = 0
  let answers = 0

  async function collectCheckpoints(): Promise<void> {
    const stream = client.iterate<{ checkpoints: Checkpoint }>({ query: CHECKPOINTS, variables: { jobId } })
    for await (const { data, errors } of stream) {
      if (errors?.[0] !== undefined) throw new DemoFailure(`the stream of checkpoints says: ${errors[0].message}`)
      if (data?.checkpoints === undefined || data.checkpoints === null) continue
      const { expertKey, stepNumber, toolCalls, stateHash } = data.checkpoints
      checkpoints.push(data.checkpoints)
      const calls = toolCalls.length === 0 ? 'answered' : toolCalls.map(({ name }) => name).join(', ')
      say(
        `checkpoint ${checkpoints.length}: ${expertKey} step ${stepNumber}: ${calls} (state ${stateHash.slice(0, 8)})`,
      )
    }
  }

  async function collectEvents(): Promise<void> {
    const stream = client.iterate<{ events: JobEvent }>({ query: EVENTS, variables: { jobId } })
    for await (const { data, errors } of stream) {
      if (errors?.[0] !== undefined) throw new DemoFailure(`the stream of events says: ${errors[0].message}`)
      const event = data?.events
      if (event === undefined || event === null || event.type === 'delta') continue
      events.push(event)
      if (event.type === 'runStarted' && isDelegation(event)) {
        delegations += 1
        say(`delegation: ${event.expertKey} is asked: ${String(event.data['query']).slice(0, 80)}`)
      } else if (event.type === 'jobRested') {
        answers += await answerOpenQuestions(platform, jobId)
      } else if (event.type === 'leaseExpired' || event.type === 'generationFailed' || event.type === 'skillFailed') {
        say(`${event.type}: ${JSON.stringify(event.data)}`)
      }
    }
  }

  const tooLong = AbortSignal.timeout(JOB_MS)
  const late = new Promise<never>((_, reject) => {
    tooLong.addEventListener('abort', () => reject(new DemoFailure(`${jobId} took more than ${JOB_MS / 1000} s`)))
  })
  try {
    await Promise.race([Promise.all([collectCheckpoints(), collectEvents()]), late])
  } finally {
    client.dispose()
  }
  return { checkpoints, events, delegations, answers }
}

function isDelegation(event: JobEvent): boolean {
  return event.data['parent'] !== null && event.data['parent'] !== undefined
}

/** The human of this demo approves; a question of another kind (a real model may ask one) gets an honest word. */
async function answerOpenQuestions(platform: Platform, jobId: string): Promise<number> {
  const { questions } = await platform.findJob(jobId)
  const open = questions.filter(({ answeredAt }) => answeredAt === null)
  for (const question of open) {
    say(`question: ${question.title}`)
    const value = question.kind === 'confirm' ? true : 'Decide by yourself.'
    await platform.answer(jobId, question, value)
    say(`answer: ${JSON.stringify(value)}`)
  }
  return open.length
}
