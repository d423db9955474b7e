/** Lines as they come: taken in their order, one at a time where that takes a while, and never past a failure. */
import { PassThrough } from 'node:stream'
import { setImmediate as breath } from 'node:timers/promises'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eachLine, isLineFault, LineQueue, type LineFault } from '../../schema/lines.ts'

const textOf = (line: string | LineFault): string => (isLineFault(line) ? line.fault : line)

describe('each line of a stream', () => {
  it('is taken once and in order, however it is cut and however long each takes', async () => {
    const lines = fc.array(fc.constantFrom('', 'a', 'bb', 'ひ', 'x'.repeat(30)))
    const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 })
    const waits = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(lines, sizes, waits, async (texts, cuts, turns) => {
        const stream = new PassThrough({ highWaterMark: 8 })
        const seen: string[] = []
        let taking = 0
        const wait = async (count: number): Promise<void> => {
          for (let i = 0; i < count; i++) await breath()
          taking -= 1
        }
        const done = eachLine(stream, (line) => {
          expect(taking).toBe(0)
          const count = turns[seen.length % turns.length] ?? 0
          seen.push(textOf(line))
          if (count === 0) return undefined
          taking += 1
          return wait(count)
        })
        const bytes = Buffer.from(texts.join('\n'))
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = cuts[i % cuts.length] ?? 1
          stream.write(bytes.subarray(at, at + size))
          at += size
        }
        stream.end()
        await done
        // A last one that is empty is none.
        expect(seen).toEqual(texts.at(-1) === '' ? texts.slice(0, -1) : texts)
      }),
      { numRuns: 60 },
    )
  })

  it('is not read on while one is taken', async () => {
    const stream = new PassThrough({ highWaterMark: 4 })
    const taken = Promise.withResolvers<void>()
    const done = eachLine(stream, (line) => (line === 'a' ? taken.promise : undefined))
    stream.write('a\n')
    await breath()
    for (let i = 0; i < 50; i++) stream.write('bbbbbbbb\n')
    await breath()
    expect(stream.isPaused()).toBe(true)
    expect(stream.readableLength + stream.writableLength).toBeGreaterThan(300)
    taken.resolve()
    stream.end()
    await done
  })

  it('fails with what taking it throws, and takes no other', async () => {
    const stream = new PassThrough()
    const seen: string[] = []
    const done = eachLine(stream, (line) => {
      seen.push(textOf(line))
      throw new Error('enough')
    })
    stream.write('a\nb\n')
    await expect(done).rejects.toThrow('enough')
    expect(seen).toEqual(['a'])
    expect(stream.destroyed).toBe(true)
  })

  it('fails when the stream breaks off', async () => {
    const stream = new PassThrough()
    const done = eachLine(stream, () => undefined)
    stream.write('a\nb')
    stream.destroy()
    await expect(done).rejects.toThrow('broke off')
  })
})

describe('a queue of lines', () => {
  it('gives what was pushed in order, whoever is first, and then its end', async () => {
    const queue = new LineQueue<string>()
    const first = queue.next()
    for (const line of ['a', 'b', 'c']) expect(queue.push(line)).toBeUndefined()
    queue.end()
    expect([await first, await queue.next(), await queue.next(), await queue.next()].map(({ value }) => value)).toEqual(
      ['a', 'b', 'c', undefined],
    )
  })

  it('gives what was pushed before it failed, and then the failure', async () => {
    const queue = new LineQueue<string>()
    void queue.push('a')
    queue.fail(new Error('garbage'))
    queue.end()
    expect((await queue.next()).value).toBe('a')
    await expect(queue.next()).rejects.toThrow('garbage')
  })

  it('asks to wait when nobody asks, until all was taken', async () => {
    const queue = new LineQueue<number>()
    let waits: Promise<void> | undefined
    let count = 0
    for (; waits === undefined; count++) waits = queue.push(count)
    for (let i = 0; i < count; i++) expect((await queue.next()).value).toBe(i)
    await waits
  })
})
