/** A machine elsewhere and the keeper of its job, joined by a network that loses what it likes; time is driven. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DoorError, type Door } from '../../runner/machine/door.ts'
import { live } from '../../runner/machine/life.ts'
import type { SupervisorProcess } from '../../runner/machine/supervisor-process.ts'
import { PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import { IMAGE as PLACES, type ImageFacts } from '../../schema/machine-image.ts'
import { LOST_MS, type MachineEnd } from '../../schema/machine-link.ts'
import { Secret } from '../../schema/secret.ts'
import { openLinks } from '../../src/pool/links.ts'
import type { Machine } from '../../src/pool/machine-host.ts'
import { orderMachine, stepMachine, type MachineCommand, type Owner } from '../../src/pool/machine.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { silentLog } from '../support/sandbox.ts'

const ID = makeId('mch', 1, new Uint8Array(16))
const OWNER: Owner = { jobId: makeId('job', 1, new Uint8Array(16)), fence: 3, linesUrl: 'http://keeper' }
const IMAGE: ImageFacts = { ...PLACES, arch: 'x64' }

/** What becomes of a request: it is lost on its way, or its answer is. */
type Trouble = 'none' | 'before' | 'after'

/** A supervisor that says what a test pushes and keeps what it is sent. */
function puppet(clock: ReturnType<typeof fakeClock>) {
  const queue: string[] = []
  const heard: string[] = []
  let bell = Promise.withResolvers<void>()
  const end = Promise.withResolvers<MachineEnd>()
  let isOver = false
  let read = 0
  const ring = (): void => {
    bell.resolve()
    bell = Promise.withResolvers()
  }
  const finish = (given: MachineEnd): void => {
    isOver = true
    end.resolve(given)
    ring()
  }
  async function* lines(): AsyncGenerator<string> {
    for (;;) {
      const line = queue.shift()
      if (line !== undefined) {
        read += 1
        yield line
      } else if (isOver) return
      else await bell.promise
    }
  }
  const process: SupervisorProcess = {
    lines: lines(),
    send: async (text) => void heard.push(text.trimEnd()),
    kill: async () => finish({ reason: 'orphaned', stderrTail: '' }),
    ended: end.promise,
  }
  void clock
  return {
    process,
    heard,
    readCount: () => read,
    isOver: () => isOver,
    say(text: string) {
      queue.push(text)
      ring()
    },
    finish,
  }
}

async function setUp(
  troubleOf: (verb: string, nth: number) => Trouble = () => 'none',
  skewMs: number | null = null,
  given: { readonly lack?: string } = {},
) {
  const moved: number[] = []
  let sleptMs = 0
  const clock = fakeClock()
  const store = memoryPoolStore()
  const links = openLinks({
    store,
    key: new Secret('42'.repeat(32)),
    prove: async () => ({ providerId: 'fly-1' }),
    planOf: imagePlan,
    clock,
    log: silentLog,
  })
  const supervisor = puppet(clock)
  const calls: string[] = []
  const counts = new Map<string, number>()
  let suspends = 0
  async function pass<Value>(verb: string, act: () => Value | Promise<Value>): Promise<Value> {
    calls.push(verb)
    const nth = (counts.get(verb) ?? 0) + 1
    counts.set(verb, nth)
    const trouble = troubleOf(verb, nth)
    const lost = new DoorError(false, `${verb} was lost`)
    if (trouble === 'before') throw lost
    try {
      const value = await act()
      if (trouble === 'after') throw lost
      return value
    } catch (error) {
      if (error instanceof DoorError) throw error
      const refused = error instanceof PlatformError && ['unauthenticated', 'fence_stale'].includes(error.code)
      throw new DoorError(refused, String(error))
    }
  }
  const door: Door = {
    enrol: (request) => pass('enrol', () => links.enrol(request)),
    park: (secret, request) => pass('park', () => links.park(secret, request, new AbortController().signal)),
    wake: (secret, request) => pass('wake', () => links.wake(secret, request)),
    unfit: (secret, request) => pass('unfit', () => links.unfit(secret, request)),
    hear: ({ secret, name }, image, after, signal) =>
      pass('hear', async () => {
        const link = await links.come(secret, name, image)
        link.heard(after)
        return (async function* () {
          for (let at = after; ; at++) {
            const text = await link.next(at, signal)
            if (text === undefined) return
            // A stream may break off with any line.
            if (troubleOf('line', at) !== 'none' && counts.get('hear') === 1) throw new Error('the stream broke off')
            yield Buffer.from(text)
          }
        })()
      }),
    say: ({ secret, name }, from, heard, lines) =>
      pass('say', async () => {
        const link = links.link(secret, name)
        link.heard(heard)
        return await link.take(from, Buffer.from(lines))
      }),
    end: ({ secret, name }, end) => pass('end', async () => links.end(secret, name, end)),
    forget: () => {},
    skewMs: () => skewMs,
  }
  const now = clock.now()
  await store.add([orderMachine({ id: ID, pool: 'p', place: 'app', generation: 'g', now }, null)], null)
  const stop = new AbortController()
  let result: string | undefined
  const life = live({
    machineId: ID,
    bootId: 'boot-one-1',
    image: IMAGE,
    door,
    identity: async () => 'token',
    suspend: async () => void (suspends += 1),
    lack: () => given.lack,
    start: () => supervisor.process,
    clock: { ...clock, now: () => clock.now() + sleptMs },
    moveClock: async (ms) => void moved.push(ms),
    signal: stop.signal,
    report: () => {},
  }).then((why) => (result = why))
  life.catch(() => {})
  /** Lets time pass until something is so. */
  async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
    for (let i = 0; i < 20_000; i++) {
      if (await isSo()) return
      await clock.advance(20)
      await new Promise((resolve) => setImmediate(resolve))
    }
    throw new Error('it never was so')
  }
  const rowIs = (state: string) => async () => (await store.find(ID))?.state === state
  const move = async (command: MachineCommand): Promise<void> => {
    const row = await store.find(ID)
    const step = row && stepMachine(row, command)
    expect(step && (await store.change([step], null))).toEqual([true])
  }
  async function claim(): Promise<Machine> {
    await move({ type: 'claim', now: clock.now(), owner: OWNER, deadline: clock.now() + 60_000 })
    const row = await store.find(ID)
    if (row === undefined) throw new Error('there is no row')
    const provision = { type: 'skills', skills: [] } as const
    const hold = async (bootId: string): Promise<boolean> =>
      (await store.hold(ID, OWNER, bootId, clock.now())) !== undefined
    let machine: Machine | undefined
    const opening = links.expect(row, async () => provision, hold, clock.now() + 60_000).then((one) => (machine = one))
    opening.catch(() => {})
    await until(() => machine !== undefined)
    return await opening
  }
  const prime = (): void => {
    supervisor.say('{"type":"ready","protocol":1,"bootId":"boot"}')
    supervisor.say('{"type":"alive"}')
  }
  return {
    clock,
    store,
    calls,
    supervisor,
    prime,
    until,
    rowIs,
    move,
    claim,
    life,
    stop,
    result: () => result,
    suspends: () => suspends,
    moved,
    /** Time passes in which the machine does nothing. */
    standStill: (ms: number) => void (sleptMs += ms),
  }
}

