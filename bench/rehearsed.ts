/** Experts for the benches: as many steps as asked, each one real tool call on a real file, then an answer. */
import { expertPackage, npmPublish, type Platform } from '../test/support/platform.ts'

const toml = (name: string) => `model = "rehearsal/steps"
[experts."${name}"]
description = "Reads pages again and again."
instruction = "Read the pages in input until told to stop."
[experts."${name}".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
pick = ["read_file"]
`

/** Pages that a job reads in turn. */
export const PAGES = 8

/** Publishes `name`, which takes `steps` steps with a tool call and one without. */
export async function publishRehearsed(platform: Platform, name: string, steps: number): Promise<void> {
  const calls = Array.from({ length: steps }, (_, i) => ({
    step: i + 1,
    calls: [{ tool: 'files/read_file', args: { path: `input/page-${i % PAGES}.txt` } }],
  }))
  const turns = [...calls, { step: steps + 1, text: 'Read.' }]
  const directory = await expertPackage(name, toml(name), { 'rehearsals/steps.json': JSON.stringify({ turns }) })
  await npmPublish(platform, directory)
}

export interface BenchEvent {
  readonly seq: number
  readonly type: string
  readonly at: string
}

export interface RehearsedJob {
  readonly id: string
  /** This process's clock just before the request, epoch ms. */
  readonly createdAt: number
}

export async function createRehearsed(
  platform: Platform,
  expertKey: string,
  pages: readonly string[],
): Promise<RehearsedJob> {
  const createdAt = Date.now()
  const { createJob } = await platform.graphql<{ createJob: { id: string; code?: string; message?: string } }>(
    `mutation ($input: CreateJobInput!) { createJob(input: $input) { ... on Job { id } ... on Refusal { code message } } }`,
    {
      input: {
        expertKey,
        query: 'Read.',
        files: pages.map((text, i) => ({ path: `page-${i}.txt`, text })),
        maxSteps: 10_000,
      },
    },
  )
  if (createJob.code !== undefined) throw new Error(`${createJob.code}: ${createJob.message}`)
  return { id: createJob.id, createdAt }
}

/** All events of a job; while it runs, watches it to its end. */
export async function readEvents(platform: Platform, jobId: string): Promise<readonly BenchEvent[]> {
  const events: BenchEvent[] = []
  const answer = await platform.fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({
      query: 'subscription ($id: ID!) { events(jobId: $id) { seq type at data } }',
      variables: { id: jobId },
    }),
  })
  let rest = ''
  for await (const chunk of answer.body ?? []) {
    rest += Buffer.from(chunk).toString()
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue
      const { data } = JSON.parse(line.slice(6)) as { data?: { events: BenchEvent & { data: { outcome?: string } } } }
      if (data === undefined || data.events.type === 'delta') continue
      events.push(data.events)
      if (data.events.type === 'jobFinished' && data.events.data.outcome !== 'completed')
        throw new Error(JSON.stringify(data.events.data))
    }
  }
  return events
}

/** Creates a job and watches it to its end. */
export async function runRehearsed(platform: Platform, expertKey: string, pages: readonly string[]) {
  const { id: jobId, createdAt } = await createRehearsed(platform, expertKey, pages)
  return { jobId, createdAt, events: await readEvents(platform, jobId) }
}
