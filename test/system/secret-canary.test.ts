/** A secret reaches the skill that asks for it and nothing else: afterwards everything stored is searched for its value. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sha256 } from '../../schema/hash.ts'
import { databaseUrl, openTestDatabase, type TestDatabase } from '../support/database.ts'
import { openModelServer, status, type ModelServer } from '../support/model-server.ts'
import { expertPackage, npmPublish, skillPackage, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, finishJob, probe, runJob, turns } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { merge, searchDatabase, searchDirectory, searchText } from '../support/secret-search.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()

/** With characters that every encoding changes. */
const CANARY = 'canary-é/9f+Zq=7c"1d\\e4 b&c'
const PROVIDER_CANARY = 'canary-provider-8d1f5b3a7720'

const LOOK = `const fs = await load('node:fs'); const { createHash } = await load('node:crypto')
  let seen = ''
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)))
    for (const file of ['environ', 'cmdline']) try { seen += fs.readFileSync('/proc/' + pid + '/' + file, 'utf8') } catch {}
  const value = process.env.CANARY_KEY
  const hash = value === undefined ? null : createHash('sha256').update(value).digest('hex')
  return { hash, names: Object.keys(process.env), entries: seen.split('\\0').map((entry) => entry.split('=')[0]) }`

const skill = (expert: string, name: string, more = '') => `[experts."${expert}".skills."${name}"]
type = "mcpStdioSkill"
packageName = "probe"
${more}
`
const NEEDS = 'requiredEnv = ["CANARY_KEY"]\nlazyInit = false'
const toml = `[experts."keeper"]
instruction = "Keep it."
model = "rehearsal/look"
${skill('keeper', 'named', NEEDS)}${skill('keeper', 'other')}
[experts."keeper".skills."human"]
type = "interactiveSkill"
packageName = "@senmon/ask"
[experts."chief"]
instruction = "Delegate."
model = "rehearsal/chief"
delegates = ["keeper"]
[experts."plain"]
instruction = "Say it."
model = "openai/gpt-canary"
`
const wait = { tool: 'human/ask', args: { question: 'Go on?' } }
const rehearsals = {
  'rehearsals/look.json': turns([[probe(LOOK, 'named'), probe(LOOK, 'other')]]),
  'rehearsals/wait.json': turns([[probe(LOOK, 'named')], [wait], [probe(LOOK, 'named'), probe(LOOK, 'other')]]),
  'rehearsals/hold.json': JSON.stringify({
    turns: [
      { step: 1, calls: [probe(LOOK, 'named')] },
      { text: 'I hold my machine until I am canceled.', pauseMs: 10_000 },
    ],
  }),
  'rehearsals/chief.json': turns([[{ tool: 'delegate/keeper', args: { query: 'Look.' } }]], 'I went on.'),
}