const logLine = (n: number): string => JSON.stringify({ type: 'log', source: 's', text: `${n}` })

describe('the life of a machine', () => {
  it('begins with who it is, again until it is known, and goes on when it is primed (LF1)', async () => {
    const { calls, until, rowIs, prime } = await setUp((verb, nth) => (verb === 'enrol' && nth < 3 ? 'after' : 'none'))
    await until(() => calls.length >= 3)
    expect(new Set(calls)).toEqual(new Set(['enrol']))
    prime()
    await until(rowIs('hot'))
    expect(calls.filter((verb) => verb === 'enrol')).toHaveLength(3)
  })

  it('is suspended when it is told to, asking from before until after (LF2)', async () => {
    const { calls, until, rowIs, prime, move, clock, suspends, claim } = await setUp()
    prime()
    await until(rowIs('hot'))
    expect(suspends()).toBe(0)
    await move({ type: 'suspend', now: clock.now() })
    await until(() => calls.filter((verb) => verb === 'wake').length > 5)
    expect(suspends()).toBe(1)
    await move({ type: 'suspended', now: clock.now() })
    await claim()
    expect(await rowIs('busy')()).toBe(true)
    expect(suspends()).toBe(1)
  })

  it.each([
    [-3_600_000, [-3_600_000]],
    [5_001, [5_001]],
    [5_000, []],
    [null, []],
  ])('has its clock set before its job where it is off by %s ms (LF4)', async (skewMs, moved) => {
    const seen = await setUp(undefined, skewMs)
    seen.prime()
    await seen.until(seen.rowIs('hot'))
    expect(seen.moved).toEqual([])
    await seen.claim()
    expect(seen.moved).toEqual(moved)
  })

  it('waits for a control plane that it cannot reach after it slept for long, and not for ever (LF5)', async () => {
    let isAway = false
    const { calls, until, rowIs, prime, move, clock, result, standStill } = await setUp(() =>
      isAway ? 'before' : 'none',
    )
    prime()
    await until(rowIs('hot'))
    await move({ type: 'suspend', now: clock.now() })
    await until(() => calls.includes('wake'))
    isAway = true
    const before = calls.length
    await until(() => calls.length > before + 1)
    standStill(10_000_000)
    const asked = calls.length
    await until(() => calls.length > asked + 20)
    expect(result()).toBeUndefined()
    const since = clock.now()
    await until(async () => {
      await clock.advance(1_000)
      return result() !== undefined
    })
    expect(result()).toBe('the control plane is gone')
    expect(clock.now() - since).toBeGreaterThan(500_000)
  })

  it('is over after one job (LF3)', async () => {
    const { until, rowIs, prime, claim, supervisor, result } = await setUp()
    prime()
    await until(rowIs('hot'))
    const machine = await claim()
    supervisor.say('{"type":"done","reason":"finished"}')
    supervisor.finish({ reason: 'done', stderrTail: '' })
    await until(() => result() !== undefined)
    expect(result()).toBe('done')
    expect(await machine.ended).toEqual({ reason: 'done', stderrTail: '' })
  })

  it.each([
    ['its supervisor ends before it is primed', undefined, /runner_ended\): bwrap: No such file/],
    ['its image lacks something', 'The image has no /tmp.', /The image has no \/tmp/],
  ])('says why it can do no job where %s, and asks for none (LF6)', async (_how, lack, why) => {
    const { calls, until, supervisor, result, store, rowIs } = await setUp(
      (verb, nth) => (verb === 'unfit' && nth < 3 ? 'before' : 'none'),
      null,
      lack === undefined ? {} : { lack },
    )
    supervisor.say('{"type":"ready","protocol":1,"bootId":"boot"}')
    supervisor.finish({ reason: 'runner_ended', stderrTail: 'bwrap: No such file' })
    await until(() => result() !== undefined)
    expect(await rowIs('retiring')()).toBe(true)
    expect((await store.find(ID))?.fault).toMatch(why)
    expect(result()).toMatch(why)
    expect(calls).toEqual(['enrol', 'unfit', 'unfit', 'unfit'])
  })

  it('does not wait for ever for a supervisor that is not primed (LF6)', async () => {
    const { until, store, result, supervisor } = await setUp()
    await until(() => result() !== undefined)
    expect((await store.find(ID))?.fault).toMatch(/not made itself ready within 60000 ms/)
    expect(supervisor.isOver()).toBe(true)
  })

  it('is over when nobody wants it (LF3)', async () => {
    const { until, rowIs, prime, move, clock, supervisor, result } = await setUp()
    prime()
    await until(rowIs('hot'))
    await move({ type: 'retire', now: clock.now(), fault: null })
    await until(() => result() !== undefined)
    expect([result(), supervisor.isOver()]).toEqual(['the machine is retiring', true])
  })
})

