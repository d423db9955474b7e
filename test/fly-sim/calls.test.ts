/** What the simulated API says: waits, leases, room, limits, shapes, word for word. */
import { describe, expect, it } from 'vitest'
import { CONFIG, SimDrive } from './given.ts'

const slow = { suspendBaseMs: 1_000, coldBootMs: { fixed: 1_000 }, stopMs: { fixed: 300 } }
const path = (id: string, rest = ''): string => `/apps/pool/machines/${id}${rest}`
function started(sim: SimDrive, name?: string): string {
  const { id } = sim.create(name)
  sim.advance(2_000)
  expect(sim.state(id)).toBe('started')
  return id
}
const memory = (memory_mb: number) => ({ config: { ...CONFIG, guest: { ...CONFIG.guest, memory_mb } } })

describe('a create', () => {
  it('answers as it was recorded', () => {
    const sim = new SimDrive()
    const config = {
      init: { exec: ['/bin/sleep', 'inf'] },
      image: 'registry-1.docker.io/library/ubuntu:latest',
      auto_destroy: true,
      restart: { policy: 'always' },
      guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
      dns: {},
    }
    const { status, body } = sim.call('POST', '/apps/pool/machines', {
      name: 'aged-thunder-7371',
      region: 'ord',
      config,
    })
    expect(status).toBe(200)
    expect(body).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f]{14}$/),
      name: 'aged-thunder-7371',
      state: 'created',
      region: 'ord',
      image_ref: {
        registry: 'registry-1.docker.io',
        repository: 'library/ubuntu',
        tag: 'latest',
        digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      },
      instance_id: expect.stringMatching(/^[0-9A-HJKMNP-TV-Z]{26}$/),
      private_ip: expect.stringMatching(/^fdaa:/),
      created_at: '2023-11-14T22:13:20Z',
      updated_at: '2023-11-14T22:13:20Z',
      config,
      events: [{ type: 'launch', status: 'created', source: 'user', timestamp: 1_700_000_000_000 }],
    })
  })

  it.each([
    ['no image', { config: { ...CONFIG, image: '' } }, 422],
    ['memory that is no multiple of 256', memory(300), 422],
    ['more memory than a shared CPU may have', memory(4_096), 422],
    ['two mounts', { config: { ...CONFIG, mounts: [{}, {}] } }, 422],
    ['a region that is not there', { config: CONFIG, region: 'xyz' }, 400],
    ['no config', {}, 400],
  ])('is refused for %s (FS5)', (_, body, status) => {
    const sim = new SimDrive()
    expect(sim.call('POST', '/apps/pool/machines', { name: 'one', ...body }).status).toBe(status)
    expect(sim.world.machines.size).toBe(0)
  })

  it('is refused for a name that a machine has, and taken again when it is destroyed', () => {
    const sim = new SimDrive()
    const { id } = sim.create('one')
    expect(sim.call('POST', '/apps/pool/machines', { name: 'one', config: CONFIG })).toMatchObject({
      status: 422,
      body: { error: `unique machine name violation, machine ID ${id} already exists with name "one"` },
    })
    sim.call('DELETE', path(id, '?force=true'))
    sim.settle()
    expect(sim.create('one').id).not.toBe(id)
  })

  it('is not read before word of it has come round, nor are its changes', () => {
    const sim = new SimDrive({ timing: { readLagMs: { fixed: 150 }, ...slow } })
    const { id } = sim.create()
    expect(sim.call('GET', path(id)).status).toBe(404)
    expect(sim.call('GET', '/apps/pool/machines').body).toEqual([])
    sim.advance(150)
    expect(sim.call('GET', path(id)).body).toMatchObject({ state: 'starting' })
    sim.advance(850)
    expect([sim.state(id), sim.call('GET', path(id)).body]).toMatchObject(['started', { state: 'starting' }])
  })

  it('with skip_launch stays created, holds no room, and boots clean at its first start (FS4)', () => {
    const sim = new SimDrive({ regions: { iad: [512] } })
    const { id } = sim.create('one', { skip_launch: true })
    started(sim, 'two')
    expect(sim.act(id, 'start')).toMatchObject({ status: 409 })
    sim.call('DELETE', path([...sim.world.machines.keys()].at(-1) ?? '', '?force=true'))
    expect(sim.act(id, 'start')).toMatchObject({ status: 200, body: { previous_state: 'created' } })
    expect(sim.effects.at(-1)).toMatchObject({ type: 'boot', clean: true })
  })
})

