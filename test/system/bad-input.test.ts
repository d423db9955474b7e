/** Whatever is wrong is said in one typed sentence, nothing is left half-done, and the server serves the next job. */
import { rm } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CATALOGUE } from '../../schema/error.ts'
import type { ApiKeyId } from '../../schema/id.ts'
import { mintToken, SECRET_BYTES } from '../../src/application/token.ts'
import { handTgz, packageEntries, type HandEntry } from '../support/hand-tar.ts'
import { openModelServer, status, type ModelServer } from '../support/model-server.ts'
import { publishBody } from '../support/npm-registry.ts'
import {
  expertPackage,
  npm,
  npmPublish,
  skillPackage,
  startLightly,
  until,
  type Platform,
} from '../support/platform.ts'
import {
  act,
  countAll,
  findJob,
  finishJob,
  mutate,
  probe,
  runJob,
  turns,
  type SeenJob,
} from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

/** What a skill does as soon as it hears its first frame, and what its run then ends with. */
const HOSTILE: Readonly<Record<string, string>> = {
  exit: 'skill_start_failed',
  die: 'skill_died',
  garbage: 'skill_garbage',
  array: 'skill_garbage',
  deep: 'skill_garbage',
  binary: 'skill_garbage',
  big: 'skill_garbage',
  endless: 'skill_garbage',
  forge: 'skill_garbage',
  flood: 'limit_exceeded',
  // Both say nothing more: the time that a start may take is waited out, beside the other tests. The longer one of a
  // call that hangs is proved where a test drives the clock: test/run/skills.test.ts.
  deaf: 'skill_hung',
  loud: 'skill_hung',
}

const human = '.skills."human"]\ntype = "interactiveSkill"\npackageName = "@senmon/ask"\n'
const stdio = (packageName: string, more = '') => `type = "mcpStdioSkill"\npackageName = "${packageName}"\n${more}\n`
const toml = [
  `[experts."victim"]\ninstruction = "Suffer."\nmodel = "rehearsal/fine"\n[experts."victim"${human}`,
  `[experts."rough"]\ninstruction = "Suffer."\nmodel = "rehearsal/rough"\n[experts."rough".skills."probe"]\n${stdio('probe')}`,
  ...Object.keys(HOSTILE).map(
    (deed) =>
      `[experts."${deed}"]\ninstruction = "Suffer."\nmodel = "rehearsal/fine"\n[experts."${deed}".skills."hostile"]\n${stdio('hostile', `args = ["${deed}"]`)}`,
  ),
].join('\n')
const choice = { question: 'Which?', options: ['a', 'b'] }
const rehearsals = {
  'rehearsals/fine.json': turns([], 'Fine.'),
  'rehearsals/rough.json': turns([
    [probe('process.stderr.write("I fall\\n"); process.exit(3)')],
    [probe('process.stdout.write("Listening on port 3000\\n"); await new Promise(() => {})')],
    [probe('for (let i = 0; i < 50_000; i++) process.stderr.write("x".repeat(200) + i + "\\n"); return "still here"')],
    [probe('throw new Error("in words")')],
  ]),
  'rehearsals/ask.json': turns([
    [{ tool: 'human/confirm', args: { question: 'Really?' } }],
    [{ tool: 'human/choose', args: choice }],
  ]),
  'rehearsals/diverged.json': JSON.stringify({ turns: [{ when: { userContains: 'something else' }, text: 'No.' }] }),
  'rehearsals/invalid.json': '{ "turns": [{ "txt": "typo" }] }',
}

