/** The command line against the API in memory: arguments, exit codes, streams that break, questions at the prompt. */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { parseId } from '../../schema/id.ts'
import { COMMANDS, performCommand } from '../../src/cli/commands.ts'
import { findBroken } from '../../src/cli/log.ts'
import { fakeApi, type FakeApi, type FakeEvent } from '../fake/fake-api.ts'
import { fakeTerminal, type FakeTerminal } from '../fake/fake-terminal.ts'
import { scratchDirectory } from '../support/scratch.ts'

const JOB_ID = 'job_0123456789abcdef'
const QUESTION = {
  id: 'que_0123456789abcdef',
  kind: 'confirm',
  title: 'May I write REPORT.md?',
  schema: { type: 'boolean' },
  toolName: 'human/confirm',
  args: {},
  argsHash: 'abc',
  answeredAt: null as string | null,
}
const job = (more: Record<string, unknown> = {}) => ({
  id: JOB_ID,
  status: 'finished',
  outcome: 'completed',
  reason: null,
  message: null,
  expertKey: 'hello@1.0.0',
  query: 'hi',
  result: 'Hello.',
  steps: 1,
  revision: 3,
  createdAt: '2026-01-01T00:00:00.000Z',
  usage: { inputTokens: 0, outputTokens: 0, costUsd: 0 },
  context: { tokens: 420, window: 1000, share: 0.42 },
  questions: [],
  ...more,
})
const finished = (seq: number): FakeEvent => ({
  seq,
  type: 'jobFinished',
  data: { outcome: 'completed', reason: 'completed', message: null, result: 'Hello.' },
})

async function senmon(args: readonly string[], api: FakeApi, terminal = fakeTerminal(), directory = tmpdir()) {
  const waits: number[] = []
  const code = await performCommand(args, {
    terminal,
    clock: { now: () => 0, sleep: (ms) => Promise.resolve(void waits.push(ms)) },
    directory,
    environment: { SENMON_KEY: 'sen_test' },
    fetchFn: api.fetchFn,
    makeIdempotencyKey: () => 'fresh',
  })
  return { code, waits, terminal }
}

const noApi = fakeApi({ answer: () => ({}) })

describe('every command', () => {
  it.each(COMMANDS.map(({ name }) => name))('%s prints its help and touches nothing', async (name) => {
    const api = fakeApi({ answer: () => ({}) })
    const { code, terminal } = await senmon([name, '--help'], api)
    expect(code).toBe(0)
    expect(terminal.written).toContain(`senmon ${name}`)
    expect(terminal.written).toContain('--json')
    expect(api.requests).toEqual([])
  })

  it('exits with 2 for bad input and says what is wrong', async () => {
    for (const args of [
      ['nonsense'],
      ['run'],
      ['run', 'a', 'b', 'c'],
      ['jobs', '--first', '0'],
      ['log', 'run_1'],
      ['run', 'a', '--nope'],
    ]) {
      const { code, terminal } = await senmon(args, noApi)
      expect([args, code]).toEqual([args, 2])
      expect(terminal.noted).toMatch(/^\[input_invalid\] \S/)
    }
  })

  it('prints an error as JSON when asked to', async () => {
    const { terminal } = await senmon(['log', 'run_1', '--json'], noApi)
    expect(JSON.parse(terminal.written)).toMatchObject({ code: 'input_invalid' })
  })

  it('exits by the kind of what the server says', async () => {
    const refusing = (code: string) =>
      fakeApi({ answer: () => ({ createJob: { __typename: 'Refusal', code, sentence: 'No.' } }) })
    expect((await senmon(['run', 'a', 'hi'], refusing('expert_not_found'))).code).toBe(4)
    expect((await senmon(['run', 'a', 'hi'], refusing('rate_limited'))).code).toBe(6)
    const unauthenticated = fakeApi({
      answer: () => Response.json({ code: 'unauthenticated', message: 'No.' }, { status: 401 }),
    })
    expect((await senmon(['jobs'], unauthenticated)).code).toBe(3)
    const down = { ...noApi, fetchFn: () => Promise.reject(new TypeError('refused')) }
    const { code, terminal } = await senmon(['jobs'], down)
    expect(code).toBe(8)
    expect(terminal.noted).toContain('senmon start')
  })

  it.each([
    [{}, 'http://127.0.0.1:4000/'],
    [{ SENMON_PORT: '4555' }, 'http://127.0.0.1:4555/'],
    [{ SENMON_PORT: '4555', SENMON_URL: 'https://senmon.example' }, 'https://senmon.example/'],
  ])('asks, with %o around it, the server at %s', async (environment, url) => {
    const asked: string[] = []
    const fetchFn: typeof fetch = (input) => {
      asked.push(input instanceof Request ? input.url : String(input))
      return Promise.reject(new TypeError('refused'))
    }
    await performCommand(['jobs'], {
      terminal: fakeTerminal(),
      clock: { now: () => 0, sleep: () => Promise.resolve() },
      directory: tmpdir(),
      environment: { SENMON_KEY: 'sen_test', ...environment },
      fetchFn,
      makeIdempotencyKey: () => '',
    })
    expect(asked[0]).toContain(url)
  })

  it('says where it looked for a key', async () => {
    const terminal = fakeTerminal()
    const directory = await scratch()
    const world = {
      terminal,
      clock: { now: () => 0, sleep: () => Promise.resolve() },
      directory,
      environment: {},
      fetchFn: fetch,
      makeIdempotencyKey: () => '',
    }
    expect(await performCommand(['jobs'], world)).toBe(3)
    expect(terminal.noted).toContain(join(directory, '.senmon', 'dev-key'))
  })
})

