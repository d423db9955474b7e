/** Jobs over REST, in the shapes of the published API. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { NewEvent } from '../../schema/event.ts'
import { printTree } from '../../schema/tree.ts'
import { printStatus } from '../../src/http/rest-shape.ts'
import type { Attempt } from '../../src/job/jobs.ts'
import { aQuestion, questionAsked, runIdOf } from '../job/given.ts'
import { openDoor, readFrames, type Door, type ReadFrame } from '../support/door.ts'
import { until } from '../support/patience.ts'

let door: Door
beforeEach(async () => {
  door = await openDoor()
})
afterEach(() => door.close())

interface Answer {
  readonly data: {
    readonly expertJob: { id: string; status: string; questions: { id: string }[] }
    readonly expertJobs: { id: string }[]
    readonly checkpoints: { id: string; stepNumber: number }[]
    readonly workspaceItems: { id: string; path: string }[]
    readonly workspaceInstance: object
  }
  readonly meta: { total: number; take: number; skip: number }
  readonly code: number
  readonly error: string
  readonly reason: string
}

async function get(path: string, key?: string): Promise<Answer> {
  return (await (await door.fetch(path, {}, key)).json()) as Answer
}

async function post(path: string, body: unknown): Promise<Answer & { status: number }> {
  const response = await door.fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return { ...((await response.json()) as Answer), status: response.status }
}

/** A workspace with a report, a page and a name that tries things. */
async function writeFiles(attempt: Attempt): Promise<void> {
  const file = async (name: string, text: string) => ({
    type: 'file' as const,
    name,
    hash: await door.content.put(new TextEncoder().encode(text)),
    sizeBytes: text.length,
    executable: false,
  })
  const put = async (entries: Parameters<typeof printTree>[0]) => {
    const { text, hash } = printTree(entries)
    await door.content.put(new TextEncoder().encode(text))
    return hash
  }
  const docs = await put([await file('x.html', '<script>alert(1)</script>'), await file('é"\'; b.txt', 'odd')])
  const root = await put([
    await file('REPORT.md', '# Fine\n'),
    { type: 'directory', name: 'docs', hash: docs },
    // An expert's own folder of this name cannot pass for the input.
    { type: 'directory', name: 'input', hash: docs },
  ])
  const changed = {
    type: 'workspaceChanged',
    data: { treeHash: root },
    runId: null,
    expertKey: null,
    stepNumber: null,
    v: 1,
  }
  await door.jobs.record(attempt, [changed as NewEvent])
}

for (const prefix of ['', '/api/studio/v1'])
  describe(`${prefix}/expert_jobs`, () => {
    it('creates, shows, lists, streams, continues and cancels', async () => {
      const made = await post(`${prefix}/expert_jobs`, {
        expertKey: 'greeter',
        query: 'Say hello',
        files: [{ path: 'a.txt', text: 'a' }],
        maxSteps: '7',
      })
      expect(made).toMatchObject({
        status: 201,
        data: {
          expertJob: { type: 'expertJob', status: 'queued', expertKey: 'greeter@1.0.0', maxSteps: 7, currentStep: 0 },
        },
      })
      const { id } = made.data.expertJob
      const attempt = await door.claim()
      expect((await get(`${prefix}/expert_jobs/${id}`)).data.expertJob).toMatchObject({ id, status: 'processing' })
      await door.takeSteps(attempt, 3)
      const streamed = await door.fetch(`${prefix}/expert_jobs/${id}/checkpoints/stream`)
      await door.finish(attempt)
      const frames: ReadFrame[] = []
      for await (const frame of readFrames(streamed)) frames.push(frame)
      expect(frames.map(({ event }) => event)).toEqual(['message', 'message', 'message', 'complete'])
      expect(JSON.parse(frames[0]!.data)).toMatchObject({
        type: 'checkpoint',
        expertJobId: id,
        stepNumber: 1,
        usage: { totalTokens: 12 },
      })
      expect(JSON.parse(frames[3]!.data)).toEqual({ status: 'completed', expertJobId: id })
      const listed = await get(`${prefix}/expert_jobs/${id}/checkpoints?take=2&skip=1`)
      expect(listed.data.checkpoints.map(({ stepNumber }) => stepNumber)).toEqual([2, 3])
      expect(listed.meta).toEqual({ total: 3, take: 2, skip: 1 })
      const one = await get(`${prefix}/expert_jobs/${id}/checkpoints/${listed.data.checkpoints[0]?.id}`)
      expect(one.data).toMatchObject({ checkpoint: { stepNumber: 2 } })
      expect((await post(`${prefix}/expert_jobs/${id}/continue`, { query: 'More' })).data.expertJob.status).toBe(
        'queued',
      )
      expect((await post(`${prefix}/expert_jobs/${id}/cancel`, {})).data.expertJob.status).toBe('canceled')
      expect(await post(`${prefix}/expert_jobs/${id}/cancel`, {})).toMatchObject({
        status: 409,
        code: 409,
        error: 'job_finished',
      })
      const all = await get(`${prefix}/expert_jobs/?take=10`)
      expect(all.data.expertJobs.map((job) => job.id)).toEqual([id])
      expect((await get(`${prefix}/expert_jobs?filter=second`)).data.expertJobs).toEqual([])
    })
  })

