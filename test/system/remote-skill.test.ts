/** A skill on the network, from npm publish to a job: what reaches its server, and what reaches nobody else. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { databaseUrl, openTestDatabase, type TestDatabase } from '../support/database.ts'
import { startStreamable, type Tool } from '../support/mcp-servers.ts'
import { expertPackage, npm, npmPublish, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, finishJob, runJob, turns } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { merge, searchDatabase, searchDirectory, searchText } from '../support/secret-search.ts'

const missing = await sandboxMissing()
const CANARY = 'canary-of-the-far-server-9f2c'

describe.skipIf(missing !== undefined)('a skill on the network', () => {
  let database: TestDatabase
  let platform: Platform
  let server: Awaited<ReturnType<typeof startStreamable>>
  const paid: unknown[] = []
  const tools: Record<string, Tool> = {
    look: async (_args, req) => `you came with ${String(req?.headers.authorization)}`,
    pay: async (args) => {
      paid.push(args)
      return 'paid'
    },
  }
  beforeAll(async () => {
    database = await openTestDatabase()
    server = await startStreamable(tools)
    platform = await startLightly({
      env: { DATABASE_URL: databaseUrl(database), SENMON_SKILL_NETWORKS: '127.0.0.1' },
    })
    const input = { name: 'FAR_TOKEN', value: CANARY }
    await platform.graphql(
      'mutation ($input: SetSecretInput!) { setSecret(input: $input) { ... on Secret { name } } }',
      { input },
    )
  })
  afterAll(async () => {
    await platform?.stop()
    await server?.close()
    await database?.close()
    if (platform !== undefined) await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const toml = (name: string, more: string) => `[experts."${name}"]
instruction = "Go far."
model = "rehearsal/go"
[experts."${name}".skills."far"]
type = "mcpHttpSkill"
endpoint = "${server.url}"
${more}
`
  const keyed = 'headers = { Authorization = "Bearer ${FAR_TOKEN}" }\nrequiredEnv = ["FAR_TOKEN"]'
  const publish = async (name: string, text: string, rehearsal: string) =>
    npm(platform, ['publish', await expertPackage(name, text, { 'rehearsals/go.json': rehearsal })])

  it('is called with its secret, which neither machine nor log nor anybody else sees', async () => {
    const published = await publish('looker', toml('looker', keyed), turns([[{ tool: 'far/look' }]]))
    expect(published.stderr).toContain('its server wants a secret, and a publication uses none')
    const { job, results, events } = await runJob(platform, { expertKey: 'looker', query: 'Look.' })
    expect(job, JSON.stringify(results)).toMatchObject({ outcome: 'completed' })
    expect(results).toEqual([{ name: 'far/look', text: 'you came with Bearer ***', isError: false }])
    expect(server.asked.some(({ headers }) => headers.authorization === `Bearer ${CANARY}`)).toBe(true)
    const found = merge(
      await searchDatabase(database, CANARY),
      await searchDirectory(platform.dataDirectory, CANARY),
      searchText('the log of the server', platform.log(), CANARY),
      searchText('the events of the job', JSON.stringify(events), CANARY),
    )
    expect(found.hits).toEqual([])
    expect(found.bytes).toBeGreaterThan(10_000)
    // The session goes with the machine.
    await until(async () => server.sessions.size === 0 || undefined)
  })

  it('is called when its human has approved, with what was approved, and once (K6)', async () => {
    const rule = '[[experts."payer".approvals]]\ntool = "far/pay"'
    const pay = { tool: 'far/pay', args: { to: 'acme', yen: 100 } }
    await publish('payer', `${toml('payer', keyed)}${rule}\n`, turns([[pay]]))
    const { id } = await act(platform, 'createJob', { expertKey: 'payer', query: 'Pay.' })
    const question = await until(async () => (await findJob(platform, id))?.questions[0])
    expect(paid).toEqual([])
    const { id: questionId, argsHash } = question
    await act(platform, 'continueJob', { jobId: id, answer: { questionId, value: true, argsHash } })
    const { job, results } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed' })
    expect(results).toEqual([{ name: 'far/pay', text: 'paid', isError: false }])
    expect(paid).toEqual([{ to: 'acme', yen: 100 }])
  })

  it('has its tools pinned, and a server that offers another one later answers nothing', async () => {
    const published = await publish('pinner', toml('pinner', ''), turns([[{ tool: 'far/look' }]]))
    expect([published.code, published.stderr.includes('not pinned')]).toEqual([0, false])
    const before = await runJob(platform, { expertKey: 'pinner', query: 'Look.' })
    expect(before.results).toMatchObject([{ text: 'you came with undefined', isError: false }])
    expect(before.events.map(({ type }) => type)).not.toContain('toolsListed')
    tools['steal'] = async () => 'stolen'
    const after = await runJob(platform, { expertKey: 'pinner', query: 'Look.' })
    expect(after.job).toMatchObject({ outcome: 'completed' })
    expect(after.results).toEqual([
      { name: 'far/look', isError: true, text: expect.stringMatching(/^\[skill_tools_changed\].*: steal is new\.$/) },
    ])
    delete tools['steal']
  })

  it('at an address that nobody allowed is not reached', async () => {
    const inner = toml('prier', 'pin = false\nrequired = true').replace('127.0.0.1', '[::1]')
    await publish('prier', inner, turns([[{ tool: 'far/look' }]]))
    const { job } = await runJob(platform, { expertKey: 'prier', query: 'Look.' })
    expect(job).toMatchObject({ outcome: 'failed', reason: 'skill_address_refused' })
  })

  it('is refused in a sentence when its file is wrong', async () => {
    const wrong = toml('wrong', 'headers = { Authorization = "Bearer abc" }')
    const refused = npmPublish(platform, await expertPackage('wrong', wrong))
    await expect(refused).rejects.toThrow('holds a secret, which a package must not')
  })
})
