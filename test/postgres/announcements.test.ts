/** What processes of one database say to each other, in a time that is driven: a channel without a database. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Announcements } from '../../src/postgres/announcements.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'

const GAP_MS = 25
const ALONE_GAP_MS = 2_000
const HELLO_MS = 4_000
const ALONE_MS = 10_000

interface Said {
  readonly at: number
  readonly by: string
  readonly items: readonly string[]
}

interface Process {
  readonly announcements: Announcements
  /** What it heard, and when. */
  readonly heard: Said[]
  connect(): Promise<void>
  /** Its connection is lost: what it says from now on fails. */
  breakOff(): void
  /** It stops of its own accord. */
  close(): Promise<void>
}

/** Whoever was woken has come to where it sleeps again. */
const settled = async (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function channelOf(clock: FakeClock) {
  const said: Said[] = []
  const listening = new Map<string, Process>()
  const join = (name: string): Process => {
    const announcements = new Announcements(clock)
    let ending = new AbortController()
    let kept: Promise<void> = Promise.resolve()
    let breakOff = (): void => {}
    const process: Process = {
      announcements,
      heard: [],
      async connect() {
        const own = (ending = new AbortController())
        let isBroken = false
        breakOff = () => {
          isBroken = true
          own.abort(new Error('lost'))
        }
        listening.set(name, process)
        const say = async (items: readonly string[]): Promise<void> => {
          if (isBroken) throw new Error('the connection is lost')
          const one = { at: clock.now(), by: name, items }
          said.push(one)
          for (const [other, { heard, announcements: theirs }] of listening) {
            if (other === name) continue
            heard.push(one)
            theirs.heard()
          }
        }
        kept = announcements.keep(say, own.signal).catch(() => {})
        await settled()
      },
      breakOff() {
        breakOff()
        listening.delete(name)
      },
      async close() {
        ending.abort(new Error('closing'))
        await kept
        listening.delete(name)
      },
    }
    return process
  }
  return { said, join }
}

describe('the announcements of processes that share a database', () => {
  async function alone() {
    const clock = fakeClock()
    const channel = channelOf(clock)
    const first = channel.join('first')
    await first.connect()
    await clock.advance(ALONE_MS + HELLO_MS)
    channel.said.length = 0
    return { clock, ...channel, first }
  }

  it('come at once while another may be there, and once in a gap at most (N1)', async () => {
    const clock = fakeClock()
    const { said, join } = channelOf(clock)
    const first = join('first')
    await first.connect()
    await clock.advance(100)
    expect(said.map(({ items }) => items)).toEqual([[]])
    const from = clock.now()
    for (let ms = 0; ms < 100; ms += 1) {
      first.announcements.add(`job ${ms % 5}`)
      await settled()
      await clock.advance(1)
    }
    await clock.advance(GAP_MS)
    const times = said.slice(1).map(({ at }) => at - from)
    expect(times).toEqual([0, 25, 50, 75, 100])
    expect(said[1]?.items).toEqual(['job 0'])
    expect(new Set(said[2]?.items)).toEqual(new Set(['job 0', 'job 1', 'job 2', 'job 3', 'job 4']))
  })

  it('come sooner when somebody waits, the others along with them, and once in a short gap at most (N1)', async () => {
    const clock = fakeClock()
    const { said, join } = channelOf(clock)
    const first = join('first')
    await first.connect()
    await clock.advance(100)
    const from = clock.now()
    const add = async (item: string, isUrgent: boolean): Promise<void> => {
      first.announcements.add(item, isUrgent)
      await settled()
    }
    await add('job 1', false)
    await clock.advance(10)
    await add('job 2', false)
    await clock.advance(1)
    await add('!', true)
    await add('job 3', false)
    await add('!', true)
    await clock.advance(2)
    await add('job 4', false)
    await clock.advance(GAP_MS)
    const times = said.slice(1).map(({ at, items }) => [at - from, items])
    expect(times).toEqual([
      [0, ['job 1']],
      [11, ['job 2', '!']],
      [13, ['job 3', '!']],
      [38, ['job 4']],
    ])
  })

  it('are few while nobody else is heard, and leave nothing out (N2)', async () => {
    const { clock, said, first } = await alone()
    for (let step = 0; step < 2_000; step++) {
      first.announcements.add(`job ${step % 7}`)
      await clock.advance(5)
    }
    expect(said.length).toBeLessThanOrEqual(10_000 / ALONE_GAP_MS + 1)
    await clock.advance(ALONE_GAP_MS)
    expect(new Set(said.flatMap(({ items }) => items)).size).toBe(7)
  })

  it('tell a newcomer at once all that was kept (N2, N3)', async () => {
    const { clock, first, join } = await alone()
    first.announcements.add('job 1')
    await settled()
    await clock.advance(500)
    for (const item of ['job 2', 'job 3']) first.announcements.add(item)
    await settled()
    await clock.advance(500)
    const second = join('second')
    const from = clock.now()
    await second.connect()
    await clock.advance(GAP_MS)
    expect(second.heard.map(({ at, items }) => [at - from, items])).toEqual([[0, ['job 2', 'job 3']]])
  })

  it('are heard of a process that has nothing else to say, so that nobody takes itself to be alone (N3)', async () => {
    const { clock, said, first, join } = await alone()
    const second = join('second')
    await second.connect()
    await clock.advance(600_000)
    for (const name of ['first', 'second']) {
      const times = said.filter(({ by }) => by === name).map(({ at }) => at)
      expect(Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? 0)))).toBeLessThanOrEqual(HELLO_MS)
    }
    const from = clock.now()
    first.announcements.add('job 1')
    await settled()
    expect(second.heard.at(-1)).toEqual({ at: from, by: 'first', items: ['job 1'] })
  })

  it('stay due when they could not be said, until the next connection (N4)', async () => {
    const { said, first } = await alone()
    first.breakOff()
    first.announcements.add('job 1')
    await settled()
    expect(said).toEqual([])
    first.announcements.add('job 2')
    await first.connect()
    expect(said.map(({ items }) => items)).toEqual([['job 1', 'job 2']])
  })

  it('are said a last time when the process closes, and only if something is due (N4)', async () => {
    const { clock, said, first, join } = await alone()
    const second = join('second')
    await second.connect()
    await clock.advance(HELLO_MS)
    said.length = 0
    first.announcements.add('job 1')
    await settled()
    first.announcements.add('job 2')
    await first.close()
    await second.close()
    expect(said.map(({ items }) => items)).toEqual([['job 1'], ['job 2']])
  })

  it('go on when the clock is set back (N1)', async () => {
    const clock = fakeClock()
    let shift = 0
    const { said, join } = channelOf({ ...clock, now: () => clock.now() + shift })
    const first = join('first')
    await first.connect()
    await clock.advance(100)
    shift = -3_600_000
    first.announcements.add('job 1')
    await settled()
    await clock.advance(GAP_MS)
    expect(said.at(-1)?.items).toEqual(['job 1'])
  })

  it('reach whoever listens within a gap, however processes come, go, lose their connections and are silent (N1, N2, N3)', async () => {
    const names = ['a', 'b', 'c']
    const acts = fc.array(
      fc.record({
        who: fc.constantFrom('a', 'a', 'b', 'b', 'c'),
        act: fc.constantFrom('connect', 'add', 'add', 'add', 'breakOff', 'close'),
        // Just before and after the moments that matter.
        pauseMs: fc.constantFrom(0, 1, 24, 26, 500, 1_999, 2_001, 3_999, 9_999, 10_001, 30_000),
      }),
      { minLength: 5, maxLength: 40 },
    )
    await fc.assert(
      fc.asyncProperty(acts, async (script) => {
        const clock = fakeClock()
        const { said, join } = channelOf(clock)
        const processes = new Map(names.map((name) => [name, join(name)]))
        const listeningSince = new Map<string, number>()
        const added: { readonly item: string; readonly by: string; readonly at: number }[] = []
        const losses: { readonly who: string; readonly at: number }[] = []
        for (const [n, { who, act, pauseMs }] of script.entries()) {
          const process = processes.get(who)
          const isConnected = listeningSince.has(who)
          if (act === 'connect' && !isConnected) {
            listeningSince.set(who, clock.now())
            await process?.connect()
          }
          if (act === 'add') {
            process?.announcements.add(`${n}`)
            if (isConnected) added.push({ item: `${n}`, by: who, at: clock.now() })
          }
          if (act === 'breakOff' && isConnected) {
            process?.breakOff()
            losses.push({ who, at: clock.now() })
            listeningSince.delete(who)
          }
          if (act === 'close' && isConnected) {
            await process?.close()
            losses.push({ who, at: clock.now() })
            listeningSince.delete(who)
          }
          await settled()
          await clock.advance(pauseMs)
          await settled()
        }
        await clock.advance(GAP_MS)
        for (const { item, by, at } of added) {
          for (const [who, since] of listeningSince) {
            // Nobody is late by more than a gap after both are there, unless the speaker lost its connection meanwhile.
            if (who === by || losses.some((loss) => loss.who === by && loss.at >= at)) continue
            const from = Math.max(at, since)
            const heard = said.find((one) => one.by === by && one.items.includes(item))
            expect(heard?.at ?? Infinity).toBeLessThanOrEqual(from + GAP_MS)
          }
        }
      }),
      { numRuns: 400 },
    )
  })
})