describe('run', () => {
  it('shows a line for each step and the result, and exits with 0', async () => {
    const run = { runId: 'run_1', expertKey: 'hello@1.0.0' }
    const events: readonly FakeEvent[] = [
      { seq: 1, type: 'runStarted', ...run, data: { query: 'hi', depth: 0, parent: null } },
      { seq: 1, type: 'delta', ...run, data: { kind: 'text', text: 'Hel' } },
      {
        seq: 2,
        type: 'generated',
        ...run,
        stepNumber: 1,
        data: { parts: [{ type: 'toolCall', name: 'files/read_file', args: { path: 'a.js' } }] },
      },
      { seq: 3, type: 'stepFinished', ...run, stepNumber: 1, at: new Date(1500).toISOString() },
      finished(4),
    ]
    const api = fakeApi({
      answer: (query) =>
        query.includes('createJob') ? { createJob: { __typename: 'Job', ...job() } } : { job: job({ revision: 4 }) },
      stream: () => [...events, 'complete'],
    })
    const { code, terminal } = await senmon(['run', 'hello', 'hi'], api)
    expect(code).toBe(0)
    expect(terminal.written).toBe('Hello.\n')
    expect(terminal.noted).toContain('step 1 hello@1.0.0 files/read_file(a.js) (1.5 s)\n')
    expect(api.requests[0]?.variables).toEqual({
      input: { expertKey: 'hello', query: 'hi', files: [], idempotencyKey: 'fresh' },
    })
  })

  it('sends files under the name that was given', async () => {
    const directory = await scratch()
    await writeFile(join(directory, 'a.txt'), 'A')
    const api = fakeApi({ answer: () => ({ createJob: { __typename: 'Job', ...job() } }) })
    await senmon(
      ['run', 'a', 'q', '--file', 'a.txt', '--file', 'a.txt=src/b.txt', '--detach'],
      api,
      fakeTerminal(),
      directory,
    )
    expect(api.requests[0]?.variables['input']).toMatchObject({
      files: [
        { path: 'a.txt', base64: 'QQ==' },
        { path: 'src/b.txt', base64: 'QQ==' },
      ],
    })
  })

  it('shows every event once over connections that break, and waits longer each time', async () => {
    const api = fakeApi({
      answer: (query) =>
        query.includes('createJob') ? { createJob: { __typename: 'Job', ...job() } } : { job: job({ revision: 5 }) },
      stream: (after, connection) =>
        connection === 1
          ? [{ seq: 1, type: 'jobCreated' }, { seq: 2, type: 'leaseGranted' }, 'break']
          : connection < 4
            ? ['break']
            : [
                ...[1, 2, 3, 4].filter((seq) => seq >= after).map((seq) => ({ seq, type: 'workspaceChanged' })),
                finished(5),
                'complete',
              ],
    })
    const { code, terminal, waits } = await senmon(['run', 'a', 'q', '--json'], api)
    expect(code).toBe(0)
    expect(
      terminal.written
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as FakeEvent).seq),
    ).toEqual([1, 2, 3, 4, 5])
    expect(api.connections.map(({ after }) => after)).toEqual([0, 2, 2, 2])
    expect(waits).toEqual([100, 300, 1000])
  })

  it('gives up in the end, as unreachable', async () => {
    const api = fakeApi({ answer: () => ({ createJob: { __typename: 'Job', ...job() } }), stream: () => ['break'] })
    const { code, waits } = await senmon(['run', 'a', 'q'], api)
    expect(code).toBe(8)
    expect(waits.length).toBeLessThan(10)
  })

  const asking = (answers: unknown[]) => {
    let isAnswered = false
    return fakeApi({
      answer(query, variables) {
        if (query.includes('continueJob')) {
          answers.push(variables['input'])
          isAnswered = true
          return { continueJob: { __typename: 'Job', ...job() } }
        }
        const open = job({ status: 'waiting', outcome: null, revision: 2, questions: [QUESTION] })
        if (query.includes('createJob')) return { createJob: { __typename: 'Job', ...open } }
        return {
          job: isAnswered
            ? job({ revision: 3, questions: [{ ...QUESTION, answeredAt: '2026-01-01T00:00:00.000Z' }] })
            : open,
        }
      },
      stream: (after) =>
        after === 0
          ? [
              { seq: 1, type: 'questionAsked', data: { question: QUESTION } },
              { seq: 2, type: 'jobRested' },
            ]
          : [finished(3), 'complete'],
    })
  }

  it('asks at the prompt until the answer makes sense, and goes on', async () => {
    const answers: unknown[] = []
    const terminal = fakeTerminal({ typed: ['hm', 'yes'] })
    const { code } = await senmon(['run', 'a', 'q'], asking(answers), terminal)
    expect(code).toBe(0)
    expect(terminal.prompts).toHaveLength(2)
    expect(answers).toEqual([{ jobId: JOB_ID, answer: { questionId: QUESTION.id, value: true, argsHash: 'abc' } }])
  })

  it('says how to answer and exits with 5 when nobody is there', async () => {
    const answers: unknown[] = []
    const { code, terminal } = await senmon(['run', 'a', 'q'], asking(answers))
    expect(code).toBe(5)
    expect(answers).toEqual([])
    expect(terminal.noted).toContain(`senmon answer ${JOB_ID} ${QUESTION.id} yes`)
  })

  it('exits by the reason of a job that failed', async () => {
    const failed = job({ outcome: 'failed', reason: 'step_limit', message: 'Too many.', result: null })
    const api = fakeApi({
      answer: (query) =>
        query.includes('createJob') ? { createJob: { __typename: 'Job', ...failed } } : { job: failed },
      stream: () => [
        {
          seq: 3,
          type: 'jobFinished',
          data: { outcome: 'failed', reason: 'step_limit', message: 'Too many.', result: null },
        },
        'complete',
      ],
    })
    const { code, terminal } = await senmon(['run', 'a', 'q'], api)
    expect(code).toBe(5)
    expect(terminal.noted).toContain('failed: step_limit: Too many.\nContinue the job with a larger maxSteps.\n')
  })

  it('detaches on the first interrupt and cancels on the second', async () => {
    const canceled: unknown[] = []
    const terminal: FakeTerminal = fakeTerminal()
    const api = fakeApi({
      answer(query) {
        if (query.includes('cancelJob')) {
          canceled.push(query)
          return { cancelJob: { __typename: 'Job', ...job({ outcome: 'canceled' }) } }
        }
        if (query.includes('createJob')) return { createJob: { __typename: 'Job', ...job() } }
        return { job: job({ status: 'running', outcome: null, revision: 0 }) }
      },
      stream(_after, connection) {
        if (connection === 1) terminal.interrupt()
        if (connection === 2) terminal.interrupt()
        return ['complete']
      },
    })
    // The clock never lets the time to detach pass.
    const world = {
      terminal,
      clock: {
        now: () => 0,
        sleep: (ms: number) => (ms < 2000 ? Promise.resolve() : new Promise<void>(() => undefined)),
      },
      directory: tmpdir(),
      environment: { SENMON_KEY: 'k' },
      fetchFn: api.fetchFn,
      makeIdempotencyKey: () => 'k',
    }
    expect(await performCommand(['run', 'a', 'q'], world)).toBe(130)
    expect(terminal.noted).toContain('Detaching')
    expect(terminal.noted).toContain(`Canceled ${JOB_ID}`)
    expect(canceled).toHaveLength(1)
  })
})