describe.skipIf(missing !== undefined)('the value of a secret', () => {
  let database: TestDatabase
  let platform: Platform
  let model: ModelServer
  /** Every answer of the server that a test of this file has read. */
  let answers = ''

  beforeAll(async () => {
    database = await openTestDatabase()
    model = await openModelServer()
    platform = await startLightly({ env: { DATABASE_URL: databaseUrl(database), OPENAI_BASE_URL: `${model.url}/v1` } })
    await npmPublish(platform, await skillPackage('probe', 'probe'))
    await npmPublish(platform, await expertPackage('keeper', toml, rehearsals))
  })
  afterAll(async () => {
    await platform?.stop()
    await model?.[Symbol.asyncDispose]()
    await database?.close()
    if (platform !== undefined) await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  async function ask(query: string, variables: object = {}): Promise<Record<string, unknown>> {
    const answer = await platform.fetch('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    })
    const text = await answer.text()
    answers += text
    return JSON.parse(text) as Record<string, unknown>
  }
  const set = (name: string, value: string) =>
    ask(
      `mutation ($input: SetSecretInput!) { setSecret(input: $input) { ... on Secret { name } ... on Refusal { code message } } }`,
      { input: { name, value } },
    )
  const deleteSecret = (name: string) =>
    ask(
      `mutation ($input: DeleteSecretInput!) { deleteSecret(input: $input) { ... on DeletedSecret { name } ... on Refusal { code } } }`,
      { input: { name } },
    )
  const looked = (text: string | undefined) =>
    JSON.parse(text ?? '') as { hash: string | null; names: string[]; entries: string[] }
  /** Slots of this server: as root they are where machines of every uid find them. */
  const slots = () =>
    process.getuid?.() === 0 ? '/var/lib/senmon/slots' : join(platform.dataDirectory, 'runtime/slots')
  const searchAll = async (value: string) =>
    merge(
      await searchDatabase(database, value),
      await searchDirectory(platform.dataDirectory, value),
      await searchDirectory(slots(), value),
      searchText('the log of the server', platform.log(), value),
      searchText('the output of the server', platform.output(), value),
      searchText('an answer of the server', answers, value),
    )

  it('reaches the skill that names it, and no other of the same expert', async () => {
    expect(await set('CANARY_KEY', CANARY)).toEqual({ data: { setSecret: { name: 'CANARY_KEY' } } })
    const { job, results } = await runJob(platform, { expertKey: 'keeper', query: 'Look.' })
    expect(job).toMatchObject({ outcome: 'completed' })
    const named = looked(results.find(({ name }) => name === 'named/run')?.text)
    expect(named.hash).toBe(sha256(CANARY))
    expect(named.names).toContain('CANARY_KEY')
    const other = looked(results.find(({ name }) => name === 'other/run')?.text)
    expect([...other.names, ...other.entries]).not.toContain('CANARY_KEY')
    expect(other.hash).toBeNull()
    answers += JSON.stringify(results)
  })

  it('is given by no query, and repeated by no refusal', async () => {
    expect(await ask('{ secrets { name updatedAt } }')).toMatchObject({ data: { secrets: [{ name: 'CANARY_KEY' }] } })
    expect(await ask('{ secrets { name value } }')).toMatchObject({ errors: [{}] })
    for (const name of ['PATH', 'not a name', 'NODE_OPTIONS'])
      expect(await set(name, CANARY)).toMatchObject({ data: { setSecret: { code: 'input_invalid' } } })
    expect(await set('CANARY_KEY', `${CANARY}${'x'.repeat(70_000)}`)).toMatchObject({
      data: { setSecret: { code: 'input_too_large' } },
    })
    // Variables of a wrong type are quoted by most servers.
    expect(
      await ask('mutation ($n: Int!) { deleteSecret(input: { name: $n }) { __typename } }', { n: CANARY }),
    ).toMatchObject({ errors: [{}] })
    const { data } = (await ask(`{ jobs { nodes { id query result explanation questions { id args answer } } } }`)) as {
      data: { jobs: { nodes: { id: string }[] } }
    }
    for (const { id } of data.jobs.nodes)
      for (const fields of [
        'lock { coordinator experts { key skills { name requiredEnv packages } } } runs { id query result }',
        'checkpoints { nodes { messages toolCalls toolResults } } workspace { items { path text } }',
      ])
        expect(await ask(`query ($id: ID!) { job(id: $id) { ${fields} } }`, { id })).toHaveProperty('data.job')
    const instance = await platform.fetch(`/expert_jobs/${data.jobs.nodes[0]?.id}/workspace_instance`)
    answers += await instance.text()
    expect(answers).toContain('CANARY_KEY')
  })

  it('goes to the provider as its key, and not into what the log says when the provider quotes it', async () => {
    expect(await set('OPENAI_API_KEY', PROVIDER_CANARY)).toMatchObject({
      data: { setSecret: { name: 'OPENAI_API_KEY' } },
    })
    const sent: (string | undefined)[] = []
    model.play((response, request) => {
      sent.push(request.headers.authorization)
      status(400, { error: { message: `Incorrect request of ${request.headers.authorization}` } })(response, request)
    })
    const { job, events } = await runJob(platform, { expertKey: 'keeper/plain', query: 'Say it.' })
    expect(sent).toEqual([`Bearer ${PROVIDER_CANARY}`])
    expect(job).toMatchObject({ outcome: 'failed', reason: 'model_refused' })
    answers += JSON.stringify({ job, events })
  })

  it('is nowhere on disk while a machine holds it', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'keeper', query: 'Hold.', model: 'rehearsal/hold' })
    await until(async () => ((await findJob(platform, id))?.steps === 1 ? true : undefined))
    const search = await searchAll(CANARY)
    expect((await findJob(platform, id))?.status).toBe('running')
    await act(platform, 'cancelJob', { jobId: id })
    const { results } = await finishJob(platform, id)
    expect(looked(results[0]?.text).hash).toBe(sha256(CANARY))
    expect(search.hits).toEqual([])
  })

  it('is missed by the skill once it is deleted: the call fails as secret_missing, and the job goes on', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'keeper', query: 'Wait.', model: 'rehearsal/wait' })
    const question = await until(async () => {
      const job = await findJob(platform, id)
      return job?.status === 'waiting' ? job.questions[0] : undefined
    })
    expect(await deleteSecret('CANARY_KEY')).toEqual({ data: { deleteSecret: { name: 'CANARY_KEY' } } })
    expect(await deleteSecret('CANARY_KEY')).toEqual({ data: { deleteSecret: { code: 'secret_not_found' } } })
    await act(platform, 'continueJob', { jobId: id, answer: { questionId: question.id, value: 'Yes.' } })
    const { job, results } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed', result: 'Done.' })
    const [before, , ...after] = results
    expect(looked(before?.text).hash).toBe(sha256(CANARY))
    expect(after.find(({ name }) => name === 'named/run')).toMatchObject({
      isError: true,
      text: expect.stringContaining('[secret_missing]') as string,
    })
    expect(after.find(({ name }) => name === 'other/run')).toMatchObject({ isError: false })
  })

  it('ends a run that cannot start a skill which is not to wait for its first call as secret_missing; whoever delegated it goes on', async () => {
    const { job } = await runJob(platform, { expertKey: 'keeper', query: 'Look.' })
    expect(job).toMatchObject({ outcome: 'failed', reason: 'secret_missing' })
    expect(job.explanation).toContain('CANARY_KEY')
    const { job: chief, results } = await runJob(platform, { expertKey: 'keeper/chief', query: 'Delegate.' })
    expect(chief).toMatchObject({ outcome: 'completed', result: 'I went on.' })
    expect(results).toMatchObject([{ name: 'delegate/keeper', isError: true }])
    expect(results[0]?.text).toContain('(secret_missing)')
  })

  it('is found by the search wherever it is planted', async () => {
    const planted = scratchDirectory('planted')
    const { sql } = database
    try {
      const forms = [
        CANARY,
        encodeURIComponent(CANARY),
        JSON.stringify({ a: CANARY }),
        JSON.stringify(JSON.stringify(CANARY)),
      ]
      const encoded = ['base64', 'base64url', 'hex', 'utf16le'] as const
      const all = [
        ...forms.map((form) => Buffer.from(`before ${form} after`)),
        ...[0, 1, 2].flatMap((pad) =>
          encoded
            .slice(0, 3)
            .map((encoding) => Buffer.from(Buffer.from(`${'x'.repeat(pad)}${CANARY}y`).toString(encoding))),
        ),
        Buffer.from(CANARY, 'utf16le'),
      ]
      await sql.query('create table planted (note text, content json, bytes bytea)')
      for (const [i, bytes] of all.entries()) {
        await writeFile(join(planted, `${i}`), bytes)
        expect([i, (await searchDirectory(planted, CANARY)).hits.length > 0]).toEqual([i, true])
        await rm(join(planted, `${i}`))
        await sql.query('insert into planted (bytes) values ($1)', [bytes])
        expect([i, (await searchDatabase(database, CANARY)).hits.length > 0]).toEqual([i, true])
        await sql.query('delete from planted')
      }
      await sql.query('insert into planted (note, content) values ($1, $2)', [CANARY, JSON.stringify({ a: [CANARY] })])
      expect((await searchDatabase(database, CANARY)).hits).toEqual(['planted.content: JSON', 'planted.note: plain'])
    } finally {
      await sql.query('drop table if exists planted')
      await rm(planted, { recursive: true })
    }
  })

  it('is in nothing that is stored: rows, files, slots, logs, answers', async ({ annotate }) => {
    const master = (await ask('{ secrets { name } }')) as { data: { secrets: { name: string }[] } }
    expect(master.data.secrets).toEqual([{ name: 'OPENAI_API_KEY' }])
    await platform.stop()
    const search = await searchAll(CANARY)
    await annotate(`searched ${search.bytes} bytes in every row, file, log and answer`)
    expect(search.hits).toEqual([])
    expect(search.bytes).toBeGreaterThan(100_000)
    expect((await searchAll(PROVIDER_CANARY)).hits).toEqual([])
    // Neither the key to the door nor the key to the secrets is where the secrets are.
    expect((await searchDatabase(database, platform.key)).hits).toEqual([])
  })
})