describe.skipIf(missing !== undefined)('the platform', () => {
  let platform: Platform
  let model: ModelServer
  let pid: number | undefined
  /** Jobs by the deed of their skill. */
  const created: Record<string, string> = {}

  beforeAll(async () => {
    model = await openModelServer()
    model.play(status(404, { error: { message: 'The model `gone` does not exist', code: 'model_not_found' } }))
    platform = await startLightly({ env: { OPENAI_BASE_URL: `${model.url}/v1`, OPENAI_API_KEY: 'sk-of-a-test' } })
    pid = platform.child.pid
    for (const name of ['probe', 'hostile']) await npmPublish(platform, await skillPackage(name, name))
    await npmPublish(platform, await expertPackage('victim', toml, rehearsals))
    for (const deed of ['deaf', 'loud'])
      created[deed] = (await act(platform, 'createJob', { expertKey: `victim/${deed}`, query: 'Go.' })).id
  })
  afterAll(async () => {
    await platform?.stop()
    await model?.[Symbol.asyncDispose]()
    if (platform !== undefined) await rm(platform.dataDirectory, { recursive: true, force: true })
  })
  /** After whatever happened: the same process, and a job runs. */
  const expectAlive = async () => {
    expect({ pid: platform.child.pid, exitCode: platform.child.exitCode }).toEqual({ pid, exitCode: null })
    const { job } = await runJob(platform, { expertKey: 'victim', query: 'Go.' })
    expect(job).toMatchObject({ outcome: 'completed', result: 'Fine.' })
  }
  const create = (input: object) => mutate(platform, 'createJob', { expertKey: 'victim', query: 'Go.', ...input })

  describe('refuses, and keeps nothing of it:', () => {
    let before: object
    beforeEach(async () => {
      before = await countAll(platform)
    })
    afterEach(async () => {
      expect(await countAll(platform)).toEqual(before)
    })

    it.each([
      ['an unknown expert', { expertKey: 'nobody' }, 'expert_not_found', 'nobody'],
      ['an unknown expert of a known package', { expertKey: 'victim/nobody' }, 'expert_not_found', 'nobody'],
      ['an unknown version', { expertKey: 'victim@9.9.9' }, 'version_not_found', '9.9.9'],
      ['an unknown range', { expertKey: 'victim@^7' }, 'version_not_found', '7'],
      ['an unknown tag', { expertKey: 'victim@nightly' }, 'version_not_found', 'nightly'],
      ['an empty key', { expertKey: '' }, 'expert_key_invalid', ''],
      ['a key that climbs', { expertKey: '../../etc/passwd' }, 'expert_key_invalid', ''],
      ['a key with two versions', { expertKey: 'victim@1@2' }, 'expert_key_invalid', ''],
      ['a key in capitals', { expertKey: 'VICTIM' }, 'expert_key_invalid', ''],
      ['a key of 10,000 characters', { expertKey: 'v'.repeat(10_000) }, 'expert_key_invalid', ''],
      ['no query', { query: null }, 'query_missing', 'query'],
      ['a query of 2 MB', { query: 'x'.repeat(2 * 1024 * 1024) }, 'input_too_large', '262144'],
      ['a provider that does not exist', { model: 'nowhere/best' }, 'model_not_found', 'nowhere/best'],
      ['a provider that is not set up', { model: 'ollama/llama' }, 'model_not_found', 'ollama/llama'],
      ['a model without a provider', { model: 'best' }, 'model_not_found', 'best'],
      ['no steps', { maxSteps: 0 }, 'input_invalid', 'maxSteps'],
      ['a file that climbs', { files: [{ path: '../x', text: 'x' }] }, 'input_invalid', 'files[0].path'],
      ['a file twice', { files: ['x', 'x'].map((path) => ({ path, text: 'x' })) }, 'input_invalid', 'x'],
    ] as const)('%s', async (_name, input, code, words) => {
      const refused = await create(input)
      expect(refused).toMatchObject({ code })
      expect('message' in refused ? refused.message : '').toContain(words)
      // REST says the same.
      const { expertKey = 'victim', query = 'Go.', ...more } = input as Record<string, unknown>
      const answer = await platform.fetch('/expert_jobs', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ expertKey, query, ...more }),
      })
      const body = (await answer.json()) as { error: string }
      expect(body.error).toBe(code)
      expect(answer.status).toBeGreaterThanOrEqual(400)
    })

    it('a body that is too large, malformed, of another type, or too deep', async () => {
      const post = async (body: string, type = 'application/json') => {
        const answer = await platform.fetch('/graphql', { method: 'POST', headers: { 'content-type': type }, body })
        const { errors } = (await answer.json()) as { errors: { extensions: { code: string } }[] }
        return [answer.status, errors[0]?.extensions.code]
      }
      const deep = '['.repeat(100_000) + ']'.repeat(100_000)
      expect(await post(`{"query":"${'x'.repeat(17 * 1024 * 1024)}"}`)).toEqual([413, 'input_too_large'])
      expect(await post('{"query":')).toEqual([400, 'input_invalid'])
      expect(await post(`{"query":"{ jobs { nodes { id } } }","variables":${deep}}`)).toEqual([400, 'input_invalid'])
      expect(await post('query={__typename}', 'text/plain')).toEqual([415, 'media_type_unsupported'])
      expect(await post('{"query":"{ nothing }"}')).toEqual([400, 'input_invalid'])
    })

    it.each([
      ['an unknown delegate', 'delegates = ["no-such-expert"]', 'delegates to no-such-expert, which is not published'],
      ['an unknown skill', `[experts."bad".skills."x"]\n${stdio('@no/such-skill')}`, '@no/such-skill'],
      [
        'a cycle',
        'delegates = ["b"]\n[experts."b"]\ninstruction = "b"\ndelegates = ["bad"]',
        'a cycle: bad -> b -> bad',
      ],
      ['a cycle of one', 'delegates = ["bad"]', 'bad'],
      ['a key that nobody knows', 'instrucion = "x"', 'did you mean instruction?'],
      ['no TOML', '[[[', 'senmon.toml:'],
    ])('a publication with %s', async (_name, lines, words) => {
      const directory = await expertPackage('bad', `[experts."bad"]\ninstruction = "Be bad."\n${lines}\n`)
      await expect(npmPublish(platform, directory)).rejects.toThrow(words)
      expect((await npm(platform, ['view', 'bad'])).stderr).toContain('E404')
    })

    it.each([
      ['a path that climbs', [{ path: 'package/../../../evil', body: 'x' }], 422, 'tarball_invalid'],
      ['an absolute path', [{ path: '/etc/cron.d/evil', body: 'x' }], 422, 'tarball_invalid'],
      ['a symbolic link', [{ path: 'package/l', type: '2', link: '/etc/passwd' }], 422, 'tarball_invalid'],
      ['a hard link', [{ path: 'package/l', type: '1', link: '/etc/passwd' }], 422, 'tarball_invalid'],
      ['a bomb of 60 MB', [{ path: 'package/z', body: Buffer.alloc(60_000_000) }], 413, 'tarball_too_large'],
    ] as readonly (readonly [string, HandEntry[], number, string])[])(
      'a tarball with %s',
      async (_name, entries, code, error) => {
        const manifest = { name: 'bad', version: '1.0.0', keywords: ['senmon-expert'] }
        const good = packageEntries(manifest, {
          'senmon.toml': '[experts."bad"]\ninstruction = "x"\nmodel = "rehearsal/x"\n',
        })
        const answer = await platform.fetch('/npm/bad', {
          method: 'PUT',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(publishBody(`${platform.url}/npm/`, manifest, handTgz([...good, ...entries]))),
        })
        expect([answer.status, await answer.text()]).toEqual([code, expect.stringContaining(error)])
        expect((await platform.fetch('/npm/bad')).status).toBe(404)
      },
    )

    it('a wrong key, at every door with 401 and the same words whatever is wrong with it', async () => {
      const { createApiKey } = await platform.graphql<{ createApiKey: { key: string } }>(
        'mutation { createApiKey { ... on CreatedApiKey { key } } }',
      )
      const revoked = createApiKey.key
      const revoke = 'mutation ($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { __typename } }'
      const input = { keyId: `key_${revoked.slice(4, 30)}` }
      expect(await platform.graphql('{ application { name } }', {}, revoked)).toEqual({ application: { name: 'dev' } })
      expect(await platform.graphql(revoke, { input })).toEqual({ revokeApiKey: { __typename: 'RevokedApiKey' } })
      const minted = (id: string) => mintToken(`key_${id}` as ApiKeyId, new Uint8Array(SECRET_BYTES)).token.reveal()
      const wrong = {
        revoked,
        junk: 'nonsense',
        misspelt: `${platform.key.slice(0, -1)}${platform.key.endsWith('a') ? 'b' : 'a'}`,
        unknown: minted('0'.repeat(26)),
        guessed: minted(platform.key.slice(4, 30)),
      }
      const doors = [
        ['/graphql', { method: 'POST', body: '{"query":"{ application { id } }"}' }],
        ['/expert_jobs', {}],
        ['/expert_jobs', { method: 'POST', body: '{"expertKey":"victim","query":"Go."}' }],
        ['/npm/-/whoami', {}],
        ['/npm/victim', {}],
        ['/npm/bad', { method: 'PUT', body: '{}' }],
      ] as const
      for (const [path, init] of doors) {
        const said = new Set<string>()
        for (const bearer of Object.values(wrong)) {
          const headers = { 'content-type': 'application/json', authorization: `Bearer ${bearer}` }
          const answer = await fetch(`${platform.url}${path}`, { ...init, headers })
          said.add(`${answer.status} ${await answer.text()}`)
        }
        expect([path, said.size]).toEqual([path, 1])
        const [words = ''] = said
        expect(words).toMatch(/^401 /)
        expect(words).toContain('unauthenticated')
      }
    })
  })

  it('takes an answer once, of the right kind, to a question that there is', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'victim', query: 'Go.', model: 'rehearsal/ask' })
    const waiting = (asked: number) =>
      until(async () => {
        const job = await findJob(platform, id)
        return job?.status === 'waiting' && job.questions.length === asked ? job : undefined
      })
    const open = (job: SeenJob) => job.questions.find((question) => question.open)
    const first = open(await waiting(1))
    const answer = (questionId: string, value: unknown, argsHash: string | null = null) =>
      mutate(platform, 'continueJob', { jobId: id, answer: { questionId, value, argsHash } })
    const revision = async () =>
      (await platform.graphql<{ job: { revision: number } }>('query ($id: ID!) { job(id: $id) { revision } }', { id }))
        .job.revision
    const before = await revision()
    expect(await answer(`${first?.id}x`, true)).toMatchObject({ code: 'question_not_found' })
    expect(await answer('q_00000000000000000000000000', true)).toMatchObject({ code: 'question_not_found' })
    for (const value of ['true', 1, [], { yes: true }])
      expect(await answer(first?.id ?? '', value)).toMatchObject({ code: 'answer_invalid' })
    expect(await answer(first?.id ?? '', true, '0'.repeat(64))).toMatchObject({ code: 'args_hash_mismatch' })
    expect(await mutate(platform, 'continueJob', { jobId: id, maxSteps: 100 })).toMatchObject({ code: 'job_waiting' })
    expect(await mutate(platform, 'continueJob', { jobId: id })).toMatchObject({ code: 'nothing_to_continue' })
    expect(await revision()).toBe(before)
    expect(await answer(first?.id ?? '', true, first?.argsHash)).toMatchObject({ id })
    expect(await answer(first?.id ?? '', true)).toMatchObject({ code: 'question_answered' })
    const second = open(await waiting(2))
    expect(await answer(second?.id ?? '', 'c')).toMatchObject({ code: 'answer_invalid' })
    // Two at once: one of them is first.
    const both = await Promise.all(['a', 'b'].map((value) => answer(second?.id ?? '', value)))
    expect(both.map((one) => ('code' in one ? one.code : 'taken')).toSorted()).toEqual(['question_answered', 'taken'])
    const { job, results } = await until(async () => {
      const found = await findJob(platform, id)
      return found?.status === 'finished' ? { job: found, results: found.questions } : undefined
    })
    expect(job).toMatchObject({ outcome: 'completed' })
    expect(results).toHaveLength(2)
    for (const [verb, input, code] of [
      ['cancelJob', {}, 'job_finished'],
      ['continueJob', { answer: { questionId: second?.id, value: 'a' } }, 'question_answered'],
      ['continueJob', { maxSteps: 100 }, 'job_finished'],
    ] as const)
      expect(await mutate(platform, verb, { jobId: id, ...input })).toMatchObject({ code })
    for (const verb of ['cancelJob', 'continueJob'] as const) {
      const input = { jobId: 'job_00000000000000000000000000', ...(verb === 'continueJob' ? { query: 'x' } : {}) }
      expect(await mutate(platform, verb, input)).toMatchObject({ code: 'job_not_found' })
    }
  })

  it.each([
    ['a model that its provider does not know', 'openai/gone', 'model_not_found', 'openai/gone'],
    ['no key for its provider', 'anthropic/claude-x', 'model_key_missing', 'ANTHROPIC_API_KEY'],
    ['a rehearsal that is not there', 'rehearsal/nowhere', 'model_not_found', 'nowhere'],
    ['a rehearsal that is malformed', 'rehearsal/invalid', 'rehearsal_invalid', 'txt'],
    ['a rehearsal that diverges', 'rehearsal/diverged', 'rehearsal_diverged', 'Go.'],
  ])('ends a job with %s by its own code', async (_name, name, reason, words) => {
    const { job } = await runJob(platform, { expertKey: 'victim', query: 'Go.', model: name })
    expect(job).toMatchObject({ status: 'finished', outcome: 'failed', reason, steps: 0 })
    expect(job.explanation).toContain(words)
  })

  it('tells the model what a skill did that dies, writes garbage or floods in the middle of a call, and goes on', async () => {
    const { job, results, events } = await runJob(platform, { expertKey: 'victim/rough', query: 'Go.' })
    expect(job).toMatchObject({ outcome: 'completed', result: 'Done.' })
    expect(results.map(({ isError }) => isError)).toEqual([true, true, false, true])
    const [died, garbage, loud, words] = results.map(({ text }) => text)
    expect(died).toMatch(/^\[skill_died\] .*exit code 3.*I fall/s)
    expect(garbage).toMatch(/^\[skill_garbage\] /)
    expect(loud).toBe('"still here"')
    expect(words).toContain('Error: in words')
    const failed = events.filter(({ type }) => type === 'skillFailed').map(({ data }) => data['code'])
    expect(failed).toEqual(['skill_died', 'skill_garbage'])
    // Ten megabytes of noise are not ten megabytes of log.
    expect(platform.log().length).toBeLessThan(2_000_000)
    await expectAlive()
  })

  it('ends a run whose skill does not start, or breaks the rules as it starts, by the code of the fault', async () => {
    const outcomes: (readonly [string, SeenJob])[] = []
    // One after the other: so many at once take each other the time in which a skill has to start.
    for (const deed of Object.keys(HOSTILE)) {
      created[deed] ??= (await act(platform, 'createJob', { expertKey: `victim/${deed}`, query: 'Go.' })).id
      outcomes.push([deed, (await finishJob(platform, created[deed])).job])
    }
    expect(Object.fromEntries(outcomes.map(([deed, { reason }]) => [deed, reason]))).toEqual(HOSTILE)
    for (const [, { outcome, explanation, reason }] of outcomes) {
      expect(outcome).toBe('failed')
      expect(explanation).toContain('hostile')
      expect(Object.keys(CATALOGUE)).toContain(reason)
    }
    await expectAlive()
  })

  it('says nothing of its inside in any of that', () => {
    const lines = platform.log().split('\n')
    expect(lines.filter((line) => /"level":"error"/.test(line))).toEqual([])
    expect(platform.log()).not.toContain('sk-of-a-test')
  })
})