describe('a list', () => {
  it('filters by metadata, state and region, and without configs when a summary is asked for', () => {
    const sim = new SimDrive()
    const { id } = sim.create('one', { config: { ...CONFIG, metadata: { launch_id: 'l1' } } })
    sim.create('two', { region: 'ord' })
    const find = (query: string) => sim.call('GET', `/apps/pool/machines?${query}`).body
    expect(find('metadata.launch_id=l1')).toMatchObject([{ id }])
    expect(find('region=ord')).toMatchObject([{ name: 'two' }])
    expect(find('state=suspended,stopped')).toEqual([])
    expect(find('summary=true')).toSatisfy(
      (all: object[]) => all.length === 2 && all.every((one) => !('config' in one)),
    )
    expect(sim.call('GET', '/orgs/personal/machines?limit=1').body).toMatchObject({ next_cursor: /./ })
  })
})

describe('a wait', () => {
  it('is answered when the machine comes to the state, with the event that brought it', () => {
    const sim = new SimDrive({ timing: slow })
    const { id } = sim.create()
    const wait = sim.send('GET', path(id, '/wait?state=started&timeout=10'))
    sim.advance(999)
    expect(sim.answers.has(wait)).toBe(false)
    sim.advance(1)
    expect(sim.answers.get(wait)).toMatchObject({ status: 200, body: { ok: true, state: 'started' } })
  })

  it('gives up with the words that users have seen', () => {
    const sim = new SimDrive()
    const id = started(sim)
    const { instance_id: version } = sim.call('GET', path(id)).body as { instance_id: string }
    const began = sim.now
    expect(sim.call('GET', path(id, `/wait?state=stopped&timeout=5&instance_id=${version}`))).toMatchObject({
      status: 408,
      body: { error: 'deadline_exceeded: machine failed to reach desired state, stopped, currently started' },
    })
    expect(sim.now - began).toBe(5_000)
  })

  it('for stopped names a version, and lasts a minute at most', () => {
    const sim = new SimDrive()
    const id = started(sim)
    expect(sim.call('GET', path(id, '/wait?state=stopped&timeout=5')).status).toBe(400)
    expect(sim.call('GET', path(id, '/wait?state=suspended&timeout=61')).status).toBe(400)
    const version = sim.held(id).instanceId
    sim.call('POST', path(id), { config: CONFIG })
    expect(sim.call('GET', path(id, `/wait?state=stopped&timeout=5&instance_id=${version}`)).body).toEqual({
      error: 'deadline_exceeded: machine failed to reach desired state, stopped, currently replaced',
    })
  })

  it('may be told of the state that the machine just left, unless it says from which event on', () => {
    const sim = new SimDrive({ timing: { ...slow, waitRaceMs: 100 } })
    const id = started(sim)
    const event = sim.held(id).events[0]?.id
    sim.act(id, 'suspend')
    expect(sim.call('GET', path(id, '/wait?state=started&timeout=1')).status).toBe(200)
    expect(sim.call('GET', path(id, `/wait?state=started&timeout=1&from_event_id=${event}`)).status).toBe(408)
    expect(sim.call('GET', path(id, `/wait?state=suspending&timeout=1&from_event_id=${event}`)).status).toBe(200)
  })
})