describe('answer', () => {
  it('finds the only open question, and sends the hash of what it saw', async () => {
    const waiting = job({
      status: 'waiting',
      outcome: null,
      questions: [{ ...QUESTION, id: 'que_old', answeredAt: 'then' }, QUESTION],
    })
    const api = fakeApi({
      answer: (query) =>
        query.includes('continueJob') ? { continueJob: { __typename: 'Job', ...job() } } : { job: waiting },
    })
    expect((await senmon(['answer', JOB_ID, 'no', '--detach'], api)).code).toBe(0)
    expect(api.requests.at(-1)?.variables['input']).toMatchObject({
      answer: { questionId: QUESTION.id, value: false, argsHash: 'abc' },
    })
    const left = await senmon(['continue', JOB_ID, 'and this', '--detach'], api)
    expect([left.code, left.terminal.written]).toEqual([0, `${JOB_ID} finished\n`])
  })

  it('refuses when nothing, or more than one thing, is asked', async () => {
    const asked = (questions: unknown[]) => fakeApi({ answer: () => ({ job: job({ questions }) }) })
    expect((await senmon(['answer', JOB_ID, 'no'], asked([]))).code).toBe(4)
    const { code, terminal } = await senmon(['answer', JOB_ID, 'no'], asked([QUESTION, { ...QUESTION, id: 'que_2' }]))
    expect(code).toBe(2)
    expect(terminal.noted).toContain('que_2')
  })
})

