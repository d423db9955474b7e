/** A conversation that fills its window on the whole platform: compacted, gone on with, and forked from before. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { finishJob, runJob } from '../support/platform-job.ts'
import { expertPackage, npmPublish, startLightly, type Platform } from '../support/platform.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const toml = `model = "rehearsal/tight"
[experts."packrat"]
instruction = "Write down everything."
[experts."packrat".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
`

const STEPS = 6
const usageOf = (step: number) => ({ inputTokens: 200 * step, outputTokens: 20 })

const rehearsal = {
  contextWindow: 1000,
  turns: [
    { compaction: true, text: 'Lines 1 to 3 are in notes.txt.', usage: { inputTokens: 900, outputTokens: 30 } },
    ...Array.from({ length: STEPS }, (_, i) => ({
      step: i + 1,
      text: `Line ${i + 1}.`,
      usage: i < 4 ? usageOf(i + 1) : usageOf(1),
      calls: [{ tool: 'files/append_file', args: { path: 'notes.txt', content: `line ${i + 1}\n` } }],
    })),
    { text: 'Written.', usage: usageOf(1) },
  ],
}

interface SeenCheckpoint {
  readonly id: string
  readonly seq: number
  readonly messages: readonly { readonly role: string; readonly content: readonly { readonly text?: string }[] }[]
  readonly context: { readonly tokens: number; readonly window: number | null }
  readonly compactions: number
  readonly treeHash: string | null
}

describe.skipIf(missing !== undefined)('a conversation that fills its window', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    await npmPublish(
      platform,
      await expertPackage('packrat', toml, { 'rehearsals/tight.json': JSON.stringify(rehearsal) }),
    )
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const checkpointsOf = async (id: string): Promise<readonly SeenCheckpoint[]> => {
    const { job } = await platform.graphql<{ job: { checkpoints: { nodes: readonly SeenCheckpoint[] } } }>(
      `query ($id: ID!) { job(id: $id) { checkpoints(first: 50) { nodes {
        id seq messages context { tokens window } compactions treeHash } } } }`,
      { id },
    )
    return job.checkpoints.nodes
  }

  it('is compacted and gone on with; a fork from before it has every message, and is compacted again', async () => {
    const { job, events } = await runJob(platform, { expertKey: 'packrat', query: 'Write six lines.' })
    expect(job).toMatchObject({ outcome: 'completed', result: 'Written.', steps: STEPS + 1 })
    const compacted = events.filter(({ type }) => type === 'compacted')
    expect(compacted).toMatchObject([{ data: { summary: 'Lines 1 to 3 are in notes.txt.', kept: 2 } }])

    const checkpoints = await checkpointsOf(job.id)
    const full = await platform.graphql<{ job: Record<'context', unknown> & { runs: readonly unknown[] } }>(
      'query ($id: ID!) { job(id: $id) { context { tokens window share } runs { context { tokens } } } }',
      { id: job.id },
    )
    expect(full.job).toEqual({
      context: { tokens: 220, window: 1000, share: 0.22 },
      runs: [{ context: { tokens: 220 } }],
    })
    const before = checkpoints.findLast(({ compactions }) => compactions === 0)
    const after = checkpoints.find(({ compactions }) => compactions === 1)
    if (before === undefined || after === undefined) throw new Error('it was not compacted')
    expect(before.messages).toHaveLength(9)
    expect(before.context).toEqual({ tokens: expect.any(Number), window: 1000 })
    expect(before.context.tokens).toBeGreaterThanOrEqual(800)
    expect(after.messages.map(({ role }) => role)).toEqual(['user', 'user', 'expert', 'tool', 'expert', 'tool'])
    expect(after.messages[0]?.content[0]?.text).toBe('Write six lines.')
    expect(after.messages[1]?.content[0]?.text).toContain('Lines 1 to 3 are in notes.txt.')

    const { forkJob } = await platform.graphql<{ forkJob: { id: string } }>(
      `mutation ($input: ForkJobInput!) { forkJob(input: $input) { ... on Job { id } ... on Refusal { code message } } }`,
      { input: { checkpointId: before.id } },
    )
    const fork = await finishJob(platform, forkJob.id)
    expect(fork.job).toMatchObject({ outcome: 'completed', result: 'Written.' })
    const [again] = (await checkpointsOf(forkJob.id)).filter(({ seq }) => seq === before.seq)
    expect(again).toMatchObject({ messages: before.messages, treeHash: before.treeHash, compactions: 0 })
    expect(fork.events.filter(({ type }) => type === 'compacted')).toHaveLength(1)
  })
})