describe('a lease', () => {
  it('lets only whoever shows its nonce change the machine, until it has run out (FS6)', () => {
    const sim = new SimDrive()
    const id = started(sim)
    const taken = sim.call('POST', path(id, '/lease?ttl=30'))
    expect(taken).toMatchObject({ status: 201, body: { status: 'success', data: { expires_at: 1_700_000_032 } } })
    const { nonce } = (taken.body as { data: { nonce: string } }).data
    expect(nonce).toMatch(/^[0-9a-f]{12}$/)
    const refused = sim.act(id, 'suspend')
    expect(refused.status).toBe(409)
    expect(JSON.stringify(refused.body)).toMatch(
      new RegExp(
        `machine ID ${id} lease currently held by [0-9a-f-]{36}@tokens.fly.io, expires at 2023-11-14T22:13:52Z`,
      ),
    )
    for (const verb of ['start', 'stop', 'cordon', 'metadata/k'])
      expect(sim.act(id, verb, { value: 'v' }).status).toBe(409)
    expect(sim.call('DELETE', path(id, '?force=true')).status).toBe(409)
    expect(sim.call('POST', path(id), { config: CONFIG }).status).toBe(409)
    expect(sim.act(id, 'exec', { command: ['true'] }).status).toBe(200)
    expect(sim.act(id, 'suspend', undefined, { nonce }).status).toBe(200)
    expect(sim.call('POST', path(id, '/lease?ttl=60'), undefined, { nonce })).toMatchObject({
      body: { data: { nonce } },
    })
    sim.advance(60_000)
    expect(sim.act(id, 'start').status).toBe(200)
    expect(sim.call('GET', path(id, '/lease'))).toMatchObject({ status: 404, body: { error: 'lease not found' } })
  })

  it('is held from the start when the create asks for it, and ends when it is given back', () => {
    const sim = new SimDrive()
    const { id, nonce } = sim.create('one', { lease_ttl: 60 })
    expect(sim.act(id, 'stop', {}).status).toBe(409)
    expect(sim.call('DELETE', path(id, '/lease'), undefined, { nonce: nonce ?? '' })).toEqual(
      expect.objectContaining({ status: 200, body: { status: 'success', data: { ok: true } } }),
    )
    expect(sim.act(id, 'stop', {}).status).toBe(200)
  })
})

describe('metadata', () => {
  it('is changed without a new version, and compared with one on request', () => {
    const sim = new SimDrive()
    const id = started(sim)
    const version = sim.held(id).instanceId
    expect(sim.act(id, 'metadata/cfg', { value: '1' }).status).toBe(204)
    expect(
      sim.call('PATCH', path(id, '/metadata'), { metadata: { a: 'b', cfg: null }, machine_version: 'old' }).status,
    ).toBe(412)
    expect(
      sim.call('PATCH', path(id, '/metadata'), { metadata: { a: 'b', cfg: null }, machine_version: version }).status,
    ).toBe(200)
    expect(sim.call('GET', path(id, '/metadata')).body).toEqual({ a: 'b' })
    expect(sim.held(id)).toMatchObject({ instanceId: version, state: 'started' })
  })
})

describe('a stop', () => {
  it('takes an object', () => {
    const sim = new SimDrive()
    const id = started(sim)
    expect(sim.act(id, 'stop', [])).toMatchObject({
      status: 400,
      body: { error: 'json: cannot unmarshal array into Go value of type main.stopRequest' },
    })
  })

  it('is kept until a start has settled', () => {
    const sim = new SimDrive({ timing: slow })
    const { id } = sim.create()
    expect(sim.act(id, 'stop', {}).status).toBe(200)
    expect(sim.state(id)).toBe('starting')
    sim.advance(2_000)
    expect(sim.state(id)).toBe('stopped')
  })

  it('kills a guest that has not ended by its timeout', () => {
    const sim = new SimDrive()
    const id = started(sim)
    sim.mute = true
    sim.act(id, 'stop', { timeout: '3s' })
    expect(sim.effects.at(-1)).toMatchObject({ type: 'signal', signal: 'SIGTERM' })
    sim.advance(2_999)
    expect(sim.effects.at(-1)).toMatchObject({ type: 'signal' })
    sim.advance(1)
    expect(sim.effects.at(-1)).toMatchObject({ type: 'kill' })
  })
})

