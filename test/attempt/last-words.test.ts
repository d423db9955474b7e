/** What the owner of a job is told of a machine's last words: short, on one line, nothing secret, no place of the host. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LAST_WORDS_CHARS_MAX, lastWords } from '../../src/attempt/last-words.ts'

const CRASH = `file:///home/ana/.senmon/runtime/supervisor-1f/main.mjs:12
  throw new Error('no room')
  ^

Error: no room in /home/ana/.senmon/ws
    at main (file:///home/ana/.senmon/runtime/supervisor-1f/main.mjs:12:9)
    at node:internal/main

Node.js v24.14.0`

describe('the last words of a machine', () => {
  it('are the sentence and the line, without the stack, the version and the directories', () => {
    expect(lastWords(CRASH, [])).toBe("main.mjs:12 throw new Error('no room') Error: no room in ws")
  })

  it.each(['', '\n \n', '    at a (b.ts:1)\nNode.js v24.1.0\n'])('are none where nothing was said: %j', (said) => {
    expect(lastWords(said, [])).toBeUndefined()
  })

  it('hold no secret, no control character, no directory, and end somewhere', () => {
    const secret = fc.stringMatching(/^[a-zA-Z0-9]{6,20}$/)
    const piece = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('\u001b[31m', '\r\n', '/home/ana/key', 'file:///srv/x/y.js:3', ' at z', 'word '.repeat(100)),
    )
    fc.assert(
      fc.property(secret, fc.array(piece), fc.array(piece), (hidden, before, after) => {
        const said = lastWords([...before, hidden, ...after].join(''), [hidden]) ?? ''
        expect(said.length).toBeLessThanOrEqual(LAST_WORDS_CHARS_MAX)
        expect(said).not.toContain(hidden)
        expect(said).not.toMatch(/[\u0000-\u001f\u202e]|home|srv/)
      }),
    )
  })
})