describe('a job in a machine elsewhere', () => {
  it('says and hears every line once and in order, whatever the network loses (AT1)', async () => {
    const trouble = fc.constantFrom<Trouble>('none', 'none', 'before', 'after')
    await fc.assert(
      fc.asyncProperty(
        fc.array(trouble, { maxLength: 40 }),
        fc.integer({ min: 1, max: 20 }),
        async (troubles, count) => {
          let at = 0
          const { until, rowIs, prime, claim, supervisor, result } = await setUp((verb) =>
            verb === 'end' ? 'none' : (troubles[at++] ?? 'none'),
          )
          prime()
          await until(rowIs('hot'))
          const machine = await claim()
          const said: string[] = []
          const reading = (async () => {
            for await (const line of machine.lines) if (line.type === 'log') said.push(line.text)
          })()
          for (let n = 0; n < count; n++) {
            supervisor.say(logLine(n))
            machine.send({ type: 'cancel', reason: `${n}` })
          }
          await until(() => supervisor.heard.length > count)
          supervisor.finish({ reason: 'done', stderrTail: '' })
          await until(() => result() !== undefined)
          await reading
          expect(said).toEqual(Array.from({ length: count }, (_, n) => `${n}`))
          const [first, ...rest] = supervisor.heard.map((text) => JSON.parse(text) as { type: string; reason: string })
          expect(first?.type).toBe('skills')
          expect(rest.map(({ reason }) => reason)).toEqual(Array.from({ length: count }, (_, n) => `${n}`))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('is over when it is another’s (AT2)', async () => {
    const { until, rowIs, prime, claim, supervisor, result } = await setUp()
    prime()
    await until(rowIs('hot'))
    const machine = await claim()
    await machine.destroy()
    supervisor.say(logLine(1))
    await until(() => result() !== undefined)
    expect([result(), supervisor.isOver()]).toEqual(['fenced', true])
  })

  it('is over when its keeper is not heard (AT2)', async () => {
    let isGone = false
    const { until, rowIs, prime, claim, supervisor, result, clock } = await setUp(() => (isGone ? 'before' : 'none'))
    prime()
    await until(rowIs('hot'))
    await claim()
    isGone = true
    const since = clock.now()
    supervisor.say(logLine(1))
    await until(() => result() !== undefined)
    expect(result()).toBe('lost')
    expect(clock.now() - since).toBeLessThan(LOST_MS + 10_000)
  })

  it('is not read while too much of it waits (AT3)', async () => {
    let isGone = false
    const { until, rowIs, prime, claim, supervisor, clock } = await setUp((verb) =>
      isGone && verb === 'say' ? 'before' : 'none',
    )
    prime()
    await until(rowIs('hot'))
    await claim()
    isGone = true
    const before = supervisor.readCount()
    const long = JSON.stringify({ type: 'log', source: 's', text: 'x'.repeat(7 * 1024 * 1024) })
    for (let i = 0; i < 20; i++) supervisor.say(long)
    for (let i = 0; i < 50; i++) await clock.advance(10)
    expect(supervisor.readCount() - before).toBeGreaterThan(8)
    expect(supervisor.readCount() - before).toBeLessThan(12)
  })
})
