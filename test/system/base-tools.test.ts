/** What an expert can do that declares nothing: the base tools, on a real server, in a real sandbox. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { HELD_ENV, HOLD, startHeldCalls, type HeldCalls } from '../support/held-calls.ts'
import { expertPackage, npmPublish, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, finishJob, readEvents, runJob, turns, type Call } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const plain = (name: string, more = ''): string =>
  `model = "rehearsal/turns"\n[experts."${name}"]\ninstruction = "Do it."\n${more}`

const todo = (args: Readonly<Record<string, unknown>>): Call => ({ tool: 'base/todo', args })
const complete = (result: string): Call => ({ tool: 'base/attemptCompletion', args: { result } })

describe.skipIf(missing !== undefined)('an expert that declares no skill', () => {
  let platform: Platform
  let held: HeldCalls
  beforeAll(async () => {
    held = await startHeldCalls()
    platform = await startLightly({ env: HELD_ENV })
  })
  afterAll(async () => {
    await platform.stop()
    await held.close()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  async function publish(name: string, steps: readonly (readonly Call[])[], more = ''): Promise<void> {
    const files = { 'rehearsals/turns.json': turns(steps, 'The rehearsal ran out.') }
    await npmPublish(platform, await expertPackage(name, plain(name, more), files))
  }

  it('keeps a list, is held to it, and completes with its result', async () => {
    await publish('keeper', [
      [todo({ newTodos: ['look', 'write'] }), { tool: 'base/healthCheck' }],
      [todo({ completedTodos: [0] }), complete('Too early.')],
      [todo({ completedTodos: [1] }), complete('All is done.')],
    ])
    const { job, results, events } = await runJob(platform, { expertKey: 'keeper', query: 'Go.' })
    expect(job).toMatchObject({ outcome: 'completed', result: 'All is done.', steps: 3 })
    expect(JSON.parse(results[1]?.text ?? '')).toMatchObject({ status: 'ok', step: 1, expert: 'keeper@1.0.0' })
    expect(JSON.parse(results[3]?.text ?? '')).toEqual({
      remainingTodos: [{ id: 1, title: 'write', completed: false }],
    })
    expect(events.some(({ type }) => type === 'toolsListed')).toBe(false)
  })

  it('reads a file, runs a command, keeps a list, and completes', async () => {
    const command = 'grep -c open input/notes.md > count.txt; cat count.txt; wc -l < count.txt'
    await publish('worker', [
      [todo({ newTodos: ['read', 'count'] }), { tool: 'files/read_file', args: { path: 'input/notes.md' } }],
      [{ tool: 'shell/exec', args: { command } }],
      [todo({ completedTodos: [0, 1] }), { tool: 'files/read_file', args: { path: 'count.txt' } }],
      [complete('Two are open.')],
    ])
    const files = [{ path: 'notes.md', text: 'open a\nclosed b\nopen c\n' }]
    const { job, results, events } = await runJob(platform, { expertKey: 'worker', query: 'Count.', files })
    expect(job).toMatchObject({ outcome: 'completed', result: 'Two are open.' })
    const of = (name: string) => results.filter((result) => result.name === name).map(({ text }) => text)
    expect(of('files/read_file')).toEqual(['open a\nclosed b\nopen c', '2'])
    expect(of('shell/exec')).toEqual(['2\n1\n'])
    const types = events.map(({ type }) => type)
    expect(types).toContain('workspaceChanged')
    // The tools are known from the lock: nothing was started to ask for them.
    expect(types).not.toContain('toolsListed')
  })

  it('has in its lock what it uses, at exact versions, and the shell alone with the programs of the system', async () => {
    const query = `{ expert(key: "worker") { lock { experts { base skills { name programs command } } } } }`
    const { expert } = await platform.graphql<{
      expert: { lock: { experts: readonly { base: unknown; skills: unknown }[] } }
    }>(query)
    const [locked] = expert.lock.experts
    expect(locked?.base).toEqual(['base/todo', 'base/clearTodo', 'base/attemptCompletion', 'base/healthCheck'])
    expect(locked?.skills).toEqual([
      { name: 'files', programs: 'node', command: expect.stringMatching(/^@senmon\/files@\d+\.\d+\.\d+$/) },
      { name: 'shell', programs: 'system', command: expect.stringMatching(/^@senmon\/shell@\d+\.\d+\.\d+$/) },
    ])
  })

  it('puts a command to its human when its file says so', async () => {
    const rule = '[[experts."careful".approvals]]\ntool = "shell/*"\n'
    await publish('careful', [[{ tool: 'shell/exec', args: { command: 'echo ran > ran.txt' } }]], rule)
    const { id } = await act(platform, 'createJob', { expertKey: 'careful', query: 'Go.' })
    const question = await until(async () => (await findJob(platform, id))?.questions.find(({ open }) => open))
    await act(platform, 'continueJob', { jobId: id, answer: { questionId: question.id, value: false } })
    const { results } = await finishJob(platform, id)
    expect(results).toEqual([{ name: 'shell/exec', isError: true, text: expect.stringContaining('did not approve') }])
  })

  it('is written as the origin writes it, and has what it picks', async () => {
    const toml =
      '[experts."origin".skills."@perstack/base"]\ntype = "mcpStdioSkill"\ncommand = "npx"\n' +
      'packageName = "@perstack/base"\npick = ["readTextFile", "attemptCompletion"]\n'
    const calls = [{ tool: 'files/write_file', args: { path: 'a', content: 'x' } }, { tool: 'shell/exec' }]
    await publish('origin', [calls, [complete('Read.')]], toml)
    const { job, results } = await runJob(platform, { expertKey: 'origin', query: 'Go.' })
    expect(results.slice(0, 2).map(({ text }) => text)).toEqual([
      'There is no tool files/write_file.',
      'There is no tool shell/exec.',
    ])
    expect(job.result).toBe('Read.')
  })

  it('has no base tool that it gave up', async () => {
    await publish('bare', [[todo({ newTodos: ['look'] })]], 'base = []\n')
    const { job, results } = await runJob(platform, { expertKey: 'bare', query: 'Go.' })
    expect(results).toEqual([{ name: 'base/todo', text: 'There is no tool base/todo.', isError: true }])
    expect(job).toMatchObject({ outcome: 'completed', result: 'The rehearsal ran out.' })
  })

  it('finds its list as it was when the server was killed in between', async () => {
    const steps = [
      [todo({ newTodos: ['look', 'write'] })],
      [HOLD],
      [todo({ completedTodos: [1] })],
      [complete('Too early.')],
    ]
    await publish('crasher', steps, held.skillOf('crasher'))
    const isHeld = held.hold()
    const { id } = await act(platform, 'createJob', { expertKey: 'crasher', query: 'Go.' })
    await isHeld
    const { dataDirectory } = platform
    await platform.kill()
    held.release()
    platform = await startLightly({ directory: dataDirectory, env: HELD_ENV })
    const { results, job } = await finishJob(platform, id)
    expect(JSON.parse(results[2]?.text ?? '')).toEqual({
      todos: [
        { id: 0, title: 'look', completed: false },
        { id: 1, title: 'write', completed: true },
      ],
    })
    expect(JSON.parse(results[3]?.text ?? '')).toEqual({
      remainingTodos: [{ id: 0, title: 'look', completed: false }],
    })
    expect(job.outcome).toBe('completed')
    const events = await readEvents(platform, id)
    expect(events.filter(({ type }) => type === 'machineStarted')).toHaveLength(2)
  })
})
