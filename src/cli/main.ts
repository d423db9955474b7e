/** The command line: the only file of it that reads arguments, the environment, the clock, chance and the streams. */
import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../schema/clock.ts'
import { performCommand } from './commands.ts'
import type { Terminal } from './terminal.ts'

const clock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
}

const interrupts = new Set<() => void>()
process.on('SIGINT', () => {
  if (interrupts.size === 0) process.exit(130)
  for (const act of interrupts) act()
})
// A reader that left (`senmon log … | head`) is no fault of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

const isColourful = process.stderr.isTTY && process.env['NO_COLOR'] === undefined && process.env['TERM'] !== 'dumb'

const terminal: Terminal = {
  isColourful,
  isInteractive: process.stdin.isTTY && process.stderr.isTTY,
  write: (text) => void process.stdout.write(text),
  note: (text) => void process.stderr.write(text),
  async ask(prompt) {
    const lines = createInterface({ input: process.stdin, output: process.stderr })
    const interrupted = new AbortController()
    // Nothing runs while a question is open: leaving it is all that an interrupt can mean.
    lines.on('SIGINT', () => interrupted.abort())
    lines.on('close', () => interrupted.abort())
    try {
      return await lines.question(prompt, { signal: interrupted.signal })
    } catch (error) {
      if (interrupted.signal.aborted) return undefined
      throw error
    } finally {
      lines.close()
    }
  },
  async readAll() {
    const chunks: Buffer[] = []
    for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk as Uint8Array))
    return Buffer.concat(chunks).toString('utf8')
  },
  onInterrupt(act) {
    interrupts.add(act)
    return () => interrupts.delete(act)
  },
}

process.exitCode = await performCommand(process.argv.slice(2), {
  terminal,
  clock,
  directory: process.cwd(),
  environment: process.env,
  fetchFn: fetch,
  makeIdempotencyKey: randomUUID,
})
// A connection that is still open must not keep the command alive after its last word.
process.stdout.write('', () => process.exit())
