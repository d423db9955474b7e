/** What passes between a job and the people and programs around it, on a real server, with real machines. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, startPlatform, type Platform } from '../support/platform.ts'
import { runJob } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const schema = '{"type":"object","required":["found"],"properties":{"found":{"type":"integer"}}}'

describe.skipIf(missing !== undefined)('an expert that owes JSON', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startPlatform()
    const toml = `model = "rehearsal/count"
[experts."counter"]
instruction = "Have it counted."
delegates = ["clerk"]
outputJsonSchema = '${schema}'
[experts."clerk"]
instruction = "Count."
outputJsonSchema = '${schema}'
[experts."stubborn"]
instruction = "Talk."
outputJsonSchema = '${schema}'
outputRetries = 1
`
    const turns = [
      { expert: 'stubborn', text: 'I would rather talk.' },
      { expert: 'counter', step: 1, calls: [{ tool: 'delegate/clerk', args: { query: 'How many?' } }] },
      { expert: 'counter', step: 2, text: 'There are seven.' },
      { expert: 'counter', when: { userContains: 'it is not JSON' }, text: '```json\n{"found":7}\n```' },
      { expert: 'clerk', step: 1, text: '{"found":"seven"}' },
      { expert: 'clerk', when: { userContains: '/found must be integer' }, text: '{"found":7}' },
    ]
    const rehearsal = { 'rehearsals/count.json': JSON.stringify({ turns }) }
    await npmPublish(platform, await expertPackage('counter', toml, rehearsal))
  }, 120_000)
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  it('is told what is wrong, tries again, and gives the value to its caller and to the application', async () => {
    const { job, events } = await runJob(platform, { expertKey: 'counter', query: 'Count.' })
    expect(job).toMatchObject({ outcome: 'completed', result: '```json\n{"found":7}\n```' })
    expect(events.filter(({ type }) => type === 'outputRejected')).toHaveLength(2)
    const returned = events.find(({ type }) => type === 'toolReturned')
    expect(returned?.data['result']).toMatchObject({ structured: { found: 7 }, isError: false })
    const query = 'query ($id: ID!) { job(id: $id) { resultJson runs { resultJson } } }'
    expect(await platform.graphql(query, { id: job.id })).toEqual({
      job: { resultJson: { found: 7 }, runs: [{ resultJson: { found: 7 } }, { resultJson: { found: 7 } }] },
    })
    const rest = (await (await platform.fetch(`/expert_jobs/${job.id}`)).json()) as {
      data: { expertJob: { resultJson: unknown } }
    }
    expect(rest.data.expertJob.resultJson).toEqual({ found: 7 })
  })

  it('fails with a typed reason when it has used its tries', async () => {
    const { job, events } = await runJob(platform, { expertKey: 'counter/stubborn', query: 'Count.' })
    expect(job).toMatchObject({ outcome: 'failed', reason: 'output_invalid', steps: 2, result: null })
    expect(events.filter(({ type }) => type === 'outputRejected')).toHaveLength(1)
  })
})
