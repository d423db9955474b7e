/** A person at the command line: what was written and noted, and what is typed when asked. */
import type { Terminal } from '../../src/cli/terminal.ts'

export interface FakeTerminal extends Terminal {
  readonly written: string
  readonly noted: string
  readonly prompts: readonly string[]
  interrupt(): void
}

export function fakeTerminal(
  options: { typed?: readonly string[]; input?: string; isColourful?: boolean } = {},
): FakeTerminal {
  const typed = [...(options.typed ?? [])]
  const interrupts = new Set<() => void>()
  const prompts: string[] = []
  let written = ''
  let noted = ''
  return {
    isColourful: options.isColourful ?? false,
    isInteractive: options.typed !== undefined,
    write: (text) => void (written += text),
    note: (text) => void (noted += text),
    ask(prompt) {
      prompts.push(prompt)
      return Promise.resolve(typed.shift())
    },
    readAll: () => Promise.resolve(options.input ?? ''),
    onInterrupt(act) {
      interrupts.add(act)
      return () => interrupts.delete(act)
    },
    get written() {
      return written
    },
    get noted() {
      return noted
    },
    prompts,
    interrupt() {
      for (const act of interrupts) act()
    },
  }
}
