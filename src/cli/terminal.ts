/** The person's side of the command line: what it may write to and ask. */
import { printable } from '../log.ts'

export interface Terminal {
  /** True when a person reads what we write and can see colours. */
  readonly isColourful: boolean
  /** True when a person can type an answer. */
  readonly isInteractive: boolean
  /** Standard output: results. */
  write(text: string): void
  /** Standard error: everything said besides. */
  note(text: string): void
  /** Asks on standard error; undefined when the input ended. */
  ask(prompt: string): Promise<string | undefined>
  /** All of standard input. */
  readAll(): Promise<string>
  /** Calls `act` on each interrupt instead of ending; returns the way to stop. */
  onInterrupt(act: () => void): () => void
}

// printable() leaves line breaks; whoever shows a field on one line wants none. Tags (U+E0000 ..) are invisible text.
const BREAKS = /[\n\t]+/g
const TAGS = /[\u{e0000}-\u{e007f}]/gu

/** Text from elsewhere, over as many lines as it has, with nothing in it that a terminal obeys. */
export function shown(text: string): string {
  return printable(text).replace(TAGS, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`)
}

/** The same on one line of at most `width` characters. */
export function shownLine(text: string, width = 120): string {
  const line = shown(text.replace(BREAKS, ' '))
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`
}

type Style = 'dim' | 'bold' | 'red' | 'green' | 'yellow'
const CODES: Readonly<Record<Style, string>> = { dim: '2', bold: '1', red: '31', green: '32', yellow: '33' }

/** `text`, which must be shown() already, in a style when the terminal has styles. */
export function styled(terminal: Pick<Terminal, 'isColourful'>, style: Style, text: string): string {
  return terminal.isColourful ? `\u001b[${CODES[style]}m${text}\u001b[0m` : text
}
