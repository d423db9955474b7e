/** A machine of the pool, as a pure decider: whatever is asked of it, in whatever order. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import {
  CLAIMABLE,
  DEADLINES_MS,
  isClean,
  orderMachine,
  resumeOf,
  stepMachine,
  type MachineCommand,
  type Owner,
  type PooledMachine,
} from '../../src/pool/machine.ts'

const id = makeId('mch', 0, new Uint8Array(16))
const order = orderMachine({ id, pool: 'p', place: 'here', generation: 'g', now: 0 }, null)
const jobs = [1, 2, 3].map((n) => makeId('job', n, new Uint8Array(16)))

const owner = fc
  .record({ jobId: fc.constantFrom(...jobs), fence: fc.integer({ min: 1, max: 3 }) })
  .map((one) => ({ ...one, linesUrl: null }))
const command: fc.Arbitrary<MachineCommand> = fc
  .oneof(
    { weight: 3, arbitrary: fc.record({ type: fc.constant('created' as const), providerId: fc.constant('p') }) },
    { weight: 4, arbitrary: fc.record({ type: fc.constant('up' as const), bootId: fc.constantFrom('b1', 'b2') }) },
    { weight: 4, arbitrary: fc.record({ type: fc.constant('claim' as const), owner, deadline: fc.constant(9) }) },
    {
      weight: 4,
      arbitrary: fc.record({ type: fc.constant('hold' as const), owner, bootId: fc.constantFrom('b1', 'b2') }),
    },
    { weight: 3, arbitrary: fc.record({ type: fc.constant('release' as const), cleansByStop: fc.boolean() }) },
    {
      weight: 10,
      arbitrary: fc.record({
        type: fc
          .constantFrom('suspend', 'suspended', 'stop', 'stopped', 'boot', 'started')
          .map((type) => type as 'suspend'),
      }),
    },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('gone' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        type: fc.constantFrom('quarantine', 'retire').map((type) => type as 'retire'),
        fault: fc.constant('f'),
      }),
    },
  )
  .map((one) => ({ ...one, now: 1 }))

/** Every step that the commands lead to, with the machine before it. */
function steps(commands: readonly MachineCommand[]) {
  let machine: PooledMachine = order
  return commands.flatMap((one) => {
    const before = machine
    const step = stepMachine(before, one)
    if (step === undefined) return []
    machine = step.next
    return [{ before, command: one, ...step }]
  })
}
const holds = (check: (step: ReturnType<typeof steps>[number]) => void) =>
  fc.assert(
    fc.property(fc.array(command, { maxLength: 40 }), (commands) => steps(commands).forEach(check)),
    { numRuns: 1_000 },
  )

describe('a machine of the pool', () => {
  it('is taken in the order in which machines serve: one that must boot before one that must be made', () => {
    expect(CLAIMABLE).toEqual(['hot', 'ready', 'suspending', 'booting', 'reserve', 'creating'])
  })

  it('has an owner exactly while it is waking or busy (M1)', () => {
    holds(({ next }) => expect(next.owner !== null).toBe(next.state === 'waking' || next.state === 'busy'))
  })

  it('is claimed only while it is clean, and becomes clean by a stop alone (M2)', () => {
    holds(({ before, command: { type }, next }) => {
      if (type === 'claim') expect(isClean(before)).toBe(true)
      if (CLAIMABLE.includes(next.state)) expect(isClean(next)).toBe(true)
      if (next.boots > before.boots) expect([before.state, type]).toEqual(['stopping', 'stopped'])
      expect(next.tainted).toBeGreaterThanOrEqual(before.tainted)
      if (next.state === 'busy') expect(isClean(next)).toBe(false)
    })
  })

  it('is moved, while waking or busy, by nothing but its attempt, its end and a fault (M3)', () => {
    holds(({ before, command: { type }, next }) => {
      if (before.state !== 'waking' && before.state !== 'busy') return
      if (next.state !== before.state) expect(['hold', 'release', 'gone', 'retire', 'quarantine']).toContain(type)
      else expect(next.owner).toEqual(before.owner)
    })
  })

  it('is held by the attempt that claimed it, and no other (M3)', () => {
    holds(({ before, command: one }) => {
      if (one.type === 'hold') expect(before.owner).toMatchObject({ jobId: one.owner.jobId, fence: one.owner.fence })
    })
  })

  it('stays gone, and once retiring only goes (M4)', () => {
    holds(({ before, next }) => {
      expect(before.state).not.toBe('gone')
      if (before.state === 'retiring') expect(next.state).toBe('gone')
    })
  })

  it('has a deadline exactly in what must pass (M5)', () => {
    holds(({ next }) => expect(next.deadline !== null).toBe(DEADLINES_MS[next.state] !== undefined))
  })

  it('is destroyed when it fails twice without a job in between (M6)', () => {
    holds(({ before, command: { type }, next }) => {
      if (type === 'quarantine') expect(next.state).toBe(before.fault === null ? 'quarantined' : 'retiring')
      if (type === 'hold') expect(next.fault).toBeNull()
    })
    const fail = { type: 'quarantine', fault: 'late', now: 1 } as const
    const serve = (owner: Owner): readonly MachineCommand[] => [
      { type: 'claim', owner, deadline: 9, now: 1 },
      { type: 'hold', owner, bootId: 'b', now: 1 },
      { type: 'release', cleansByStop: true, now: 1 },
    ]
    const stopped = { type: 'stopped', now: 1 } as const
    const job = { jobId: makeId('job', 1, new Uint8Array(16)), fence: 1, linesUrl: null }
    const states = (commands: readonly MachineCommand[]) => steps(commands).map(({ next: { state } }) => state)
    expect(states([fail, stopped, fail])).toEqual(['quarantined', 'reserve', 'retiring'])
    const between = states([fail, stopped, ...serve(job), stopped, fail])
    expect(between).toEqual(['quarantined', 'reserve', 'waking', 'busy', 'stopping', 'reserve', 'quarantined'])
  })

  it('has a version more with every step', () => {
    holds(({ before, next }) => expect(next.version).toBe(before.version + 1))
  })

  it('says how a job came by it: by its boots, not by what was hoped for', () => {
    expect(resumeOf(null, null, 'b')).toBe('created')
    expect(resumeOf('creating', null, 'b')).toBe('created')
    expect(resumeOf('ready', 'b', 'b')).toBe('resumed')
    expect(resumeOf('hot', 'b', 'b')).toBe('resumed')
    expect(resumeOf('ready', 'a', 'b')).toBe('cold')
    expect(resumeOf('booting', null, 'b')).toBe('cold')
    expect(resumeOf('reserve', null, 'b')).toBe('reserve')
  })
})
