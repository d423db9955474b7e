/** What a machine has said and nobody has acknowledged. */
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { LineSpool } from '../../runner/machine/line-spool.ts'

it('sends every line until it was acknowledged, and begins with the first that was not (LS1)', () => {
  const steps = fc.array(fc.oneof(fc.record({ push: fc.nat(20) }), fc.record({ ack: fc.nat(30) })), { maxLength: 60 })
  fc.assert(
    fc.property(steps, (given) => {
      const spool = new LineSpool()
      const said: string[] = []
      let acked = 0
      for (const step of given) {
        if ('push' in step) {
          const line = `${'x'.repeat(step.push)}\n`
          said.push(line)
          spool.push(line)
        } else {
          const isKnown = step.ack <= said.length
          expect(spool.acknowledge(step.ack)).toBe(isKnown)
          if (isKnown) acked = Math.max(acked, step.ack)
        }
        expect(spool.batch(1_000_000)).toEqual({ from: acked + 1, text: said.slice(acked).join('') })
        expect(spool.bytes).toBe(said.slice(acked).join('').length)
      }
    }),
  )
})

it('never splits a line, and holds one line that is above the size (LS2)', () => {
  const spool = new LineSpool()
  for (const line of ['long line\n', 'a\n', 'b\n', 'c\n']) spool.push(line)
  expect(spool.batch(4).text).toBe('long line\n')
  spool.acknowledge(1)
  expect(spool.batch(4)).toEqual({ from: 2, text: 'a\nb\n' })
  expect(spool.batch(0).text).toBe('a\n')
})
