/** Which calls need an approval, and which answers are one. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { approvalFor, approvedArgs, matchesGlob } from '../../schema/approval.ts'

const letters = fc.constantFrom('a', 'b', '*', '?', '/', ' ', '\n', 'é')
const words = fc.string({ unit: letters, maxLength: 12 })

/** What a glob means, as a pattern; it may take exponential time, so it is for short words only. */
function pattern(glob: string): RegExp {
  const parts = glob
    .split('')
    .map((unit) => (unit === '*' ? '[^]*' : unit === '?' ? '[^]' : unit.replace(/[/]/, '\\/')))
  return new RegExp(`^${parts.join('')}$`)
}

describe('a glob', () => {
  it('matches what its pattern matches', () => {
    fc.assert(
      fc.property(words, words, (glob, text) => {
        expect(matchesGlob(glob, text)).toBe(pattern(glob).test(text))
        expect(matchesGlob(glob, glob)).toBe(true)
        expect(matchesGlob(`${glob}*`, `${glob}${text}`)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })

  it('takes no more time than its length times the text’s', () => {
    expect(matchesGlob(`${'*a'.repeat(500)}b`, 'a'.repeat(50_000))).toBe(false)
  })
})

describe('the rules of approval', () => {
  const rule = { tool: 'shell/exec', args: { command: 'git push*' }, edits: true }

  it('cover what matches tool and arguments, and nothing else', () => {
    expect(approvalFor([rule], 'shell/exec', { command: 'git push --force' })).toEqual({ edits: true })
    expect(approvalFor([rule], 'shell/exec', { command: 'git pull' })).toBeUndefined()
    expect(approvalFor([rule], 'shell/exe', { command: 'git push' })).toBeUndefined()
    expect(approvalFor(undefined, 'shell/exec', {})).toBeUndefined()
  })

  it('cover what nobody can read: an argument that is missing, null, a list, an object, or inherited', () => {
    for (const args of [
      {},
      { command: null },
      { command: ['git', 'pull'] },
      { command: { a: 1 } },
      [],
      'git pull',
      null,
    ])
      expect(approvalFor([rule], 'shell/exec', args)).toEqual({ edits: true })
    const inherited = { tool: 'a/b', args: { constructor: 'x' }, edits: false }
    expect(approvalFor([inherited], 'a/b', { x: 1 })).toEqual({ edits: false })
  })

  it('read numbers and truth values as their JSON', () => {
    const force = { tool: '*', args: { force: 'true', depth: '1?' }, edits: false }
    expect(approvalFor([force], 'a/b', { force: true, depth: 12 })).toBeDefined()
    expect(approvalFor([force], 'a/b', { force: false, depth: 12 })).toBeUndefined()
  })

  it('allow edits only when every rule that covers the call does', () => {
    const strict = { tool: 'shell/*', args: {}, edits: false }
    expect(approvalFor([rule, strict], 'shell/exec', { command: 'git push' })).toEqual({ edits: false })
  })
})

describe('an answer', () => {
  const edited = { approved: true, args: { command: 'ls' } }

  it('lets through the arguments, others where edits are allowed, and otherwise nothing', () => {
    expect(approvedArgs({ edits: false }, 'own', true)).toBe('own')
    expect(approvedArgs({ edits: true }, 'own', edited)).toEqual({ command: 'ls' })
    expect(approvedArgs({ edits: false }, 'own', edited)).toBeUndefined()
    for (const no of [false, null, 'true', 1, {}, [true], { approved: true }, { approved: true, args: 'ls' }])
      expect(approvedArgs({ edits: true }, 'own', no)).toBeUndefined()
    expect(approvedArgs({ edits: true }, 'own', { ...edited, approved: 'true' })).toBeUndefined()
  })
})