describe('a job that is shown', () => {
  it('says which queries wait to be read, and how full the window of its model is', async () => {
    const jobId = await door.createJob()
    expect((await get(`/expert_jobs/${jobId}`)).data.expertJob).not.toHaveProperty('context')
    const attempt = await door.claim()
    await door.takeSteps(attempt, 1)
    const { data } = await post(`/expert_jobs/${jobId}/continue`, { query: 'And this' })
    expect(data.expertJob).toMatchObject({
      queuedQueries: ['And this'],
      context: { tokens: 12, window: null, share: null },
    })
    await post(`/expert_jobs/${jobId}/cancel`, {})
  })
})

describe('the stream', () => {
  it('resumes after an id, by `after` or by Last-Event-ID, whichever is further', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    await door.takeSteps(attempt, 4)
    await door.finish(attempt)
    const read = async (after: string, lastEventId?: string) => {
      const headers: Record<string, string> = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
      const response = await door.fetch(`/expert_jobs/${jobId}/checkpoints/stream${after}`, { headers })
      const ids: (number | null)[] = []
      for await (const { id, event } of readFrames(response)) if (event === 'message') ids.push(id)
      return ids
    }
    const all = await read('')
    expect(all).toHaveLength(4)
    expect(await read(`?after=${all[0]}`)).toEqual(all.slice(1))
    expect(await read('', `${all[2]}`)).toEqual(all.slice(3))
    expect(await read(`?after=${all[1]}`, `${all[0]}`)).toEqual(all.slice(2))
    for (const bad of ['-1', '1e18', 'x', '1.5'])
      expect(await get(`/expert_jobs/${jobId}/checkpoints/stream?after=${bad}`)).toMatchObject({
        code: 400,
        error: 'input_invalid',
      })
  })

  it('leaves no watcher behind when its reader hangs up', async () => {
    const jobId = await door.createJob()
    const hangUp = new AbortController()
    const response = await door.fetch(`/expert_jobs/${jobId}/checkpoints/stream`, { signal: hangUp.signal })
    await until(() => door.log.listeners() === 1)
    hangUp.abort()
    await response.text().catch(() => '')
    await until(() => door.log.listeners() === 0 && door.server.streams() === 0)
  })
})

describe('a question', () => {
  for (const [form, body] of [
    ['our own', (id: string) => ({ answer: { questionId: id, value: true } })],
    ['the published API', () => ({ interactiveToolCallResult: true, query: 'true' })],
  ] as const)
    it(`is answered in the form of ${form}`, async () => {
      const jobId = await door.createJob()
      const attempt = await door.claim()
      await door.jobs.record(attempt, [questionAsked(aQuestion(jobId, runIdOf(jobId), 'fix'))])
      await door.jobs.rest(attempt)
      const job = (await get(`/expert_jobs/${jobId}`)).data.expertJob
      expect(job.status).toBe('requestInteractiveToolResult')
      const answered = await post(`/expert_jobs/${jobId}/continue`, body(job.questions[0]?.id ?? ''))
      expect(answered).toMatchObject({ status: 200, data: { expertJob: { status: 'queued', questions: [] } } })
      const again = await post(`/expert_jobs/${jobId}/continue`, body(job.questions[0]?.id ?? ''))
      expect([404, 409]).toContain(again.status)
    })
})

