/** Queries and mutations over HTTP, as an application sends them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { approvalSchema } from '../../schema/approval.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { runIdOf, runStarted, aQuestion, questionAsked } from '../job/given.ts'
import { openDoor, type Door } from '../support/door.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor()
})
afterAll(() => door.close())

const CREATE = `mutation ($input: CreateJobInput!) { createJob(input: $input) {
  __typename ... on Job { id status expertKey query userId } ... on Refusal { code message hint } } }`
const CONTINUE = `mutation ($input: ContinueJobInput!) { continueJob(input: $input) {
  __typename ... on Job { id status questions { id open answer } } ... on Refusal { code message hint } } }`

describe('a job over GraphQL', () => {
  it('is created, read and canceled', async () => {
    const input = { expertKey: 'greeter', query: 'Say hello', userId: 'alice' }
    const { data } = await door.ask<{ createJob: { id: string } }>(CREATE, { input })
    expect(data).toMatchObject({
      createJob: {
        __typename: 'Job',
        status: 'queued',
        expertKey: 'greeter@1.0.0',
        query: 'Say hello',
        userId: 'alice',
      },
    })
    const id = data?.createJob.id
    const read = await door.ask(
      `query ($id: ID!) { job(id: $id) {
        id status outcome reason explanation expertKey query model maxSteps userId result revision createdAt updatedAt
        runs { id } checkpoints { nodes { id } pageInfo { endCursor hasNextPage } } questions { id }
        usage { inputTokens cachedInputTokens outputTokens reasoningTokens costUsd }
        machine { host resume dispatchMs } workspace { treeHash items { path } }
        lock { coordinator experts { key version integrity skills { name } } } } }`,
      { id },
    )
    expect(read).toMatchObject({
      data: {
        job: {
          id,
          outcome: null,
          revision: 1,
          createdAt: '2023-11-14T22:13:20.000Z',
          lock: { coordinator: 'greeter@1.0.0', experts: [{ key: 'greeter@1.0.0', integrity: 'sha512-greeter' }] },
        },
      },
    })
    const canceled = await door.ask(
      `mutation ($id: ID!) { cancelJob(input: { jobId: $id }) { ... on Job { status outcome reason } } }`,
      { id },
    )
    expect(canceled.data).toEqual({
      cancelJob: { status: 'finished', outcome: 'canceled', reason: 'canceled_by_user' },
    })
    const again = await door.ask(
      `mutation ($id: ID!) { cancelJob(input: { jobId: $id }) { ... on Refusal { code hint } } }`,
      { id },
    )
    expect(again.data).toMatchObject({ cancelJob: { code: 'job_finished' } })
  })

  it('is refused as data when the expert is unknown, the query too large, or a file has no content', async () => {
    const refuse = async (input: object) =>
      (await door.ask<{ createJob: { code: string } }>(CREATE, { input })).data?.createJob.code
    expect(await refuse({ expertKey: 'nobody', query: 'x' })).toBe('expert_not_found')
    expect(await refuse({ expertKey: 'greeter' })).toBe('query_missing')
    expect(await refuse({ expertKey: 'greeter', query: 'x'.repeat(2 * 1024 * 1024) })).toBe('input_too_large')
    expect(await refuse({ expertKey: 'greeter', query: 'x', files: [{ path: 'a.txt' }] })).toBe('input_invalid')
    expect(await refuse({ expertKey: 'greeter', query: 'x', files: [{ path: 'a.txt', base64: 'no!' }] })).toBe(
      'input_invalid',
    )
    expect(await refuse({ expertKey: 'greeter', query: 'x', files: [{ path: '../a', text: 'x' }] })).toBe(
      'input_invalid',
    )
    expect(await refuse({ expertKey: 'greeter', query: 'x', maxSteps: -1 })).toBe('input_invalid')
  })

  it('shows its files, input and made, as text', async () => {
    const jobId = await door.createJob('Read it', [{ path: 'src/a.ts', text: 'const a = 1\n' }])
    const { data } = await door.ask(
      `query ($jobId: ID!) { workspace(jobId: $jobId) {
        jobId items { path type owner sizeBytes } item(path: "input/src/a.ts") { text } none: item(path: "../x") { text } } }`,
      { jobId },
    )
    expect(data).toEqual({
      workspace: {
        jobId,
        items: [
          { path: 'input', type: 'directory', owner: 'user', sizeBytes: null },
          { path: 'input/src', type: 'directory', owner: 'user', sizeBytes: null },
          { path: 'input/src/a.ts', type: 'file', owner: 'user', sizeBytes: 12 },
        ],
        item: { text: 'const a = 1\n' },
        none: null,
      },
    })
  })

  it('lists pages that together are the whole, newest first', async () => {
    const made: string[] = []
    for (let count = 0; count < 3; count++) {
      await door.clock.advance(1)
      made.push(await door.createJob())
    }
    const seen: string[] = []
    for (let after: string | null = null; ;) {
      const page: {
        data?: { jobs: { nodes: { id: string }[]; pageInfo: { endCursor: string; hasNextPage: boolean } } }
      } = await door.ask(
        `query ($after: ID) { jobs(first: 2, after: $after, userId: "alice") {
            nodes { id } edges { cursor node { id } } pageInfo { endCursor hasNextPage } } }`,
        { after },
      )
      seen.push(...(page.data?.jobs.nodes.map(({ id }) => id) ?? []))
      if (page.data?.jobs.pageInfo.hasNextPage !== true) break
      after = page.data.jobs.pageInfo.endCursor
    }
    expect(seen.slice(0, 3)).toEqual(made.toReversed())
    expect(new Set(seen).size).toBe(seen.length)
    // A page after nothing would be the first one, for ever.
    expect(await door.ask('{ jobs(after: "junk") { nodes { id } } }')).toMatchObject({
      errors: [{ message: expect.stringContaining('pass endCursor'), extensions: { code: 'input_invalid' } }],
    })
  })
})

describe('a question', () => {
  it('is answered once, by its id, with what its schema allows', async () => {
    const own = await openDoor()
    const jobId = await own.createJob()
    const attempt = await own.claim()
    const question = aQuestion(jobId, runIdOf(jobId), 'fix')
    await own.jobs.record(attempt, [questionAsked(question)])
    await own.jobs.rest(attempt)
    const asked = await own.ask(
      `query ($jobId: ID!) { job(id: $jobId) { status questions { id kind title schema toolName args argsHash open } } }`,
      { jobId },
    )
    expect(asked.data).toMatchObject({
      job: {
        status: 'waiting',
        questions: [{ id: question.id, kind: 'confirm', open: true, args: { change: 'fix' } }],
      },
    })
    const answer = async (given: object) =>
      (await own.ask<{ continueJob: { code?: string; __typename: string } }>(CONTINUE, { input: { jobId, ...given } }))
        .data?.continueJob
    expect(await answer({ answer: { questionId: 'que_0000000000000000', value: true } })).toMatchObject({
      code: 'question_not_found',
    })
    expect(await answer({ answer: { questionId: 'nonsense', value: true } })).toMatchObject({
      code: 'question_not_found',
    })
    expect(await answer({ answer: { questionId: question.id, value: 'maybe' } })).toMatchObject({
      code: 'answer_invalid',
    })
    expect(await answer({ answer: { questionId: question.id, value: true, argsHash: 'other' } })).toMatchObject({
      code: 'args_hash_mismatch',
    })
    expect(
      await answer({ answer: { questionId: question.id, value: true, argsHash: question.argsHash } }),
    ).toMatchObject({ __typename: 'Job', questions: [{ open: false, answer: true }] })
    expect(await answer({ answer: { questionId: question.id, value: true } })).toMatchObject({
      code: 'question_answered',
    })
    await own.close()
  })
})

describe('an approval with other arguments', () => {
  it('is refused in a sentence that names the field which its tool does not take, and stays open', async () => {
    const skill = {
      endpoint: 'https://example.com/mcp',
      headers: {},
      pick: null,
      omit: [],
      rule: null,
      requiredEnv: [],
    }
    const inputSchema = { type: 'object', properties: { path: { type: 'string' } } }
    const tools = [{ name: 'put', description: '', inputSchema }]
    const skills = { files: { type: 'mcpHttpSkill', lazyInit: true, ...skill, tools } } as const
    const own = await openDoor({ experts: fakeExpertSource(lockOf(lockedExpert('greeter', { skills }))) })
    const jobId = await own.createJob()
    const attempt = await own.claim()
    const runId = runIdOf(jobId, 'below')
    const shape = { toolName: 'files/put', schema: approvalSchema({ edits: true }) }
    const question = aQuestion(jobId, runId, 'fix', shape)
    const started = { ...runStarted(runId, { runId: runIdOf(jobId), callId: 'call_1_0' }), expertKey: 'greeter@1.0.0' }
    await own.jobs.record(attempt, [started, questionAsked(question)])
    await own.jobs.rest(attempt)
    const edit = async (args: object) => {
      const answer = { questionId: question.id, value: { approved: true, args }, argsHash: question.argsHash }
      return (await own.ask(CONTINUE, { input: { jobId, answer } })).data
    }
    expect(await edit({ path: 7 })).toMatchObject({
      continueJob: {
        code: 'answer_invalid',
        message: expect.stringContaining('files/put does not take: /path must be'),
      },
    })
    expect(await edit({ path: 'seven' })).toMatchObject({ continueJob: { questions: [{ open: false }] } })
    await own.close()
  })
})

describe('secrets and keys', () => {
  it('take a value in and never give it back', async () => {
    const set = await door.ask(
      `mutation { setSecret(input: { name: "GITHUB_TOKEN", value: "canary-41" }) { __typename ... on Secret { name updatedAt } } }`,
    )
    expect(set.data).toMatchObject({ setSecret: { __typename: 'Secret', name: 'GITHUB_TOKEN' } })
    const listed = await door.ask('{ secrets { name updatedAt } }')
    expect(JSON.stringify(listed)).not.toContain('canary-41')
    expect(listed.data).toMatchObject({ secrets: [{ name: 'GITHUB_TOKEN' }] })
    expect((await door.ask('{ secrets { name } }', {}, door.otherKey)).data).toEqual({ secrets: [] })
    const gone = `mutation { deleteSecret(input: { name: "GITHUB_TOKEN" }) { ... on DeletedSecret { name } ... on Refusal { code } } }`
    expect((await door.ask(gone)).data).toEqual({ deleteSecret: { name: 'GITHUB_TOKEN' } })
    expect((await door.ask(gone)).data).toEqual({ deleteSecret: { code: 'secret_not_found' } })
    expect(door.logged.join('')).not.toContain('canary-41')
  })

  it('lets a key be made and used, and another application revoke nothing', async () => {
    const made = await door.ask<{ createApiKey: { key: string } }>(
      'mutation { createApiKey { ... on CreatedApiKey { key } } }',
    )
    const key = made.data?.createApiKey.key ?? ''
    expect((await door.ask('{ application { name } }', {}, key)).data).toEqual({ application: { name: 'dev' } })
    const caller = await door.applications.authenticate(key)
    const revoke = `mutation ($keyId: ID!) { revokeApiKey(input: { keyId: $keyId }) { ... on RevokedApiKey { id } ... on Refusal { code } } }`
    const keyId = caller?.keyId
    expect((await door.ask(revoke, { keyId }, door.otherKey)).data).toEqual({ revokeApiKey: { code: 'input_invalid' } })
    expect((await door.ask(revoke, { keyId })).data).toEqual({ revokeApiKey: { id: keyId } })
    expect((await door.ask('{ application { name } }', {}, key)).errors?.[0]?.extensions.code).toBe('unauthenticated')
  })
})

describe('experts', () => {
  it('are found by key and by search', async () => {
    const { data } = await door.ask(
      `{ expert(key: "greeter") { key description versions } none: expert(key: "nobody") { key }
         skill(key: "nobody") { key } skills(search: "nobody", first: 3) { nodes { key } pageInfo { hasNextPage } } experts(search: "Greets") { nodes { key } pageInfo { hasNextPage } } }`,
    )
    expect(data).toEqual({
      expert: { key: 'greeter@1.0.0', description: 'Greets whoever asks.', versions: ['1.0.0'] },
      none: null,
      skill: null,
      skills: { nodes: [], pageInfo: { hasNextPage: false } },
      experts: { nodes: [{ key: 'greeter@1.0.0' }], pageInfo: { hasNextPage: false } },
    })
  })
})
