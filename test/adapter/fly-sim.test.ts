/** The simulator of the Machines API over HTTP: what a client meets, and what drives it from outside. */
import { afterEach, describe, expect, it } from 'vitest'
import { request } from 'undici'
import { openFlySim, type FlySim, type FlySimOptions } from '../fake/fly-sim/fly-sim.ts'

const CONFIG = { image: 'registry.fly.io/senmon:1', guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 } }
const open: FlySim[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((sim) => sim.close()))
})

async function simulate(options: Partial<FlySimOptions> = {}): Promise<FlySim> {
  const sim = await openFlySim({ seed: 1, profile: 'zero', clock: { type: 'virtual' }, ...options })
  open.push(sim)
  await sim.call('POST', '/v1/apps', { app_name: 'pool', org_slug: 'personal' })
  return sim
}

async function send(
  sim: FlySim,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: unknown,
  token: string = sim.tokens.org,
): Promise<{ status: number; body: unknown }> {
  const text = body === undefined ? null : JSON.stringify(body)
  const headers = { authorization: `Bearer ${token}` }
  const answer = await request(`${sim.url}${path}`, { method, headers, body: text })
  const said = await answer.body.text()
  return { status: answer.statusCode, body: said === '' ? null : JSON.parse(said) }
}

async function create(sim: FlySim, name = 'one'): Promise<string> {
  const answer = await send(sim, 'POST', '/v1/apps/pool/machines', { name, config: CONFIG })
  expect(answer).toMatchObject({ status: 200, body: { state: 'created' } })
  // The simulator's own answer.
  return (answer.body as { id: string }).id
}

describe('the simulator over HTTP', () => {
  it('takes a machine through its life', async () => {
    const sim = await simulate()
    const id = await create(sim)
    const path = `/v1/apps/pool/machines/${id}`
    expect(await send(sim, 'GET', `${path}/wait?state=started&timeout=1`)).toMatchObject({ status: 200 })
    expect(await send(sim, 'POST', `${path}/suspend`)).toEqual({ status: 200, body: { ok: true } })
    expect(await send(sim, 'GET', path)).toMatchObject({ body: { state: 'suspended' } })
    expect(await send(sim, 'POST', `${path}/start`)).toMatchObject({ body: { previous_state: 'suspended' } })
    await send(sim, 'POST', `${path}/stop`, {})
    await sim.advance(0)
    expect(await send(sim, 'GET', '/v1/apps/pool/machines')).toMatchObject({ body: [{ id, state: 'stopped' }] })
    expect(await send(sim, 'DELETE', path)).toEqual({ status: 200, body: { ok: true } })
    expect(await send(sim, 'GET', path)).toMatchObject({ status: 404 })
  })

  it('knows no caller without a token, and lets a deploy token do what its app needs alone', async () => {
    const sim = await simulate()
    expect(await send(sim, 'GET', '/v1/apps/pool', undefined, 'wrong')).toEqual({
      status: 401,
      body: { error: 'Authenticate: token validation error' },
    })
    const token = sim.deployToken('pool')
    expect(await send(sim, 'GET', '/v1/apps/pool/machines', undefined, token)).toMatchObject({ status: 200 })
    expect(await send(sim, 'GET', '/v1/apps/other/machines', undefined, token)).toMatchObject({ status: 403 })
  })

  it('resets a connection where a fault says so', async () => {
    const sim = await simulate()
    sim.faults([{ fault: 'F2', commit: true, match: { action: 'create' }, times: 1 }])
    await expect(create(sim)).rejects.toThrow(/closed|ECONNRESET|other side/)
    expect(sim.machines()).toHaveLength(1)
  })

  it('is driven through /__sim/', async () => {
    const sim = await simulate({ timing: { coldBootMs: { fixed: 1_000 } } })
    const id = await create(sim)
    const wait = send(sim, 'GET', `/v1/apps/pool/machines/${id}/wait?timeout=10`)
    expect(await send(sim, 'GET', '/__sim/machines')).toMatchObject({ body: [{ id, state: 'starting' }] })
    expect(await send(sim, 'POST', '/__sim/clock/advance', { ms: 1_000 })).toMatchObject({ status: 200 })
    expect(await wait).toMatchObject({ status: 200, body: { state: 'started' } })
    expect(await send(sim, 'POST', '/__sim/faults', [{ fault: 'F3' }])).toMatchObject({ status: 200 })
    expect(await send(sim, 'POST', `/v1/apps/pool/machines/${id}/suspend`)).toMatchObject({ status: 429 })
    expect(await send(sim, 'DELETE', '/__sim/faults')).toMatchObject({ status: 200 })
    await send(sim, 'POST', '/__sim/regions/iad/capacity', { memory_mb: 256 })
    expect(await send(sim, 'POST', `/__sim/machines/${id}/oom`)).toMatchObject({ status: 200 })
    const log = await send(sim, 'GET', '/__sim/requests')
    expect(log.body).toMatchObject([
      { action: 'app_create', status: 201 },
      { action: 'create', status: 200 },
      { action: 'wait', status: 200 },
      { action: 'suspend', status: 429 },
    ])
    expect(await send(sim, 'POST', '/__sim/faults', [{ fault: 'F99' }])).toMatchObject({ status: 400 })
    expect(await send(sim, 'POST', '/__sim/reset', {})).toMatchObject({ status: 200 })
    expect(sim.machines()).toEqual([])
  })
})
