/** Batches of events under a lease. */
import { describe, expect, it } from 'vitest'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { openRecorder } from '../../src/attempt/recorder.ts'
import { JOB } from '../run/team.ts'

const changed = (text: string): NewEvent => ({
  v: 1,
  type: 'workspaceChanged',
  data: { treeHash: sha256(text) },
  runId: null,
  expertKey: null,
  stepNumber: null,
})

function recording(gate: Promise<void> = Promise.resolve()) {
  const batches: number[] = []
  const seen: JobEvent[] = []
  const failures: unknown[] = []
  let head = { revision: 0, hash: genesisHash(JOB) }
  let broken = false
  const recorder = openRecorder(
    async (events) => {
      await gate
      if (broken) throw new Error('the store is gone')
      const chained = chain(JOB, head.revision, head.hash, 0, events)
      const last = chained.at(-1)
      if (last !== undefined) head = { revision: last.seq, hash: last.hash }
      batches.push(events.length)
      return chained
    },
    (event) => seen.push(event),
    (error) => failures.push(error),
  )
  return { recorder, batches, seen, failures, break: () => (broken = true) }
}

describe('a recorder', () => {
  it('puts what comes together, and what comes while it writes, in one append each', async () => {
    const gate = Promise.withResolvers<void>()
    const { recorder, batches, seen } = recording(gate.promise)
    const first = [recorder.record(changed('a')), recorder.record(changed('b'))]
    await new Promise((next) => setImmediate(() => setImmediate(next)))
    const rest = [recorder.record(changed('c')), recorder.record(changed('d')), recorder.record(changed('e'))]
    gate.resolve()
    expect((await Promise.all([...first, ...rest])).map((event) => event.seq)).toEqual([1, 2, 3, 4, 5])
    expect(batches).toEqual([2, 3])
    expect(seen).toHaveLength(5)
  })

  it('writes what is attached with the next append and asks for none', async () => {
    const { recorder, batches } = recording()
    recorder.attach(changed('a'))
    for (let i = 0; i < 5; i++) await new Promise((next) => setImmediate(next))
    expect(batches).toEqual([])
    await recorder.record(changed('b'))
    expect(batches).toEqual([2])
  })

  it('lets nobody believe in what a failed append held, then or later', async () => {
    const { recorder, failures, seen, break: fail } = recording()
    fail()
    void recorder.record(changed('a'))
    await expect(recorder.flush()).rejects.toThrow('the store is gone')
    await expect(recorder.flush()).rejects.toThrow('the store is gone')
    expect(failures).toHaveLength(1)
    expect(seen).toEqual([])
  })

  it('flushes what a moment ago was on its way', async () => {
    const { recorder, batches } = recording()
    for (let i = 0; i < 50; i++) {
      void recorder.record(changed(`${i}`))
      await recorder.flush()
      expect(batches.reduce((sum, size) => sum + size, 0)).toBe(i + 1)
    }
  })
})
