/** A result that is too long to be read whole: kept as a file, read on by the model, there in a fork. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sha256 } from '../../schema/hash.ts'
import { finishJob, runJob } from '../support/platform-job.ts'
import { expertPackage, npmPublish, skillPackage, startLightly, type Platform } from '../support/platform.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const toml = `model = "rehearsal/long"
[experts."reader"]
instruction = "Read it all."
[experts."reader".skills."probe"]
type = "mcpStdioSkill"
packageName = "long-probe"
[experts."reader".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
`

// One line, as JSON prints it: it can only be read on by bytes.
const needle = 'the needle in the middle'
const value = `${'hay '.repeat(20_000)}${needle}${'hay '.repeat(20_000)}`
const text = JSON.stringify(value)
const path = `.senmon/results/${sha256(text).slice(0, 16)}.txt`

const rehearsal = {
  turns: [
    {
      step: 1,
      text: 'I fetch it.',
      calls: [
        {
          tool: 'probe/run',
          args: { code: `return 'hay '.repeat(20000) + ${JSON.stringify(needle)} + 'hay '.repeat(20000)` },
        },
      ],
    },
    {
      when: { tool: 'probe/run', resultContains: path },
      text: 'I read on.',
      calls: [
        { tool: 'files/read_file', args: { path, byteOffset: 70_000 } },
        { tool: 'files/search', args: { pattern: needle, path: '.senmon' } },
      ],
    },
    { when: { tool: 'files/read_file', resultContains: needle }, text: 'Found.' },
  ],
}

describe.skipIf(missing !== undefined)('a result that is too long to be read whole', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    await npmPublish(platform, await skillPackage('long-probe', 'probe'))
    await npmPublish(
      platform,
      await expertPackage('reader', toml, { 'rehearsals/long.json': JSON.stringify(rehearsal) }),
    )
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const download = async (id: string): Promise<string> => {
    const answer = await platform.fetch(`/expert_jobs/${id}/workspace_instance/items?path=${encodeURIComponent(path)}`)
    const { data } = (await answer.json()) as { data: { workspaceItems: readonly { id: string }[] } }
    const file = await platform.fetch(
      `/expert_jobs/${id}/workspace_instance/items/${data.workspaceItems[0]?.id}/download`,
    )
    return file.text()
  }

  it('is shown in part, kept whole, read on by the model, and there in a fork from the step that brought it', async () => {
    const { job, results, events } = await runJob(platform, { expertKey: 'reader', query: 'Find the needle.' })
    expect(job).toMatchObject({ outcome: 'completed', result: 'Found.' })
    const [first] = results
    expect(Buffer.byteLength(first?.text ?? '')).toBeLessThan(17 * 1024)
    expect(first?.text).toContain(`of ${text.length} bytes are left out here. The whole result is the file ${path}`)
    expect(first?.text).not.toContain(needle)
    expect(await download(job.id)).toBe(text)

    const seq = events.find((event) => event.type === 'stepFinished')?.seq
    const { forkJob } = await platform.graphql<{ forkJob: { id: string } }>(
      `mutation ($input: ForkJobInput!) { forkJob(input: $input) { ... on Job { id } ... on Refusal { code message } } }`,
      { input: { jobId: job.id, seq } },
    )
    const fork = await finishJob(platform, forkJob.id)
    expect(fork.job).toMatchObject({ outcome: 'completed', result: 'Found.' })
    expect(await download(fork.job.id)).toBe(text)
  })
})
