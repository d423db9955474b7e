/** The server dies by SIGKILL in the middle of a job; the next start finishes it, and nothing finished is done again. */
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hashEvent, genesisHash, type JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { armed } from '../campaign/kill-point.ts'
import { remainsOf } from '../campaign/remains.ts'
import { HELD_ENV, HOLD, startHeldCalls, type HeldCalls } from '../support/held-calls.ts'
import { act, turns } from '../support/platform-job.ts'
import { expertPackage, npmPublish, startPlatform, until, type Platform } from '../support/platform.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const STEPS = 12

const KILLS = [1, 5, 10]

const toml = `model = "rehearsal/count"
[experts."counter"]
description = "Writes a line at every step."
instruction = "Append a line at every step."
[experts."counter".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
`

/** A line at every step; in the one after so many it is held, while its line is being written or has been. */
const rehearsal = (heldAfter?: number) =>
  turns(
    Array.from({ length: STEPS }, (_, i) => [
      { tool: 'files/append_file', args: { path: 'lines.txt', content: `line ${i + 1}\n` } },
      ...(i === heldAfter ? [HOLD] : []),
    ]),
    'Counted.',
  )
const rehearsals = {
  'rehearsals/count.json': rehearsal(),
  ...Object.fromEntries(KILLS.map((after) => [`rehearsals/after-${after}.json`, rehearsal(after)])),
}
/** The server that dies is so far ahead that its leases run out when these tests are long over. */
const AHEAD_MS = 24 * 3600 * 1000

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
  let held: HeldCalls
  beforeAll(async () => {
    held = await startHeldCalls()
    platform = await startPlatform({ env: HELD_ENV })
    await npmPublish(platform, await expertPackage('counter', `${toml}${held.skillOf('counter')}`, rehearsals))
  })
  afterAll(async () => {
    await platform.stop()
    await held.close()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const stepsOf = async (id: string) => {
    const { job } = await platform.graphql<{ job: { status: string; checkpoints: { nodes: unknown[] } } }>(
      `query ($id: ID!) { job(id: $id) { status checkpoints(first: 100) { nodes { seq } } } }`,
      { id },
    )
    return { status: job.status, steps: job.checkpoints.nodes.length }
  }

  const create = async (model = 'rehearsal/count') =>
    (await act(platform, 'createJob', { expertKey: 'counter', query: 'Count.', model })).id

  it('that has claimed a machine and told nobody leaves nothing of it, and the next start gives the job another (V4)', async () => {
    const { dataDirectory: directory } = platform
    await platform.stop()
    platform = await startPlatform({ directory, env: { NODE_OPTIONS: armed('claiming', 1) } })
    // The machine comes in the commit that creates the job: whoever asked for it hears nothing, and the job is there.
    const { child } = platform
    await create().catch(() => {})
    if (child.signalCode === null) await once(child, 'exit')
    expect(child.signalCode).toBe('SIGKILL')
    platform = await startPlatform({ directory, env: HELD_ENV })
    const { jobs } = await platform.graphql<{ jobs: { nodes: readonly { id: string }[] } }>(
      '{ jobs(first: 2) { nodes { id } } }',
    )
    expect(jobs.nodes).toHaveLength(1)
    const id = jobs.nodes[0]?.id ?? ''
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

  it('needs nobody to go on, nor that its lease runs out, when the next one starts', async () => {
    const { dataDirectory: directory } = platform
    await platform.stop()
    const later = new URL(`../fixture/later.mjs?ms=${AHEAD_MS}`, import.meta.url).href
    const env = { ...HELD_ENV, NODE_OPTIONS: `--import=${later}` }
    platform = await startPlatform({ directory, env })
    const isHeld = held.hold()
    const id = await create('rehearsal/after-1')
    await isHeld
    await platform.kill()
    held.release()
    platform = await startPlatform({ directory, env: HELD_ENV })
    await until(async () => ((await stepsOf(id)).status === 'finished' ? true : undefined))
    expect((await readLog(platform, id)).at(-1)).toMatchObject({ data: { outcome: 'completed' } })
  })

  describe.each(KILLS)('after %i steps', (killAfter) => {
    it('finishes after the next start, does nothing finished again, and its log verifies', async () => {
      const [isHeld, before] = [held.hold(), held.calls()]
      const id = await create(`rehearsal/after-${killAfter}`)
      await isHeld
      expect((await stepsOf(id)).steps).toBe(killAfter)
      const { dataDirectory: directory } = platform
      await platform.kill()
      held.release()
      platform = await startPlatform({ directory, env: HELD_ENV })
      await until(async () => ((await stepsOf(id)).status === 'finished' ? true : undefined))

      const events = await readLog(platform, id)
      expect(events.map((event) => event.seq)).toEqual(events.map((_, i) => i + 1))
      expect(firstUnverified(id, events)).toBeUndefined()
      expect(events.at(-1)).toMatchObject({ type: 'jobFinished', data: { outcome: 'completed', result: 'Counted.' } })
      expect(events.filter((event) => event.type === 'leaseGranted')).toHaveLength(2)
      expect(events.filter((event) => event.type === 'toolReturned')).toHaveLength(STEPS + 1)
      // The one call that was under way is made again.
      expect(held.calls() - before).toBe(2)

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
