/** The faults of the simulated platform: each does what it says, where and as often as it is told to. */
import { describe, expect, it } from 'vitest'
import type { FaultRule } from '../fake/fly-sim/fault.ts'
import { CONFIG, SimDrive } from './given.ts'

const path = (id: string, rest = ''): string => `/apps/pool/machines/${id}${rest}`
const BODY = { name: 'one', region: 'iad', config: CONFIG }
function given(...faults: readonly FaultRule[]): SimDrive {
  return new SimDrive({ faults })
}
function started(sim: SimDrive, name?: string): string {
  const { id } = sim.create(name)
  sim.advance(0)
  expect(sim.state(id)).toBe('started')
  return id
}

describe('a fault', () => {
  it('strikes at the nth occasion, so often, and where it is meant to', () => {
    const sim = given({ fault: 'F3', skip: 1, times: 2, match: { action: 'cordon', machine: 'one' } })
    const [one, two] = [started(sim, 'one'), started(sim, 'two')]
    const statuses = (id: string) => Array.from({ length: 5 }, () => sim.act(id, 'cordon').status)
    expect(statuses(two)).toEqual([200, 200, 200, 200, 200])
    expect(statuses(one)).toEqual([200, 429, 429, 200, 200])
  })

  it('strikes within its time, and by chance where it is left to that', () => {
    const at = 1_700_000_000_000
    const sim = given({ fault: 'F15', as: '503', match: { from: at + 1_000, until: at + 2_000 } })
    const statuses = [0, 1_000, 1_000].map((ms) => {
      sim.advance(ms)
      return sim.call('GET', '/apps/pool').status
    })
    expect(statuses).toEqual([200, 503, 200])
    const rare = given({ fault: 'F3', p: 0.2, match: { action: 'app_get' } })
    const struck = Array.from({ length: 500 }, () => rare.call('GET', '/apps/pool').status).filter((one) => one === 429)
    expect(struck.length).toBeGreaterThan(60)
    expect(struck.length).toBeLessThan(140)
  })

  it.each([
    [true, 408, 1],
    [false, 502, 0],
  ] as const)('F1: an answer to a create is lost, and the machine is there: %s', (commit, status, machines) => {
    const sim = given({ fault: 'F1', commit, status, times: 1 })
    expect(sim.call('POST', '/apps/pool/machines', BODY).status).toBe(status)
    expect(sim.world.machines.size).toBe(machines)
  })

  it.each([true, false])('F2: a connection is reset, and the call was carried out: %s', (commit) => {
    const sim = given({ fault: 'F2', commit, match: { action: 'suspend' } })
    const id = started(sim)
    expect(sim.act(id, 'suspend').status).toBe(0)
    expect(sim.state(id)).toBe(commit ? 'suspended' : 'started')
  })

  it.each([
    ['quota', 403],
    ['reserve', 409],
    ['volume', 412],
    ['no_capacity', 400],
    ['insufficient', 503],
  ] as const)('F4: there is no room, as %s', (as, status) => {
    const sim = given({ fault: 'F4', as, match: { region: 'iad' } })
    expect(sim.call('POST', '/apps/pool/machines', BODY).status).toBe(status)
    expect(sim.create('two', { region: 'ord' }).state).toBe('created')
  })

  it.each(['created', 'starting', 'suspending', 'stopping', 'replacing', 'destroying'] as const)(
    'F5: a machine stays %s, and can be destroyed unless that is it',
    (state) => {
      const sim = given()
      const id = state === 'created' || state === 'starting' ? undefined : started(sim)
      sim.tell({ type: 'faults', rules: [{ fault: 'F5', state, times: 1 }], replace: false })
      const stuck = id ?? sim.create().id
      if (state === 'suspending') sim.act(stuck, 'suspend')
      if (state === 'stopping') sim.act(stuck, 'stop', {})
      if (state === 'replacing') sim.call('POST', path(stuck), { config: CONFIG })
      if (state === 'destroying') sim.call('DELETE', path(stuck, '?force=true'))
      sim.settle()
      expect(sim.state(stuck)).toBe(state)
      sim.call('DELETE', path(stuck, '?force=true'))
      sim.settle()
      expect(sim.state(stuck)).toBe(state === 'destroying' ? 'destroying' : 'gone')
    },
  )

  it('F6: the memory of a suspended machine is lost, and not its files', () => {
    const sim = given({ fault: 'F6' })
    const id = started(sim)
    sim.act(id, 'suspend')
    sim.act(id, 'start')
    expect(sim.effects.at(-1)).toMatchObject({ type: 'boot', boot: 2, clean: false })
  })

  it('F7: a host dies, and is back or not', () => {
    const sim = given({ fault: 'F7', backAfterMs: 20_000, times: 1 })
    const { id } = sim.create()
    sim.advance(10_000)
    const read = sim.call('GET', path(id)).body
    expect(read).toMatchObject({ host_status: 'unreachable', incomplete_config: { image: CONFIG.image } })
    expect(read).not.toHaveProperty('config')
    expect(sim.act(id, 'suspend').status).toBe(408)
    sim.advance(20_000)
    expect(sim.call('GET', path(id)).body).toMatchObject({ host_status: 'ok', state: 'stopped', config: CONFIG })
  })

  it('F8: a machine is started on another host, without its memory', () => {
    const sim = given({ fault: 'F8' })
    const id = started(sim)
    const { privateIp } = sim.held(id)
    sim.act(id, 'suspend')
    expect(sim.act(id, 'start').body).toMatchObject({ migrated: true })
    expect(sim.effects.at(-1)).toMatchObject({ type: 'boot', boot: 2 })
    expect(sim.held(id).privateIp).not.toBe(privateIp)
  })

  it('F9: what is read is frozen, late, short of a machine, or shows a dead one', () => {
    const list = (sim: SimDrive) => sim.call('GET', '/apps/pool/machines').body
    const sim = given()
    const id = started(sim)
    sim.advance(10)
    sim.tell({ type: 'faults', rules: [{ fault: 'F9', as: 'frozen', match: { from: sim.now } }], replace: false })
    sim.advance(10)
    sim.act(id, 'suspend')
    expect([sim.state(id), sim.call('GET', path(id)).body]).toMatchObject(['suspended', { state: 'started' }])
    const late = given({ fault: 'F9', as: 'lag', ms: 5_000 })
    late.create()
    expect(list(late)).toEqual([])
    late.advance(5_000)
    expect(list(late)).toHaveLength(1)
    const short = given({ fault: 'F9', as: 'omit', match: { machine: 'one' } })
    short.create('one')
    short.create('two')
    expect(list(short)).toMatchObject([{ name: 'two' }])
    const haunted = given({ fault: 'F9', as: 'dead' })
    const dead = started(haunted)
    haunted.call('DELETE', path(dead, '?force=true'))
    expect(list(haunted)).toMatchObject([{ id: dead, state: 'started' }])
  })

  it('F10: a call is made twice', () => {
    const sim = given({ fault: 'F10', match: { action: 'create' } })
    expect(sim.call('POST', '/apps/pool/machines', BODY).status).toBe(422)
    expect(sim.world.machines.size).toBe(1)
  })

  it('F11: somebody else holds a lease', () => {
    const sim = given({ fault: 'F11', ttlMs: 3_000, times: 1, match: { action: 'stop' } })
    const id = started(sim)
    expect(sim.act(id, 'stop', {}).status).toBe(409)
    sim.advance(3_000)
    expect(sim.act(id, 'stop', {}).status).toBe(200)
  })

  it('F12, F13: a guest wakes with another time, or later than the API says', () => {
    const sim = given({ fault: 'F12', skewMs: -90_000 }, { fault: 'F13', unreachableMs: 2_000 })
    const id = started(sim)
    expect(sim.effects.at(-1)).toMatchObject({ type: 'boot', skewMs: -90_000 })
    sim.act(id, 'suspend')
    sim.act(id, 'start')
    expect([sim.state(id), sim.effects.at(-1)?.type]).toEqual(['started', 'freeze'])
    sim.advance(2_000)
    expect(sim.effects.at(-1)).toMatchObject({ type: 'resume', skewMs: -90_000 })
  })

  it('F15: the API fails, or says nothing for a minute', () => {
    const sim = given({ fault: 'F15', as: 'timeout', match: { action: 'create' } })
    const began = sim.now
    expect(sim.call('POST', '/apps/pool/machines', BODY).status).toBe(0)
    expect([sim.now - began, sim.world.machines.size]).toEqual([60_000, 0])
  })

  it.each([
    ['oom', { exit_code: 137, oom_killed: true, requested_stop: false }],
    ['exit', { exit_code: 0, oom_killed: false, requested_stop: false }],
  ] as const)('F16: a guest ends, as %s', (as, exit_event) => {
    const sim = given({ fault: 'F16', as, afterMs: 500 })
    const id = started(sim)
    sim.advance(500)
    expect([sim.state(id), sim.held(id).events[0]]).toMatchObject([
      'stopped',
      { type: 'exit', request: { exit_event } },
    ])
  })

  it('F16: a guest hangs, or hears no signal', () => {
    const sim = given({ fault: 'F16', as: 'hang', afterMs: 500 })
    const id = started(sim)
    sim.advance(500)
    expect([sim.state(id), sim.effects.at(-1)?.type]).toEqual(['started', 'hang'])
    const deaf = given({ fault: 'F16', as: 'deaf' })
    const other = started(deaf)
    deaf.act(other, 'stop', {})
    deaf.advance(29_999)
    expect(deaf.state(other)).toBe('stopping')
    deaf.advance(1)
    expect(deaf.state(other)).toBe('stopped')
  })

  it('F17: a start is refused for a state that the machine has left', () => {
    const sim = given({ fault: 'F17', as: 'replacing', times: 2 })
    const id = started(sim)
    sim.act(id, 'suspend')
    expect([sim.act(id, 'start').status, sim.act(id, 'start').status]).toEqual([412, 412])
    expect(sim.act(id, 'start').status).toBe(200)
  })

  it('F18: an answer has another shape', () => {
    const sim = given()
    const id = started(sim)
    const read = (as: 'truncated' | 'unknown_state' | 'extra' | 'missing') => {
      sim.tell({ type: 'faults', rules: [{ fault: 'F18', as, times: 1 }], replace: false })
      return sim.call('GET', path(id)).body
    }
    expect(read('unknown_state')).toMatchObject({ id, state: 'hibernating' })
    expect(read('extra')).toHaveProperty('flux')
    expect(read('missing')).not.toHaveProperty('events')
    expect(read('truncated')).toSatisfy((body: { events: object[] }) => body.events.length === 1)
  })

  it('F20: an image cannot be pulled, or does not boot', () => {
    const sim = given({ fault: 'F20', as: 'pull', times: 1 })
    const { id } = sim.create()
    sim.settle()
    expect(sim.state(id)).toBe('gone')
    const unbootable = given({ fault: 'F20', as: 'boot', times: 1 })
    const other = unbootable.create().id
    unbootable.advance(0)
    expect(unbootable.state(other)).toBe('failed')
    expect(unbootable.act(other, 'start').status).toBe(200)
  })
})
