/** Proves that tool names go to a provider and come back exactly. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toolNames } from '../../src/gateway/tool-name.ts'

/** Aimed: parts that differ only where a careless mapping would make them one. */
const piece = fc.stringMatching(/^[a-z_@.-]{1,4}$/)
const name = fc
  .array(fc.oneof(piece, fc.constantFrom('_', '__', '/', 'read', 'file', '@acme', 'x'.repeat(40))), {
    minLength: 1,
    maxLength: 5,
  })
  .map((parts) => parts.join(''))

describe('tool names', () => {
  it('turn skill/tool into skill__tool', () => {
    const names = toolNames(['files/read_file', 'delegate/security-analyst'])
    expect(names.toWire('files/read_file')).toBe('files__read_file')
    expect(names.toWire('delegate/security-analyst')).toBe('delegate__security-analyst')
    expect(names.fromWire('files__read_file')).toBe('files/read_file')
  })

  it('come back exactly, and fit every provider, whatever they hold', () => {
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 12 }), (all) => {
        const names = toolNames(all)
        for (const one of all) {
          expect(names.toWire(one)).toMatch(/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/)
          expect(names.fromWire(names.toWire(one))).toBe(one)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('are the same whatever other tools are on offer', () => {
    expect(toolNames(['a__b/c', 'a/_b']).toWire('a/b')).toBe(toolNames([]).toWire('a/b'))
  })

  it('refuse two tools that would be one on the wire', () => {
    const odd = 'odd name/tool'
    const wire = toolNames([odd]).toWire(odd)
    const twin = wire.replace('__', '/')
    expect(toolNames([]).toWire(twin)).toBe(wire)
    expect(() => toolNames([odd, twin])).toThrow(/one on the wire/)
  })

  it('leave a name that no tool on offer has as the model wrote it', () => {
    expect(toolNames([]).fromWire('never__offered')).toBe('never__offered')
  })
})