describe('a workspace', () => {
  it('is listed, found and downloaded by item, and nothing in it can run here', async () => {
    const jobId = await door.createJob('Read', [{ path: 'src/a.ts', text: 'a' }])
    const attempt = await door.claim()
    await writeFiles(attempt)
    const at = `/expert_jobs/${jobId}/workspace_instance`
    expect((await get(at)).data.workspaceInstance).toMatchObject({
      type: 'workspaceInstance',
      countItems: 7,
      envSecrets: [],
    })
    const { data, meta } = await get(`${at}/items`)
    expect(data.workspaceItems.map(({ path }) => path)).toEqual([
      'REPORT.md',
      'docs',
      'docs/x.html',
      'docs/é"\'; b.txt',
      'input',
      'input/src',
      'input/src/a.ts',
    ])
    expect(meta.total).toBe(7)
    expect((await get(`${at}/items?take=2&skip=1`)).data.workspaceItems.map(({ path }) => path)).toEqual([
      'docs',
      'docs/x.html',
    ])
    expect((await get(`${at}/items?path=input`)).data.workspaceItems).toMatchObject([
      { path: 'input/src' },
      { path: 'input/src/a.ts', permission: 'readOnly', owner: 'user' },
    ])
    for (const { id, path } of data.workspaceItems) {
      expect((await get(`${at}/items/${id}`)).data).toMatchObject({ workspaceItem: { id, path } })
      expect((await get(`${at}/items/find?path=${encodeURIComponent(path)}`)).data.workspaceItems).toMatchObject([
        { id, path },
      ])
    }
    const page = data.workspaceItems[2]
    const downloaded = await door.fetch(`${at}/items/${page?.id}/download`)
    expect(await downloaded.text()).toBe('<script>alert(1)</script>')
    expect(Object.fromEntries(downloaded.headers)).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="x.html"; filename*=UTF-8''x.html`,
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
    })
    const odd = await door.fetch(`${at}/items/${data.workspaceItems[3]?.id}/download`)
    expect(odd.headers.get('content-disposition')).toBe(
      `attachment; filename="______b.txt"; filename*=UTF-8''%C3%A9%22%27%3B%20b.txt`.replace('______', '_____'),
    )
    expect(await get(`${at}/items/${data.workspaceItems[1]?.id}/download`)).toMatchObject({
      code: 400,
      error: 'workspace_invalid',
    })
  })

  it('has no item outside itself', async () => {
    const jobId = await door.createJob('Read', [{ path: 'a.txt', text: 'a' }])
    const at = `/expert_jobs/${jobId}/workspace_instance/items`
    const ids = [
      '../../etc/passwd',
      '/etc/passwd',
      'input/../../x',
      '.',
      '',
      'input/a.txt/x',
      'input\\a.txt',
      'INPUT/a.txt',
    ]
    for (const path of ids) {
      const id = Buffer.from(path).toString('base64url')
      const response = await door.fetch(`${at}/${id || '-'}/download`)
      expect([path, response.status]).toEqual([path, 404])
      expect((await get(`${at}/find?path=${encodeURIComponent(path)}`)).data.workspaceItems).toEqual([])
    }
    for (const id of ['%2e%2e%2f', 'a%00b', '..%2f..%2fetc', 'x'.repeat(3000)])
      expect((await door.fetch(`${at}/${id}/download`)).status).toBe(404)
    expect((await door.fetch(`${at}/${Buffer.from('input/a.txt').toString('base64')}=/download`)).status).toBe(404)
  })
})

describe('the door', () => {
  it('gives a foreign job the very answer of a missing one, on every route', async () => {
    const foreign = await door.createJob('x', [{ path: 'a.txt', text: 'a' }])
    const missing = foreign.replace(/.$/, (char) => (char === '0' ? '1' : '0'))
    const item = Buffer.from('input/a.txt').toString('base64url')
    const routes = [
      ['GET', ''],
      ['POST', '/continue'],
      ['POST', '/cancel'],
      ['GET', '/checkpoints'],
      ['GET', '/checkpoints/stream'],
      ['GET', '/workspace_instance'],
      ['GET', '/workspace_instance/items'],
      ['GET', '/workspace_instance/items/find?path=input'],
      ['GET', `/workspace_instance/items/${item}`],
      ['GET', `/workspace_instance/items/${item}/download`],
    ] as const
    for (const [method, route] of routes) {
      const ask = async (id: string, key: string) => {
        const init =
          method === 'POST'
            ? { method, headers: { 'content-type': 'application/json' }, body: '{"query":"x"}' }
            : { method }
        const response = await door.fetch(`/expert_jobs/${id}${route}`, init, key)
        return `${response.status} ${(await response.text()).replaceAll(id, '<id>')}`
      }
      const said = await ask(foreign, door.otherKey)
      expect([route, said]).toEqual([
        route,
        '404 {"code":404,"error":"job_not_found","reason":"There is no job <id>."}',
      ])
      expect(await ask(missing, door.otherKey)).toBe(said)
      expect(await ask(missing, door.key)).toBe(said)
    }
    expect((await door.jobs.find((await door.applications.ensure('dev')).id, foreign))?.status).toBe('queued')
  })

  it('refuses what it cannot read, in the shape of the published API', async () => {
    expect(await get('/expert_jobs', 'nonsense')).toMatchObject({ code: 401, error: 'unauthenticated' })
    for (const body of [
      {},
      [],
      { expertKey: 1 },
      { expertKey: 'greeter', query: 'x', nope: 1 },
      { expertKey: 'greeter', query: 'x', files: [{ path: 'a' }] },
      { expertKey: 'greeter', query: 'x', maxSteps: 'many' },
    ])
      expect(await post('/expert_jobs', body)).toMatchObject({ status: 400, code: 400, error: 'input_invalid' })
    expect(await post('/expert_jobs', { expertKey: 'greeter' })).toMatchObject({ status: 400, error: 'query_missing' })
    expect(await post('/expert_jobs', { expertKey: 'nobody', query: 'x' })).toMatchObject({
      status: 404,
      error: 'expert_not_found',
    })
    expect(await post('/expert_jobs', { expertKey: 'greeter', query: 'x', applicationId: 'app_other' })).toMatchObject({
      status: 403,
    })
    for (const query of ['take=0', 'take=101', 'take=x', 'skip=-1', 'skip=1e9'])
      expect(await get(`/expert_jobs?${query}`)).toMatchObject({ code: 400, error: 'input_invalid' })
    const form = await door.fetch('/expert_jobs', {
      method: 'POST',
      body: new URLSearchParams({ expertKey: 'greeter' }),
    })
    expect(form.status).toBe(415)
    expect(await get('/expert_jobs/x/y/z')).toMatchObject({ code: 404, reason: 'There is no GET /expert_jobs/x/y/z.' })
    expect(await post('/expert_jobs', { input: {} })).toMatchObject({
      reason: 'expertKey is missing. The body has what is not known here: "input".',
    })
  })

  it('takes the idempotency key of a header', async () => {
    const create = async (query: string) => {
      const response = await door.fetch('/expert_jobs', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': 'once' },
        body: JSON.stringify({ expertKey: 'greeter', query }),
      })
      return { status: response.status, body: (await response.json()) as Answer }
    }
    const [first, again, other] = [await create('x'), await create('x'), await create('y')]
    expect(again.body).toEqual(first.body)
    expect(other).toMatchObject({ status: 422, body: { error: 'idempotency_key_reused' } })
  })
})

describe('/openapi.json', () => {
  it('describes every route that answers, with the bodies that they parse', async () => {
    expect((await door.fetch('/openapi.json', {}, null)).status).toBe(401)
    const api = (await (await door.fetch('/openapi.json')).json()) as {
      openapi: string
      paths: Record<
        string,
        Record<string, { requestBody?: { content: Record<string, { schema: { properties: object } }> } }>
      >
    }
    expect(api.openapi).toBe('3.1.0')
    const create = api.paths['/expert_jobs']?.['post']?.requestBody?.content['application/json']
    expect(Object.keys(create?.schema.properties ?? {})).toEqual(
      expect.arrayContaining(['expertKey', 'query', 'files']),
    )
    const jobId = await door.createJob('x', [{ path: 'a.txt', text: 'a' }])
    const attempt = await door.claim()
    await door.takeSteps(attempt, 1)
    await door.finish(attempt)
    const checkpoints = await get(`/expert_jobs/${jobId}/checkpoints`)
    for (const [path, methods] of Object.entries(api.paths)) {
      const real = path
        .replace('{id}', jobId)
        .replace('{itemId}', Buffer.from('input/a.txt').toString('base64url'))
        .replace('{checkpointId}', checkpoints.data.checkpoints[0]?.id ?? '')
      if ('get' in methods) expect([path, (await door.fetch(real)).status]).toEqual([path, 200])
    }
  })
})

describe('a status', () => {
  it('has one name for REST clients, whatever the reason', () => {
    const finished = { status: 'finished' } as const
    expect(printStatus({ status: 'queued', outcome: null, reason: null })).toBe('queued')
    expect(printStatus({ status: 'running', outcome: null, reason: 'anything' })).toBe('processing')
    expect(printStatus({ status: 'waiting', outcome: null, reason: null })).toBe('requestInteractiveToolResult')
    expect(printStatus({ ...finished, outcome: 'completed', reason: 'completed' })).toBe('completed')
    expect(printStatus({ ...finished, outcome: 'failed', reason: 'step_limit' })).toBe('exceededMaxSteps')
    expect(printStatus({ ...finished, outcome: 'failed', reason: 'model_error' })).toBe('failed')
    expect(printStatus({ ...finished, outcome: 'canceled', reason: 'step_limit' })).toBe('canceled')
  })
})
