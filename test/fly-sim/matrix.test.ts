/** The simulator's table of states and actions, cell by cell, as requests and their answers. */
import { describe, expect, it } from 'vitest'
import { MATRIX, type Condition, type MatrixAction } from '../fake/fly-sim/matrix.ts'
import { CONFIG, SimDrive } from './given.ts'

const never = { fixed: 1e9 }
const soon = { fixed: 10 }
/** What keeps a machine in each state, and how it came there. */
const ways: Readonly<Record<Condition, { readonly timing?: object; readonly go: (sim: SimDrive) => string }>> = {
  pulling: { timing: { pullMs: never, cachedPullMs: never }, go: (sim) => sim.create().id },
  created: { go: (sim) => sim.create('one', { skip_launch: true }).id },
  starting: { timing: { coldBootMs: never }, go: (sim) => settled(sim, sim.create().id) },
  started: { go: (sim) => started(sim) },
  suspending: { timing: { suspendBaseMs: 1e9 }, go: (sim) => after(sim, 'suspend') },
  suspended: { go: (sim) => settled(sim, after(sim, 'suspend')) },
  stopping: { timing: { stopMs: never }, go: (sim) => after(sim, 'stop', {}) },
  active: { timing: { activeMs: never }, go: (sim) => settled(sim, after(sim, 'stop', {})) },
  stopped: { go: (sim) => settled(sim, after(sim, 'stop', {})) },
  failed: {
    go: (sim) => {
      sim.tell({ type: 'faults', rules: [{ fault: 'F20', as: 'boot', times: 1 }], replace: false })
      return settled(sim, sim.create().id)
    },
  },
  replacing: { timing: { replaceMs: never }, go: (sim) => after(sim, '', { config: CONFIG }) },
  destroying: {
    timing: { destroyMs: never },
    go: (sim) => {
      const id = started(sim)
      sim.call('DELETE', `/apps/pool/machines/${id}?force=true`)
      return id
    },
  },
}
function settled(sim: SimDrive, id: string): string {
  sim.advance(1_000)
  return id
}
function started(sim: SimDrive): string {
  return settled(sim, sim.create().id)
}
function after(sim: SimDrive, verb: string, body?: object): string {
  const id = started(sim)
  const answer = sim.call('POST', `/apps/pool/machines/${id}${verb === '' ? '' : `/${verb}`}`, body)
  expect(answer.status).toBe(200)
  sim.advance(0)
  return id
}

const requests: Readonly<Record<MatrixAction, readonly [method: string, path: string, body?: object]>> = {
  start: ['POST', '/start'],
  stop: ['POST', '/stop', {}],
  suspend: ['POST', '/suspend'],
  update: ['POST', '', { config: CONFIG }],
  delete: ['DELETE', ''],
  force: ['DELETE', '?force=true'],
  exec: ['POST', '/exec', { command: ['true'] }],
}
const conditions = Object.keys(ways) as readonly Condition[]
const actions = Object.keys(requests) as readonly MatrixAction[]
const cells = conditions.flatMap((condition) => actions.map((action) => [condition, action] as const))
/** The text that a machine in that state answers, as users of Fly have seen it. */
const seen: Readonly<Record<string, string>> = {
  'pulling start': "failed_precondition: unable to start machine from current state: 'created'",
  'starting start': 'failed_precondition: machine still attempting to start',
  'started delete': 'failed_precondition: unable to destroy machine, not currently stopped',
  'stopping start': "failed_precondition: unable to start machine from current state: 'stopping'",
  'active start': 'failed_precondition: machine still active, refusing to start',
  'replacing start': 'failed_precondition: machine getting replaced, refusing to start',
}
const refused = [
  'pulling: start suspend exec',
  'created: suspend exec',
  'starting: start suspend update delete exec',
  'started: delete',
  'suspending: update delete exec',
  'suspended: exec',
  'stopping: start suspend update delete exec',
  'active: start suspend exec',
  'stopped: suspend exec',
  'failed: suspend exec',
  'replacing: start stop suspend update delete exec',
  'destroying: start suspend update exec',
]

describe('a machine', () => {
  it.each(cells)('that is %s answers %s as the table says, and goes where it says (FS5)', (condition, action) => {
    const way = ways[condition]
    const slow = { suspendBaseMs: 10, coldBootMs: soon, resumeMs: soon, stopMs: soon, destroyMs: soon, replaceMs: soon }
    const sim = new SimDrive({ timing: { ...slow, ...way.timing } })
    if (condition === 'failed') sim.world.rules.length = 0
    const id = way.go(sim)
    const before = sim.held(id)
    expect(before.state).toBe({ pulling: 'created', active: 'stopped' }[condition as string] ?? condition)
    const [state, turn] = [before.state, before.turn]
    const [method, path, body] = requests[action]
    const answer = sim.answers.get(sim.send(method, `/apps/pool/machines/${id}${path}`, body))
    const cell = MATRIX[condition][action]
    expect(answer?.status).toBe(cell.status)
    if (cell.status === 200) {
      expect(sim.held(id).state).toBe(cell.to === 'same' ? state : cell.to)
    } else {
      expect(answer?.body).toEqual({ error: cell.error })
      expect(sim.held(id).turn).toBe(turn)
      const text = seen[`${condition} ${action}`]
      if (text !== undefined) expect(cell.error).toBe(text)
    }
  })

  it('refuses exactly what the documentation and its users say that it refuses', () => {
    const found = conditions.map((condition) => {
      const no = actions.filter((action) => MATRIX[condition][action].status !== 200)
      return `${condition}: ${no.join(' ')}`
    })
    expect(found).toEqual(refused)
  })

  it.each(actions)('that was destroyed answers %s with 404', (action) => {
    const sim = new SimDrive()
    const { id } = sim.create()
    sim.call('DELETE', `/apps/pool/machines/${id}?force=true`)
    sim.settle()
    const [method, path, body] = requests[action]
    expect(sim.call(method, `/apps/pool/machines/${id}${path}`, body)).toMatchObject({ status: 404 })
    expect(sim.call('GET', `/apps/pool/machines/${id}`)).toMatchObject({ status: 404 })
  })
})