describe('a suspended machine', () => {
  it('goes on as the same boot, and boots anew but with its files when its memory is lost (FS4)', () => {
    const sim = new SimDrive()
    const id = started(sim)
    sim.act(id, 'suspend')
    sim.act(id, 'start')
    expect([sim.held(id).boot, sim.effects.at(-2)]).toMatchObject([1, { type: 'resume' }])
    sim.act(id, 'suspend')
    sim.befall(id, { as: 'lose' })
    sim.act(id, 'start')
    expect(sim.effects.at(-1)).toMatchObject({ type: 'boot', boot: 2, clean: false })
    sim.act(id, 'stop', {})
    sim.advance(0)
    sim.act(id, 'start')
    expect(sim.effects.at(-1)).toMatchObject({ type: 'boot', boot: 3, clean: true })
  })

  it('is claimable while it is being suspended: a start cancels that', () => {
    const sim = new SimDrive({ timing: { suspendBaseMs: 1_000 } })
    const id = started(sim)
    sim.act(id, 'suspend')
    sim.advance(600)
    expect(sim.act(id, 'start')).toMatchObject({ status: 200, body: { previous_state: 'suspending' } })
    expect([sim.state(id), sim.held(id).boot]).toEqual(['started', 1])
    sim.advance(10_000)
    expect(sim.state(id)).toBe('started')
  })

  it.each([
    ['a schedule', { schedule: 'hourly' }],
    ['swap', { init: { swap_size_mb: 512 } }],
    ['a GPU', { guest: { cpu_kind: 'performance', cpus: 1, memory_mb: 2_048, gpu_kind: 'a10' } }],
    ['more than 2 GiB', { guest: { cpu_kind: 'performance', cpus: 1, memory_mb: 4_096 } }],
  ])('is none with %s', (_, config) => {
    const sim = new SimDrive()
    const { id } = sim.create('one', { config: { ...CONFIG, ...config } })
    sim.settle()
    expect([sim.act(id, 'suspend').status, sim.state(id)]).toEqual([412, 'started'])
  })
})

describe('an end of the main process', () => {
  it.each([
    ['no', 1, 'stopped'],
    ['on-failure', 0, 'stopped'],
    ['on-failure', 1, 'starting'],
    ['always', 0, 'starting'],
  ])('under the policy %s with code %i leads to %s', (policy, code, state) => {
    const sim = new SimDrive({ timing: slow })
    const { id } = sim.create('one', { config: { ...CONFIG, restart: { policy } } })
    sim.advance(2_000)
    sim.tell({ type: 'exited', machineId: id, boot: 1, exit: { code, signal: 0, oom: false } })
    expect(sim.state(id)).toBe(state)
    expect(sim.held(id).events[0]).toMatchObject({
      type: 'exit',
      request: { exit_event: { exit_code: code, requested_stop: false, restarting: state === 'starting' } },
    })
  })

  it('of an earlier boot is no news', () => {
    const sim = new SimDrive()
    const id = started(sim)
    sim.act(id, 'stop', {})
    sim.advance(0)
    sim.act(id, 'start')
    sim.tell({ type: 'exited', machineId: id, boot: 1, exit: { code: 0, signal: 0, oom: false } })
    expect(sim.state(id)).toBe('started')
  })

  it('destroys a machine that is to be', () => {
    const sim = new SimDrive()
    const { id } = sim.create('one', { config: { ...CONFIG, auto_destroy: true } })
    sim.settle()
    sim.befall(id, { as: 'exit' })
    sim.settle()
    expect(sim.state(id)).toBe('gone')
  })
})

