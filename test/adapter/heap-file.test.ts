/** How the file of a heap loses what Node compiled of its own modules, and that nothing else is cut. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withoutCodeCache } from '../../src/local/heap-file.ts'

const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
const module = fc.record({
  name: fc.stringMatching(/^[a-z][a-z_/]{0,20}$/),
  bytes: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
})
const modules = fc.array(module, { minLength: 1, maxLength: 8 })
/** Never itself a beginning: lengths are low numbers. */
const head = fc.array(fc.constantFrom(0, 1, 2, 200, 255), { maxLength: 60 }).map((bytes) => Buffer.from(bytes))

function cacheOf(compiled: readonly { readonly name: string; readonly bytes: Buffer }[]): Buffer {
  const parts = compiled.flatMap(({ name, bytes }) => [
    number(name.length),
    Buffer.from(name),
    number(bytes.length),
    bytes,
  ])
  return Buffer.concat([number(compiled.length), ...parts])
}

describe('the file of a heap', () => {
  it('loses the modules that it ends with, and nothing before them', () => {
    fc.assert(
      fc.property(head, modules, (before, compiled) => {
        expect(withoutCodeCache(Buffer.concat([before, cacheOf(compiled)]))).toEqual(Buffer.concat([before, number(0)]))
      }),
    )
  })

  it('is left alone where it does not end with them exactly', () => {
    fc.assert(
      fc.property(head, modules, fc.constantFrom('more', 'less'), (before, compiled, which) => {
        const file = Buffer.concat([before, cacheOf(compiled), Buffer.of(7)])
        expect(withoutCodeCache(which === 'more' ? file : file.subarray(0, -2))).toBeUndefined()
      }),
    )
  })
})