describe('log --verify', () => {
  const id = parseId('job', JOB_ID)
  if (id === undefined) throw new TypeError('the id of this test is none')
  const facts: readonly NewEvent[] = [1, 2, 3].map((fence) => ({
    type: 'leaseGranted',
    data: { fence, holder: 'here' },
    runId: null,
    expertKey: null,
    stepNumber: null,
    v: 1,
  }))
  const events = chain(id, 0, genesisHash(id), 1000, facts)
  const show = ({ at, ...event }: JobEvent) => {
    const { v: _v, jobId: _jobId, prevHash: _prevHash, ...shown } = event
    return { ...shown, at: new Date(at).toISOString() } as never
  }

  it('finds a whole chain whole', () => {
    expect(findBroken(JOB_ID, events.map(show))).toBeUndefined()
  })

  it('names the first event that was changed, left out or moved', () => {
    const [first, second, third] = events.map(show)
    if (first === undefined || second === undefined || third === undefined) throw new TypeError('there are three')
    expect(
      findBroken(JOB_ID, [first, { ...(second as object), at: new Date(1001).toISOString() } as never, third]),
    ).toBe(2)
    expect(findBroken(JOB_ID, [first, third])).toBe(2)
    expect(findBroken(JOB_ID, [second, first, third])).toBe(1)
    expect(findBroken('job_fedcba9876543210', [first, second, third])).toBe(1)
  })

  it('exits with 1 when the chain is broken', async () => {
    const tampered = events.map((event) => ({ ...(show(event) as FakeEvent) }))
    const api = fakeApi({
      answer: () => ({ job: job({ revision: 3 }) }),
      stream: () => [...tampered.slice(0, 2), { ...(tampered[2] as FakeEvent), type: 'jobRested' }],
    })
    const { code, terminal } = await senmon(['log', JOB_ID, '--verify'], api)
    expect(code).toBe(1)
    expect(terminal.noted).toContain('event 3')
  })
})

