/** What an expert can do that declares nothing: the base tools, on a real server, in a real sandbox. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, startPlatform, until, type Platform } from '../support/platform.ts'
import { act, finishJob, readEvents, runJob, turns, type Call } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const plain = (name: string, more = ''): string =>
  `model = "rehearsal/turns"\n[experts."${name}"]\ninstruction = "Do it."\n${more}`

const todo = (args: Readonly<Record<string, unknown>>): Call => ({ tool: 'base/todo', args })
const complete = (result: string): Call => ({ tool: 'base/attemptCompletion', args: { result } })

describe.skipIf(missing !== undefined)('an expert that declares no skill', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startPlatform()
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  async function publish(name: string, steps: readonly (readonly Call[])[], more = '', pauseMs = 0): Promise<void> {
    const files = { 'rehearsals/turns.json': turns(steps, 'The rehearsal ran out.', pauseMs) }
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

  it('has no base tool that it gave up', async () => {
    await publish('bare', [[todo({ newTodos: ['look'] })]], 'base = []\n')
    const { job, results } = await runJob(platform, { expertKey: 'bare', query: 'Go.' })
    expect(results).toEqual([{ name: 'base/todo', text: 'There is no tool base/todo.', isError: true }])
    expect(job).toMatchObject({ outcome: 'completed', result: 'The rehearsal ran out.' })
  })

  it('finds its list as it was when the server was killed in between', async () => {
    const steps = [[todo({ newTodos: ['look', 'write'] })], [todo({ completedTodos: [1] })], [complete('Too early.')]]
    await publish('crasher', steps, '', 1500)
    const { id } = await act(platform, 'createJob', { expertKey: 'crasher', query: 'Go.' })
    await until(async () => {
      const query = `query ($id: ID!) { job(id: $id) { checkpoints { nodes { seq } } } }`
      const { job } = await platform.graphql<{ job: { checkpoints: { nodes: unknown[] } } }>(query, { id })
      return job.checkpoints.nodes.length > 0 ? true : undefined
    })
    const { dataDirectory } = platform
    await platform.kill()
    platform = await startPlatform({ directory: dataDirectory })
    const { results, job } = await finishJob(platform, id)
    expect(JSON.parse(results[1]?.text ?? '')).toEqual({
      todos: [
        { id: 0, title: 'look', completed: false },
        { id: 1, title: 'write', completed: true },
      ],
    })
    expect(JSON.parse(results[2]?.text ?? '')).toEqual({
      remainingTodos: [{ id: 0, title: 'look', completed: false }],
    })
    expect(job.outcome).toBe('completed')
    const events = await readEvents(platform, id)
    expect(events.filter(({ type }) => type === 'machineStarted')).toHaveLength(2)
  })
})