describe('room', () => {
  it('is held while suspended, given back when stopped, and then not promised (FS3)', () => {
    const sim = new SimDrive({ regions: { iad: [1_024] } })
    const [one] = [started(sim, 'one'), started(sim, 'two')]
    sim.act(one, 'suspend')
    const third = { name: 'three', region: 'iad', config: CONFIG }
    const full = sim.call('POST', '/apps/pool/machines', third)
    expect(full).toMatchObject({
      status: 409,
      body: {
        error: 'aborted: could not reserve resource for machine: insufficient memory available to fulfill request',
      },
    })
    expect(sim.call('POST', '/platform/placements', { compute: { memory_mb: 512 }, region: 'iad' }).status).toBe(503)
    sim.act(one, 'stop', {})
    expect(sim.call('POST', '/platform/placements', { compute: { memory_mb: 512 }, region: 'iad' }).body).toMatchObject(
      {
        Regions: [{ Region: 'iad', Count: 1 }],
      },
    )
    expect(sim.call('POST', '/apps/pool/machines', third).status).toBe(200)
    expect(sim.act(one, 'start').status).toBe(409)
  })

  it('on another host moves the machine, with another address', () => {
    const sim = new SimDrive({ regions: { iad: [512, 512] } })
    const one = started(sim, 'one')
    const { host, privateIp } = sim.held(one)
    sim.act(one, 'stop', {})
    sim.advance(0)
    sim.tell({ type: 'capacity', region: 'iad', hosts: host === 0 ? [0, 512] : [512, 0] })
    expect(sim.act(one, 'start').body).toMatchObject({ migrated: true, previous_state: 'stopped' })
    expect(sim.held(one).privateIp).not.toBe(privateIp)
  })

  it('is what the quota of the organization leaves, and a list of regions is tried in order', () => {
    const sim = new SimDrive()
    sim.tell({ type: 'capacity', region: 'iad', quotaMb: 256 })
    expect(sim.call('POST', '/apps/pool/machines', { name: 'one', region: 'iad', config: CONFIG })).toMatchObject({
      status: 403,
      body: {
        error:
          'organization "personal" is using 0 MB of memory in iad which is over the allowed quota. please consider other regions',
      },
    })
    expect(sim.create('one', { region: 'iad,ord' })).toMatchObject({ region: 'ord' })
  })
})

describe('limits', () => {
  it('are one a second and three at once for an action on a machine, and five and ten for reading it', () => {
    const sim = new SimDrive({ limits: 1 })
    const id = started(sim)
    const stops = () => sim.act(id, 'cordon').status
    expect([stops(), stops(), stops(), stops()]).toEqual([200, 200, 200, 429])
    expect(sim.act(id, 'cordon').body).toEqual({ error: 'rate limit exceeded' })
    sim.advance(1_000)
    expect([stops(), stops()]).toEqual([200, 429])
    const reads = Array.from({ length: 12 }, () => sim.call('GET', path(id)).status)
    expect(reads.filter((status) => status === 200)).toHaveLength(10)
    expect(sim.act(id, 'uncordon').status).toBe(200)
  })

  it('of creates are those of the app', () => {
    const sim = new SimDrive({ limits: 1, retryAfter: true })
    for (const name of ['a', 'b', 'c']) sim.create(name)
    const answer = sim.call('POST', '/apps/pool/machines', { name: 'd', config: CONFIG })
    expect(answer).toMatchObject({ status: 429, headers: { 'retry-after': '1' } })
  })
})

describe('a caller', () => {
  const scopes = {
    tokens: {
      own: { type: 'app', app: 'pool' },
      runs: { type: 'exec', app: 'pool', commands: ['true now'] },
      reads: { type: 'read' },
    },
  } as const

  it('may do what its token allows, and a machine what is about itself', () => {
    const sim = new SimDrive(scopes)
    const id = started(sim)
    const asks = (token: string, ...given: readonly [string, string, object?]) =>
      sim.call(given[0], given[1], given[2], { token }).status
    expect(asks('', 'GET', '/apps/pool')).toBe(401)
    expect(asks('own', 'POST', '/apps', { app_name: 'other', org_slug: 'personal' })).toBe(403)
    expect(asks('own', 'POST', path(id, '/cordon'))).toBe(200)
    expect(asks('reads', 'GET', path(id))).toBe(200)
    expect(asks('reads', 'POST', path(id, '/cordon'))).toBe(403)
    expect(asks('runs', 'POST', path(id, '/exec'), { command: ['true', 'now'] })).toBe(200)
    expect(asks('runs', 'POST', path(id, '/exec'), { command: ['false'] })).toBe(403)
    expect(sim.call('POST', path(id, '/suspend'), undefined, { token: '', by: id }).status).toBe(200)
    expect(sim.call('GET', '/apps/pool/machines', undefined, { token: '', by: id }).status).toBe(403)
  })
})