describe('answer', () => {
  it('shows how the job goes on, with the call that was approved and nothing of before', async () => {
    const call = { type: 'toolCall', callId: 'call_1_0', name: 'shell/exec', args: { command: 'rm' } }
    const question = { ...QUESTION, callId: 'call_1_0', kind: 'confirm', schema: { anyOf: [{ type: 'boolean' }, {}] } }
    const value = { approved: true, args: { command: 'ls' } }
    const at = new Date(0).toISOString()
    const inRun = { runId: 'run_1', expertKey: 'a@1.0.0', stepNumber: 1, at }
    const events = [
      { seq: 1, type: 'runStarted', data: { depth: 0, query: 'of before' }, ...inRun },
      { seq: 2, type: 'generated', data: { parts: [call] }, ...inRun },
      { seq: 3, type: 'questionAsked', data: { question }, ...inRun },
      { seq: 4, type: 'jobRested', at },
      { seq: 5, type: 'answered', data: { questionId: question.id, value }, at },
      { seq: 6, type: 'stepFinished', data: {}, ...inRun },
    ]
    let isAnswered = false
    const api = fakeApi({
      answer(query) {
        const waits = job({ status: 'waiting', outcome: null, revision: 4, questions: [question] })
        if (query.includes('continueJob')) isAnswered = true
        if (query.includes('continueJob')) return { continueJob: { __typename: 'Job', ...waits } }
        return { job: isAnswered ? job({ revision: 7 }) : waits }
      },
      stream: (after) => [...events.slice(after), finished(7), 'complete'],
    })
    const { code, terminal } = await senmon(['answer', JOB_ID, '--json-value', JSON.stringify(value)], api)
    expect(code).toBe(0)
    expect(terminal.noted).toContain('approved with other arguments: shell/exec(ls)')
    expect(terminal.noted).toContain('step 1 a@1.0.0 shell/exec(ls) as edited by a human')
    expect(terminal.noted).not.toContain('of before')
  })
})

describe('answer with arguments that the tool does not take', () => {
  it('says what is wrong with them, and leaves the question to be answered', async () => {
    const question = { ...QUESTION, schema: { anyOf: [{ type: 'boolean' }, {}] } }
    const sentence = 'The answer gives arguments that files/put does not take: /path must be string.'
    const api = fakeApi({
      answer: (query) =>
        query.includes('continueJob')
          ? { continueJob: { __typename: 'Refusal', code: 'answer_invalid', sentence, hint: 'Send another.' } }
          : { job: job({ status: 'waiting', outcome: null, questions: [question] }) },
    })
    const value = JSON.stringify({ approved: true, args: { path: 7 } })
    const { code, terminal } = await senmon(['answer', JOB_ID, '--json-value', value], api)
    expect(code).toBe(2)
    expect(terminal.noted).toContain(sentence)
  })
})

describe('log', () => {
  it('shows what happened on standard output, since that is what was asked for', async () => {
    const created = {
      seq: 1,
      type: 'jobCreated',
      runId: null,
      expertKey: null,
      stepNumber: null,
      hash: 'h',
      at: new Date(0).toISOString(),
    }
    const asked = { ...created, seq: 2, type: 'leaseExpired', data: { fence: 1, reason: 'signal SIGKILL' } }
    const api = fakeApi({
      answer: () => ({ job: job({ revision: 2 }) }),
      stream: () => [{ ...created, data: {} } as FakeEvent, asked as FakeEvent],
    })
    const { code, terminal } = await senmon(['log', JOB_ID], api)
    expect(code).toBe(0)
    expect(terminal.written).toContain('SIGKILL')
    expect(terminal.noted).toBe('')
  })
})

describe('secret', () => {
  it('takes the value from standard input alone', async () => {
    const api = fakeApi({ answer: () => ({ setSecret: { __typename: 'Secret', name: 'TOKEN' } }) })
    expect((await senmon(['secret', 'set', 'TOKEN'], api, fakeTerminal({ input: 's3cret\n' }))).code).toBe(0)
    expect(api.requests[0]?.variables).toEqual({ input: { name: 'TOKEN', value: 's3cret' } })
    expect((await senmon(['secret', 'set', 'TOKEN', 's3cret'], api)).code).toBe(2)
    expect((await senmon(['secret', 'set', 'TOKEN'], api)).code).toBe(2)
  })
})

