/**
 * The shell of a page: its `sh` blocks as one script, in their order, so that what a block sets the next one has.
 * `<!-- not run: why -->` on the line above a block says that nobody here can run it; a reason has to stand there.
 */

export interface ShellPage {
  readonly script: string
  /** The lines on which blocks begin, as the script says them on stderr when it comes to one. */
  readonly blocks: readonly number[]
  /** Blocks that are not run: the line, and why. */
  readonly left: readonly { readonly line: number; readonly reason: string }[]
}

const MARK = '#block '
const FENCE = /^( *)```(\S*)/
const NOT_RUN = /^\s*<!-- not run: (\S.*\S) -->\s*$/

/** Throws when a fence never closes, or a mark gives no reason. */
export function readShellPage(text: string): ShellPage {
  const lines = text.split('\n')
  const blocks: number[] = []
  const left: { line: number; reason: string }[] = []
  const script = ['set -eu']
  for (let i = 0; i < lines.length; i++) {
    const [, indent = '', language] = FENCE.exec(lines[i] ?? '') ?? []
    if (language === undefined) continue
    const end = lines.findIndex((line, n) => n > i && line.trimEnd() === `${indent}\`\`\``)
    if (end === -1) throw new Error(`the block of line ${i + 1} never ends`)
    const above = lines[i - 1] ?? ''
    const reason = NOT_RUN.exec(above)?.[1]
    if (reason === undefined && above.includes('not run')) throw new Error(`line ${i} does not say why it is not run`)
    if (language === 'sh' && reason !== undefined) left.push({ line: i + 1, reason })
    else if (language === 'sh') {
      blocks.push(i + 1)
      script.push(`echo '${MARK}${i + 1}' >&2`, ...lines.slice(i + 1, end).map((line) => line.slice(indent.length)))
    }
    i = end
  }
  return { script: `${script.join('\n')}\n`, blocks, left }
}

/** The block that a script had come to when it wrote this to stderr, and what it wrote from there. */
export function lastBlock(stderr: string): { readonly line: number; readonly said: string } {
  const at = stderr.lastIndexOf(MARK)
  const [line = '', ...said] = stderr.slice(at + MARK.length).split('\n')
  return { line: at === -1 ? 0 : Number(line), said: said.join('\n') }
}
