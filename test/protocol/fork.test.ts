/** Forking over GraphQL and REST, from outside. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { openDoor } from '../support/door.ts'

const FORK = `mutation ($input: ForkJobInput!) { forkJob(input: $input) {
  __typename
  ... on Job { id status revision forkedFrom { jobId seq } imported workspace { treeHash } }
  ... on Refusal { code message hint } } }`

interface Forked {
  readonly forkJob: {
    readonly __typename: string
    readonly id: string
    readonly code?: string
    readonly forkedFrom: { readonly jobId: string; readonly seq: number } | null
  }
}

async function openForked() {
  const door = await openDoor()
  onTestFinished(() => door.close())
  const jobId = await door.createJob('Say hello', [{ path: 'a.txt', text: 'given' }])
  const attempt = await door.claim()
  await door.takeSteps(attempt, 3)
  await door.finish(attempt)
  const { data } = await door.ask<{ job: { checkpoints: { nodes: { id: string; seq: number }[] } } }>(
    'query ($id: ID!) { job(id: $id) { checkpoints { nodes { id seq } } } }',
    { id: jobId },
  )
  const checkpoints = data?.job.checkpoints.nodes ?? []
  return { door, jobId, checkpoints }
}

describe('forkJob', () => {
  it('goes on from the checkpoint that is named by its id, by its seq, or by nothing', async () => {
    const { door, jobId, checkpoints } = await openForked()
    const [, second, last] = checkpoints
    const ask = async (input: Record<string, unknown>) => (await door.ask<Forked>(FORK, { input })).data?.forkJob
    expect(await ask({ checkpointId: second?.id })).toMatchObject({
      __typename: 'Job',
      status: 'queued',
      revision: (second?.seq ?? 0) + 1,
      forkedFrom: { jobId, seq: second?.seq },
      imported: false,
    })
    expect(await ask({ jobId, seq: second?.seq })).toMatchObject({ forkedFrom: { seq: second?.seq } })
    expect(await ask({ jobId })).toMatchObject({ forkedFrom: { seq: last?.seq } })
  })

  it('refuses what is not a checkpoint of the caller in the same words as what never was', async () => {
    const { door, jobId, checkpoints } = await openForked()
    const ask = async (input: Record<string, unknown>, key?: string) =>
      (await door.ask<Forked>(FORK, { input }, key)).data?.forkJob
    const foreign = await ask({ jobId }, door.otherKey)
    const missing = await ask({ jobId: 'job_0123456789abcdef' })
    expect(foreign?.code).toBe('job_not_found')
    expect(JSON.stringify(foreign).replaceAll(jobId, '')).toBe(
      JSON.stringify(missing).replaceAll('job_0123456789abcdef', ''),
    )
    expect(await ask({ checkpointId: 'chk_nonsense' })).toMatchObject({ code: 'checkpoint_not_found' })
    expect(await ask({ jobId, seq: 1 })).toMatchObject({ code: 'checkpoint_not_found' })
    expect(await ask({})).toMatchObject({ code: 'input_invalid' })
    expect(await ask({ checkpointId: checkpoints[0]?.id, seq: 3 })).toMatchObject({ code: 'input_invalid' })
  })

  it('takes a budget of its own, over GraphQL and REST', async () => {
    const { door, jobId } = await openForked()
    const budget = { costUsd: 5, steps: 50 }
    const { data } = await door.ask<{ forkJob: { budget: unknown; code?: string } }>(
      `mutation ($input: ForkJobInput!) { forkJob(input: $input) {
        ... on Job { budget { limits { costUsd steps toolCalls } used { steps } } } ... on Refusal { code } } }`,
      { input: { jobId, budget } },
    )
    expect(data?.forkJob.budget).toEqual({ limits: { ...budget, toolCalls: null }, used: { steps: 3 } })
    const fork = (body: unknown) =>
      door.fetch(`/expert_jobs/${jobId}/fork`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const answer = await fork({ budget })
    expect(await answer.json()).toMatchObject({ data: { expertJob: { budget: { limits: budget } } } })
    expect((await fork({ budget: { steps: 2 } })).status).toBe(400)
    expect((await fork({ budget: { dollars: 2 } })).status).toBe(400)
  })

  it('answers over REST as well', async () => {
    const { door, jobId, checkpoints } = await openForked()
    const fork = (body: Record<string, unknown>) =>
      door.fetch(`/expert_jobs/${jobId}/fork`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const answer = await fork({ checkpointId: checkpoints[0]?.id, query: 'And now?' })
    expect(answer.status).toBe(201)
    const { data } = (await answer.json()) as { data: { expertJob: { id: string } } }
    expect(data.expertJob.id).not.toBe(jobId)
    expect((await fork({ seq: 2 })).status).toBe(404)
    expect((await fork({ surprise: true })).status).toBe(400)
  })
})
