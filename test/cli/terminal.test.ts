/** What experts write reaches a terminal as text that shows itself, and never as an instruction. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shown, shownLine } from '../../src/cli/terminal.ts'

const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]|[\u{e0000}-\u{e007f}]/u

describe('text from elsewhere', () => {
  it.each([
    ['a screen that is cleared', '\u001b[2J', '\\u{1b}[2J'],
    ['a link that lies', '\u001b]8;;https://evil.example\u0007here\u001b]8;;\u0007', undefined],
    ['a control sequence of C1', '\u009b31m', '\\u{9b}31m'],
    ['a change of direction', 'a\u202eb\u2066c', 'a\\u{202e}b\\u{2066}c'],
    ['tags that nobody sees', '\u{e0041}', '\\u{e0041}'],
    ['a line that overwrites itself', 'safe\rrm', 'safe\\u{d}rm'],
    ['a device control string', '\u001bP1;2|x\u001b\\', '\\u{1b}P1;2|x\\u{1b}\\'],
  ])('shows %s', (_title, text, printed) => {
    expect(shown(text)).not.toMatch(UNSAFE)
    if (printed !== undefined) expect(shown(text)).toBe(printed)
  })

  it('holds nothing that a terminal obeys, whatever it was, and keeps letters, breaks and tabs', () => {
    const aimed = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 30 }),
      fc
        .array(fc.constantFrom('\u001b', '[', '2J', '\r', '\u009d', '\u202e', '\u{e0001}', 'a', '専門', '\n'))
        .map((x) => x.join('')),
    )
    fc.assert(fc.property(aimed, (text) => !UNSAFE.test(shown(text)) && !/[\n\t]/.test(shownLine(text))))
    expect(shown('専門家\n\té🙂')).toBe('専門家\n\té🙂')
  })

  it('fits on one line when asked to', () => {
    expect(shownLine(`a\nb${'c'.repeat(200)}`, 10)).toBe('a bcccccc…')
  })
})