describe('init and lint', () => {
  it('write a package without a fault, and refuse to overwrite it', async () => {
    const directory = await scratch()
    expect((await senmon(['init', 'my-expert'], noApi, fakeTerminal(), directory)).code).toBe(0)
    const { code, terminal } = await senmon(['lint', 'my-expert'], noApi, fakeTerminal(), directory)
    expect(terminal.written).toMatch(/^\nmy-expert\n(?:  .*\n)+\nmy-expert\/senmon\.toml: no faults\n$/)
    expect(await readFile(join(directory, 'my-expert', 'senmon.toml'), 'utf8')).toMatch(/^#:schema \.\/senmon\.schema/)
    expect(code).toBe(0)
    const manifest = JSON.parse(await readFile(join(directory, 'my-expert', 'package.json'), 'utf8')) as object
    expect(manifest).toMatchObject({ publishConfig: { registry: 'http://127.0.0.1:4000/npm/' } })
    expect((await senmon(['init', 'my-expert'], noApi, fakeTerminal(), directory)).code).toBe(2)
    expect((await senmon(['init', '.', '--name', 'Not A Name'], noApi, fakeTerminal(), directory)).code).toBe(2)
  })

  it('name all faults at once, with file and line', async () => {
    const directory = await scratch()
    await senmon(['init', '.', '--name', 'my-expert'], noApi, fakeTerminal(), directory)
    const toml = await readFile(join(directory, 'senmon.toml'), 'utf8')
    await writeFile(join(directory, 'senmon.toml'), `${toml.replace('0.1.0', '0.2.0')}maxSteps = 0\nmaxStep = 3\n`)
    const { code, terminal } = await senmon(['lint'], noApi, fakeTerminal(), directory)
    expect(code).toBe(2)
    expect(terminal.written.match(/^senmon\.toml:\d+/gm)).toHaveLength(2)
    await writeFile(join(directory, 'senmon.toml'), toml.replace('0.1.0', '0.2.0'))
    const second = await senmon(['lint'], noApi, fakeTerminal(), directory)
    expect(second.terminal.written).toBe(
      'package.json: "version" is "0.1.0" but the expert "my-expert" says "0.2.0".\n',
    )
    await writeFile(join(directory, 'senmon.toml'), Buffer.from(toml.replace('Answers', 'Gr\u00fc\u00dft'), 'latin1'))
    expect((await senmon(['lint'], noApi, fakeTerminal(), directory)).terminal.noted).toContain('is not UTF-8.')
  })

  it('take the file as well as the directory that holds it, and say of anything else what is wrong', async () => {
    const directory = await scratch()
    await senmon(['init', 'my-expert'], noApi, fakeTerminal(), directory)
    const lint = async (path: string) => await senmon(['lint', path, '--offline'], noApi, fakeTerminal(), directory)
    const { code, terminal } = await lint('my-expert/senmon.toml')
    expect(terminal.written).toContain('my-expert/senmon.toml: no faults')
    expect(code).toBe(0)
    await mkdir(join(directory, 'perstack.toml'))
    const said = await Promise.all(
      ['my-expert/package.json', 'none', 'none/senmon.toml', 'my-expert/perstack.toml', '.'].map(lint),
    )
    expect(said.map(({ terminal: { noted } }) => noted.replaceAll(directory, '<here>').split('\n')[0])).toEqual([
      '[expert_file_missing] <here>/my-expert/package.json holds no senmon.toml and no perstack.toml.',
      '[expert_file_missing] <here>/none holds no senmon.toml and no perstack.toml.',
      '[expert_file_missing] <here>/none holds no senmon.toml.',
      '[expert_file_missing] <here>/my-expert holds no perstack.toml.',
      '[expert_file_invalid] <here>/perstack.toml cannot be read: EISDIR: illegal operation on a directory, read.',
    ])
  })

  it('warn of recorded turns that the package lacks', async () => {
    const directory = await scratch()
    await senmon(['init', '.', '--name', 'my-expert'], noApi, fakeTerminal(), directory)
    await rename(join(directory, 'rehearsals/hello.toml'), join(directory, 'rehearsals/other.toml'))
    const { code, terminal } = await senmon(['lint', '--offline'], noApi, fakeTerminal(), directory)
    expect(code).toBe(0)
    expect(terminal.written).toContain(
      'warning: The model rehearsal/hello plays rehearsals/hello.toml, which the package does not have.',
    )
  })

  it('warn of a package that may be published without its experts', async () => {
    const directory = await scratch()
    await senmon(['init', '.', '--name', 'my-expert'], noApi, fakeTerminal(), directory)
    await writeFile(join(directory, 'package.json'), '{ "name": "my-expert", "version": "0.1.0" }')
    const { code, terminal } = await senmon(['lint', '--offline'], noApi, fakeTerminal(), directory)
    expect(code).toBe(0)
    expect(terminal.written).toContain('warning: package.json: "keywords" lacks "senmon-expert"')
  })

  it('looks delegates and skills up where a server answers, and says what is unchecked where none does', async () => {
    const directory = await scratch()
    await senmon(['init', '.', '--name', 'my-expert'], noApi, fakeTerminal(), directory)
    const toml = await readFile(join(directory, 'senmon.toml'), 'utf8')
    await writeFile(
      join(directory, 'senmon.toml'),
      `envPath = [".env"]\nruntime = "local"\n${toml}delegates = ["reader@^1", "gone"]\n${SKILLS}`,
    )
    const reader = {
      key: 'reader@1.0.0',
      skills: [{ name: 'mcp', unpinned: 'it hung', requiredEnv: ['TOKEN'], allowedDomains: [], command: 'mcp@1.0.0' }],
    }
    const api = fakeApi({
      answer: (query, { key }) =>
        query.includes('skill(')
          ? { skill: key === '@acme/pen@latest' ? { key: '@acme/pen@1.0.0' } : null }
          : { expert: key === 'gone' ? null : { lock: { experts: [reader] } } },
    })
    const online = await senmon(['lint', '--json'], api, fakeTerminal(), directory)
    expect(online.code).toBe(2)
    expect(JSON.parse(online.terminal.written)).toMatchObject({
      file: 'senmon.toml',
      faults: [
        {
          line: 13,
          field: 'delegates[1]',
          message: expect.stringContaining('names gone, which is neither in the file'),
        },
        {
          table: '[experts."my-expert".skills."ink"]',
          message: expect.stringContaining('wants @acme/ink@^2, which is'),
        },
      ],
      warnings: [
        'senmon.toml: envPath has no effect: variables come from no file; set them with senmon secret set.',
        'senmon.toml: runtime has no effect: experts run in the machines of the server.',
        'The skill "mcp" of reader@1.0.0 is unpinned (it hung): its tools are listed at a job\'s start.',
      ],
      experts: [
        {
          reaches: ['reader@1.0.0'],
          requiredEnv: ['TOKEN'],
          commands: ['@acme/ink@^2', '@acme/pen@latest', '@senmon/files@latest', '@senmon/shell@latest', 'mcp@1.0.0'],
          unchecked: [],
        },
      ],
    })
    const down = { ...noApi, fetchFn: () => Promise.reject(new TypeError('refused')) }
    const offline = await senmon(['lint'], down, fakeTerminal(), directory)
    expect(offline.code).toBe(0)
    expect(offline.terminal.written).toContain('  unchecked    @acme/ink@^2, @acme/pen@latest, gone, reader@^1\n')
  })
})

const SKILLS = ['pen', 'ink@^2']
  .map((name) => {
    const table = `[experts."my-expert".skills."${name.split('@')[0]}"]`
    return `${table}\ntype = "mcpStdioSkill"\npackageName = "@acme/${name}"\n`
  })
  .join('')

async function scratch(): Promise<string> {
  const directory = scratchDirectory('cli')
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  return directory
}
