/** Jobs of a running platform as a stranger drives them: GraphQL in, the log out; and turns for their rehearsals. */
import type { Platform } from './platform.ts'

export interface Refused {
  readonly code: string
  readonly message: string
}

export interface SeenJob {
  readonly id: string
  readonly status: string
  readonly outcome: string | null
  readonly reason: string | null
  readonly explanation: string | null
  readonly result: string | null
  readonly steps: number
  readonly questions: readonly {
    readonly id: string
    readonly open: boolean
    readonly argsHash: string
    readonly args: unknown
  }[]
}

export interface SeenEvent {
  readonly seq: number
  readonly type: string
  readonly runId: string | null
  readonly expertKey: string | null
  readonly stepNumber: number | null
  readonly at: string
  readonly hash: string
  readonly data: Readonly<Record<string, unknown>>
}

const JOB = 'id status outcome reason explanation result steps questions { id open argsHash args }'
const REFUSAL = '... on Refusal { code message }'

export type JobVerb = 'createJob' | 'continueJob' | 'cancelJob'

/** What a mutation of jobs answers, a refusal included. */
export async function mutate(
  platform: Platform,
  verb: JobVerb,
  input: Readonly<Record<string, unknown>>,
  key?: string,
): Promise<SeenJob | Refused> {
  const type = `${verb.charAt(0).toUpperCase()}${verb.slice(1)}Input!`
  const query = `mutation ($input: ${type}) { answer: ${verb}(input: $input) { ... on Job { ${JOB} } ${REFUSAL} } }`
  return (await platform.graphql<{ answer: SeenJob | Refused }>(query, { input }, key)).answer
}

/** The job that a mutation gives; throws its refusal. */
export async function act(
  platform: Platform,
  verb: JobVerb,
  input: Readonly<Record<string, unknown>>,
): Promise<SeenJob> {
  const answer = await mutate(platform, verb, input)
  if ('message' in answer) throw new Error(`${answer.code}: ${answer.message}`)
  return answer
}

export async function findJob(platform: Platform, id: string, key?: string): Promise<SeenJob | null> {
  const query = `query ($id: ID!) { job(id: $id) { ${JOB} } }`
  return (await platform.graphql<{ job: SeenJob | null }>(query, { id }, key)).job
}

/** How many jobs there are, and how many packages with their versions: what a refused request must not change. */
export async function countAll(platform: Platform): Promise<{ readonly jobs: number; readonly experts: number }> {
  const { jobs, experts } = await platform.graphql<{
    jobs: { nodes: readonly unknown[] }
    experts: { nodes: readonly { versions: readonly string[] }[] }
  }>('{ jobs(first: 100) { nodes { id } } experts(first: 100) { nodes { versions } } }')
  return { jobs: jobs.nodes.length, experts: experts.nodes.flatMap(({ versions }) => versions).length }
}

/** The recorded events after `after`; resolves when the job has finished, and throws what the stream says is wrong. */
export async function readEvents(platform: Platform, id: string, after = 0): Promise<readonly SeenEvent[]> {
  const query = `subscription ($id: ID!, $after: Int) {
    events(jobId: $id, after: $after) { seq type runId expertKey stepNumber at hash data } }`
  const answer = await platform.fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ query, variables: { id, after } }),
  })
  const frames = framesOf(await answer.text())
  if (frames.at(-1)?.event !== 'complete')
    throw new Error(`the events of ${id} broke off: ${JSON.stringify(frames.at(-1))}`)
  return frames
    .slice(0, -1)
    .map(({ data }) => data as { data?: { events: SeenEvent }; errors?: unknown })
    .map(({ data, errors }) => {
      if (data === undefined || errors !== undefined) throw new Error(JSON.stringify(errors))
      return data.events
    })
    .filter((event) => event.type !== 'delta')
}

/** Resolves once an event of this type stands in the job's log; throws when the job ends without. */
export async function untilRecorded(platform: Platform, id: string, type: string): Promise<void> {
  const query = 'subscription ($id: ID!) { events(jobId: $id) { type } }'
  const answer = await platform.fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ query, variables: { id } }),
  })
  let text = ''
  for await (const chunk of answer.body ?? []) {
    text += Buffer.from(chunk).toString('utf8')
    if (text.includes(`"type":"${type}"`)) return
  }
  throw new Error(`job ${id} ended without ${type}`)
}

export interface SseFrame {
  readonly event: string
  readonly id: string | null
  readonly data: unknown
}

/** The whole frames in the text of an event stream; the last one may have been cut off. */
export function framesOf(text: string): readonly SseFrame[] {
  return (
    text
      .split('\n\n')
      .slice(0, -1)
      .map((frame) => {
        const lines = frame.split('\n')
        const field = (name: string) =>
          lines
            .find((line) => line.startsWith(`${name}:`))
            ?.slice(name.length + 1)
            .trim() || null
        const data = field('data')
        return { event: field('event') ?? 'message', id: field('id'), data: data === null ? null : JSON.parse(data) }
      })
      // Comments that keep the connection open hold neither.
      .filter(({ event, data }) => data !== null || event !== 'message')
  )
}

/** Waits for the end of a job; gives it with its log. */
export async function finishJob(
  platform: Platform,
  id: string,
): Promise<{ readonly job: SeenJob; readonly events: readonly SeenEvent[]; readonly results: readonly SeenResult[] }> {
  const events = await readEvents(platform, id)
  const job = await findJob(platform, id)
  if (job === null) throw new Error(`job ${id} is gone`)
  return { job, events, results: resultsOf(events) }
}

/** Creates a job and waits for its end. */
export async function runJob(platform: Platform, input: Readonly<Record<string, unknown>>) {
  const { id } = await act(platform, 'createJob', input)
  return finishJob(platform, id)
}

export interface SeenResult {
  readonly name: string
  readonly text: string
  readonly isError: boolean
}

/** What the tools returned, in the order of the log. */
export function resultsOf(events: readonly SeenEvent[]): readonly SeenResult[] {
  return events
    .filter(({ type }) => type === 'toolReturned')
    .map(({ data }) => data['result'] as { name: string; isError: boolean; content: readonly { text?: string }[] })
    .map(({ name, isError, content }) => ({ name, isError, text: content.map(({ text }) => text ?? '').join('') }))
}

export interface Call {
  readonly tool: string
  readonly args?: Readonly<Record<string, unknown>>
}

/** A rehearsal's file: one turn a step, then the end. */
export function turns(steps: readonly (readonly Call[])[], end = 'Done.', pauseMs = 0): string {
  const played = steps.map((calls, i) => ({ step: i + 1, text: 'On.', pauseMs, calls }))
  return JSON.stringify({ turns: [...played, { text: end }] })
}

/** A call of the probing skill. */
export function probe(code: string, skill = 'probe'): Call {
  return { tool: `${skill}/run`, args: { code } }
}
