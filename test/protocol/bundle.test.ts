/** Bundles over HTTP, from outside: who gets one, what comes of one, and what of one that is damaged. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { BUNDLE_MEDIA_TYPE, readBundle } from '../../schema/bundle.ts'
import { chain, genesisHash, type NewEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { openDoor, PROMPT } from '../support/door.ts'
import { chunksOf } from '../support/bundled-job.ts'

async function openBundled() {
  const [here, there] = await Promise.all([openDoor(), openDoor()])
  onTestFinished(async () => void (await Promise.all([here.close(), there.close()])))
  const jobId = await here.createJob('Say hello', [{ path: 'a.txt', text: 'given' }])
  const answer = await here.fetch(`/expert_jobs/${jobId}/bundle`)
  const bundle = await answer.text()
  const post = (body: string, key?: string, type = BUNDLE_MEDIA_TYPE) =>
    there.fetch('/expert_jobs/import', { method: 'POST', headers: { 'content-type': type }, body }, key)
  return { here, there, jobId, answer, bundle, post }
}
const reasonOf = async (answer: Response) => ({ status: answer.status, ...((await answer.json()) as object) })

describe('a bundle over REST', () => {
  it('is a file to be kept, and nothing that a browser would run', async () => {
    const { answer, jobId, bundle, here } = await openBundled()
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe(BUNDLE_MEDIA_TYPE)
    expect(answer.headers.get('content-disposition')).toBe(`attachment; filename="${jobId}.senmon-job"`)
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
    const types: string[] = []
    for await (const part of readBundle(chunksOf(bundle))) types.push(part.type)
    expect(types).toEqual(['bundle', 'event', 'content', 'content', 'content', 'end'])
    const without = await (await here.fetch(`/expert_jobs/${jobId}/bundle?files=false`)).text()
    expect(without).toContain('"files":false')
    expect((await here.fetch(`/expert_jobs/${jobId}/bundle?files=some`)).status).toBe(400)
  })

  it('is for the application whose job it is, in the same words as for a job that never was', async () => {
    const { here, jobId } = await openBundled()
    const foreign = await reasonOf(await here.fetch(`/expert_jobs/${jobId}/bundle`, {}, here.otherKey))
    const missing = await reasonOf(await here.fetch('/expert_jobs/job_0123456789abcdef/bundle'))
    expect(foreign).toMatchObject({ status: 404, error: 'job_not_found' })
    expect(JSON.stringify(foreign).replaceAll(jobId, '')).toBe(
      JSON.stringify(missing).replaceAll('job_0123456789abcdef', ''),
    )
    expect((await here.fetch(`/expert_jobs/${jobId}/bundle`, {}, null)).status).toBe(401)
  })

  it('becomes a job of another server, once, which can be read there', async () => {
    const { there, post, bundle, jobId } = await openBundled()
    const answer = await post(bundle)
    expect(await reasonOf(answer)).toMatchObject({ status: 201, data: { expertJob: { id: jobId } } })
    const { data } = await there.ask<{ job: object }>(
      'query ($id: ID!) { job(id: $id) { imported status outcome reason lock { coordinator } workspace { items { path } } } }',
      { id: jobId },
    )
    expect(data?.job).toMatchObject({
      imported: true,
      status: 'finished',
      outcome: 'canceled',
      reason: 'imported',
      workspace: { items: [{ path: 'input' }, { path: 'input/a.txt' }] },
    })
    expect(await reasonOf(await post(bundle))).toMatchObject({ status: 409, error: 'job_exists' })
    expect(await reasonOf(await post(bundle, there.otherKey))).toMatchObject({ status: 409, error: 'job_exists' })
  })

  it('is refused when it is damaged, cut off, or none, and no job is made of it', async () => {
    const { there, post, bundle, jobId } = await openBundled()
    for (const bad of [bundle.replace('Say hello', 'Say hallo'), bundle.slice(0, -40), 'x', '', '{}\n'])
      expect(await reasonOf(await post(bad))).toMatchObject({ status: 422, error: 'bundle_invalid' })
    expect(await reasonOf(await post(bundle.replace('Say hello', 'Say hallo')))).toMatchObject({
      reason: expect.stringContaining('Event 1 does not hash to what it says'),
    })
    expect((await post(bundle, undefined, 'application/json')).status).toBe(415)
    expect((await post(bundle, 'sen_nobody')).status).toBe(401)
    expect(await there.log.find(jobId)).toBeUndefined()
  })

  it('is answered at once when it goes on and on', async () => {
    const { post, jobId } = await openBundled()
    const event = {
      v: 1,
      type: 'cancelRequested',
      runId: null,
      expertKey: null,
      stepNumber: null,
      data: { reason: 'x' },
    }
    const events = chain(jobId, 0, genesisHash(jobId), 1, [event as NewEvent])
    expect(await reasonOf(await post(`${JSON.stringify(events)}\n`.repeat(20_000)))).toMatchObject({ status: 422 })
  })
})

describe('the prompt of a checkpoint', () => {
  it('is what its generation was asked with: instruction, tools, and the messages before it', async () => {
    const door = await openDoor()
    onTestFinished(() => door.close())
    const jobId = await door.createJob('Say hello')
    const attempt = await door.claim()
    await door.takeSteps(attempt, 2)
    const { data } = await door.ask<{ job: { checkpoints: { nodes: readonly { prompt: unknown }[] } } }>(
      `query ($id: ID!) { job(id: $id) { checkpoints { nodes { prompt { hash instruction tools messages } } } } }`,
      { id: jobId },
    )
    const first = { role: 'user', content: [{ type: 'text', text: 'Say hello' }] }
    const second = { role: 'expert', content: [{ type: 'text', text: 'step 1' }] }
    const prompt = { hash: sha256(PROMPT), instruction: 'Greet.', tools: [] }
    expect(data?.job.checkpoints.nodes.map((node) => node.prompt)).toEqual([
      { ...prompt, messages: [first] },
      { ...prompt, messages: [first, second] },
    ])
  })
})
