/** The server dies by SIGKILL in the middle of a job; the next start finishes it, and nothing finished is done again. */
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hashEvent, genesisHash, type JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { armed } from '../campaign/kill-point.ts'
import { remainsOf } from '../campaign/remains.ts'
import { expertPackage, npmPublish, startPlatform, until, type Platform } from '../support/platform.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const STEPS = 12

const toml = `model = "rehearsal/count"
[experts."counter"]
description = "Writes a line at every step."
instruction = "Append a line at every step."
[experts."counter".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
`

const rehearsal = {
  turns: [
    ...Array.from({ length: STEPS }, (_, i) => ({
      step: i + 1,
      text: 'On.',
      pauseMs: 60,
      calls: [{ tool: 'files/append_file', args: { path: 'lines.txt', content: `line ${i + 1}\n` } }],
    })),
    { text: 'Counted.' },
  ],
}

const EVENTS = `query ($id: ID!, $after: Int) { events(jobId: $id, after: $after) { seq type runId expertKey stepNumber at data hash } }`

interface Seen {
  readonly seq: number
  readonly type: string
  readonly at: string
  readonly hash: string
}

async function readLog(platform: Platform, jobId: string): Promise<readonly Seen[]> {
  const answer = await platform.fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({
      query: EVENTS.replace('query', 'subscription').replace('Int)', 'Int = 0)'),
      variables: { id: jobId },
    }),
  })
  const lines = (await answer.text()).split('\n').filter((line) => line.startsWith('data: {'))
  return lines
    .map((line) => (JSON.parse(line.slice(6)) as { data: { events: Seen } }).data.events)
    .filter((event) => event.type !== 'delta')
}

/** The seq of the first event that does not hash to what it says, recomputed from what a stranger can see. */
function firstUnverified(jobId: string, events: readonly Seen[]): number | undefined {
  let prevHash = genesisHash(jobId as JobId)
  for (const event of events) {
    const whole = { ...event, v: 1, jobId, at: Date.parse(event.at), prevHash } as unknown as JobEvent
    if (hashEvent(whole) !== event.hash) return event.seq
    prevHash = whole.hash
  }
  return undefined
}

describe.skipIf(missing !== undefined)('a server killed in the middle of a job', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startPlatform()
    await npmPublish(
      platform,
      await expertPackage('counter', toml, { 'rehearsals/count.json': JSON.stringify(rehearsal) }),
    )
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const stepsOf = async (id: string) => {
    const { job } = await platform.graphql<{ job: { status: string; checkpoints: { nodes: unknown[] } } }>(
      `query ($id: ID!) { job(id: $id) { status checkpoints(first: 100) { nodes { seq } } } }`,
      { id },
    )
    return { status: job.status, steps: job.checkpoints.nodes.length }
  }

  const create = async () => {
    const { createJob } = await platform.graphql<{ createJob: { id: string } }>(
      `mutation { createJob(input: { expertKey: "counter", query: "Count." }) { ... on Job { id } ... on Refusal { code message } } }`,
    )
    return createJob.id
  }

  it('that has claimed a machine and told nobody leaves nothing of it, and the next start gives the job another (V4)', async () => {
    const { dataDirectory: directory } = platform
    await platform.stop()
    platform = await startPlatform({ directory, env: { NODE_OPTIONS: armed('claiming', 1) } })
    const id = await create()
    const { child } = platform
    if (child.signalCode === null) await once(child, 'exit')
    expect(child.signalCode).toBe('SIGKILL')
    platform = await startPlatform({ directory })
    const runtimeDirectory = process.getuid?.() === 0 ? '/var/lib/senmon' : join(directory, 'runtime')
    expect(remainsOf(new Set([child.pid ?? 0]), runtimeDirectory)).toEqual({
      processes: [],
      cgroups: [],
      directories: [],
      mounts: [],
    })
    await until(async () => ((await stepsOf(id)).status === 'finished' ? true : undefined))
    expect((await readLog(platform, id)).at(-1)).toMatchObject({ data: { outcome: 'completed' } })
  })

  describe.each([1, 5, 10])('after %i steps', (killAfter) => {
    it('finishes after the next start, does nothing finished again, and its log verifies', async () => {
      const id = await create()
      await until(async () => ((await stepsOf(id)).steps >= killAfter ? true : undefined))
      const { dataDirectory: directory } = platform
      await platform.kill()
      platform = await startPlatform({ directory })
      // By the server's own clock, in whole seconds.
      const readyAt = Date.parse((await platform.fetch('/healthz')).headers.get('date') ?? '')
      await until(async () => ((await stepsOf(id)).status === 'finished' ? true : undefined))

      const events = await readLog(platform, id)
      expect(events.map((event) => event.seq)).toEqual(events.map((_, i) => i + 1))
      expect(firstUnverified(id, events)).toBeUndefined()
      expect(events.at(-1)).toMatchObject({ type: 'jobFinished', data: { outcome: 'completed', result: 'Counted.' } })
      // It needs nobody, and goes on in less than a second where the computer is not busy with anything else.
      const [, again] = events.filter((event) => event.type === 'leaseGranted')
      expect(Date.parse(again?.at ?? '') - readyAt).toBeLessThan(5000)
      const machine = events.findLast((event) => event.type === 'machineStarted')
      expect(Date.parse(machine?.at ?? '') - readyAt).toBeLessThan(10_000)
      expect(events.filter((event) => event.type === 'leaseGranted')).toHaveLength(2)
      expect(events.filter((event) => event.type === 'toolReturned')).toHaveLength(STEPS)

      // The workspace is what the log says: every line once. The call in flight at the kill left nothing behind.
      const items = await platform.fetch(`/expert_jobs/${id}/workspace_instance/items?path=lines.txt`)
      const { data } = (await items.json()) as { data: { workspaceItems: readonly { id: string }[] } }
      const file = await platform.fetch(
        `/expert_jobs/${id}/workspace_instance/items/${data.workspaceItems[0]?.id}/download`,
      )
      expect(await file.text()).toBe(Array.from({ length: STEPS }, (_, i) => `line ${i + 1}\n`).join(''))
    })
  })
})
