/** The lines of an attempt as the keeper holds them: counted either way, whatever the network does to batches. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { InwardLine, MachineLine } from '../../schema/control.ts'
import { printLine } from '../../schema/control-line.ts'
import { openLineLink, type LineLink } from '../../src/pool/line-link.ts'

const A: InwardLine = { type: 'skills', skills: [] }
const B: InwardLine = { type: 'cancel', reason: 'b' }

const said = (n: number): string => `${JSON.stringify({ type: 'log', source: 'm', text: `${n}` })}\n`
const batchOf = (from: number, count: number): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, i) => said(from + i)).join(''))

async function readAll(link: LineLink): Promise<readonly string[]> {
  const texts: string[] = []
  for await (const line of link.lines) texts.push((line as MachineLine & { text: string }).text)
  return texts
}

describe('lines of the machine', () => {
  it('are read once and in order, however often and in whatever order batches come (LL1)', async () => {
    const batches = fc.array(fc.tuple(fc.nat(12), fc.integer({ min: 0, max: 4 })), { maxLength: 30 })
    await fc.assert(
      fc.asyncProperty(batches, async (given) => {
        const link = openLineLink()
        let known = 0
        for (const [from, count] of given) {
          const acked = await link.take(from + 1, batchOf(from + 1, count))
          known = from <= known ? Math.max(known, from + count) : known
          expect(acked).toBe(known)
        }
        link.finish()
        expect(await readAll(link)).toEqual(Array.from({ length: known }, (_, i) => `${i + 1}`))
      }),
    )
  })

  it('are not acknowledged while a line is in parts (LL1)', async () => {
    const link = openLineLink()
    expect(await link.take(1, Buffer.from(said(1) + said(2).slice(0, 10)))).toBe(1)
    expect(await link.take(2, batchOf(2, 1))).toBe(2)
  })

  it('wait, unacknowledged, while too many are unread (LL3)', async () => {
    const link = openLineLink()
    const long = Buffer.from(`${JSON.stringify({ type: 'log', source: 'm', text: 'x'.repeat(5 * 1024 * 1024) })}\n`)
    let acked: number | undefined
    const taking = link.take(1, long).then((count) => (acked = count))
    await new Promise((resolve) => setImmediate(resolve))
    expect(acked).toBeUndefined()
    await link.lines[Symbol.asyncIterator]().next()
    await taking
    expect(acked).toBe(1)
  })

  it('end in a breach at the first that is none of ours', async () => {
    const link = openLineLink()
    await link.take(1, Buffer.from('hello\n'))
    await expect(readAll(link)).rejects.toMatchObject({ code: 'protocol_breach' })
  })
})

describe('lines for the machine', () => {
  it('are given again until they were heard, and not after (LL2)', async () => {
    const link = openLineLink()
    const { signal } = new AbortController()
    link.send(A)
    link.send(B)
    const [a, b] = [printLine(A), printLine(B)]
    expect([await link.next(0, signal), await link.next(1, signal), await link.next(0, signal)]).toEqual([a, b, a])
    expect(link.unheardBytes).toBe(a.length + b.length)
    link.heard(1)
    expect(await link.next(1, signal)).toBe(b)
    expect(link.unheardBytes).toBe(b.length)
    link.heard(7)
    expect(link.unheardBytes).toBe(0)
  })

  it('are waited for until somebody hangs up', async () => {
    const link = openLineLink()
    const gone = new AbortController()
    const waiting = link.next(0, gone.signal)
    gone.abort()
    expect(await waiting).toBeUndefined()
    const next = link.next(0, new AbortController().signal)
    link.send(A)
    expect(await next).toBe(printLine(A))
  })
})

describe('a closed link', () => {
  it('passes nothing either way (LL4)', async () => {
    const link = openLineLink()
    const waiting = link.next(0, new AbortController().signal)
    link.close()
    link.send(A)
    expect(await waiting).toBeUndefined()
    expect(await link.next(0, new AbortController().signal)).toBeUndefined()
    expect(await link.take(1, batchOf(1, 2))).toBe(0)
    expect(await readAll(link)).toEqual([])
  })
})
