/**
 * A machine that is a container of an engine, reached by its attached stream: lines both ways, and its end. It may be
 * there before its job is known.
 */
import { PassThrough, type Duplex, type Readable } from 'node:stream'
import { EXIT_REASONS, LINE_BYTES_MAX, type HostLine, type InwardLine, type MachineLine } from '../../schema/control.ts'
import { parseMachineLine, printLine } from '../../schema/control-line.ts'
import { PlatformError } from '../../schema/error.ts'
import { isLineFault, linesOf } from '../../schema/lines.ts'
import type { SkillsLine } from '../../schema/machine-plan.ts'
import type { Machine } from '../pool/machine-host.ts'
import type { ImageSkills } from '../skill/image-skills.ts'
import { StreamFrames } from './stream-frames.ts'

const STDERR_TAIL_CHARS = 4096

/** How the engine says that a container ended; null where it does not know the container any more. */
export interface ContainerEnd {
  readonly exitCode: number
  /** The kernel took memory back from it by force. */
  readonly oom: boolean
}

export interface AttachedMachineOptions {
  readonly stream: Duplex
  /** Answers what the machine asks for of the packages of its skills. */
  readonly skills: Pick<ImageSkills, 'answer'>
  /** Waits until the container has ended, says how, and removes it; null when it was gone. */
  readonly bury: () => Promise<ContainerEnd | null>
  /** Ends and removes it whatever it does; resolves when it is gone, and rejects where the engine does not do it. */
  readonly remove: () => Promise<void>
}

export interface AttachedMachine extends Omit<Machine, 'obtained'> {
  /** Resolves with the boot id when it is primed, and undefined when it ended before. */
  readonly primed: Promise<string | undefined>
  /** How the skills of its job start; before any other line, and once. */
  provide(skills: SkillsLine): void
}

/** Takes over the stream of a container that is about to start. */
export function openAttachedMachine({ stream, skills, bury, remove }: AttachedMachineOptions): AttachedMachine {
  const output = new PassThrough()
  const heard = { stderr: '', isDestroyed: false, isAlive: true }
  const broken = read(stream, output, (text) => {
    heard.stderr = `${heard.stderr}${text}`.slice(-STDERR_TAIL_CHARS)
  })
  stream.on('error', () => {})
  const say = (line: InwardLine): void => {
    if (stream.writable) stream.write(printLine(line))
  }
  const ended = (async () => {
    const fault = await broken
    // Without its stream nobody hears it: it ends by itself once its stdin has ended, or is ended.
    stream.destroy()
    if (fault !== undefined) await remove().catch(() => {})
    const end = await bury().catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))))
    heard.isAlive = false
    const stderrTail = heard.stderr.trim()
    if (heard.isDestroyed) return { reason: 'destroyed', stderrTail }
    if (fault !== undefined) return { reason: 'protocol_breach', stderrTail: `${stderrTail} ${fault.message}`.trim() }
    if (end instanceof Error) return { reason: 'engine_unreachable', stderrTail: `${stderrTail} ${end.message}`.trim() }
    return { reason: reasonOf(end), stderrTail }
  })()
  const opening = openingOf(skills.answer(linesFrom(output), say))
  return {
    primed: opening.primed,
    lines: opening.lines,
    ended,
    // The engine counts them only when it is asked; a machine that lives has at least one.
    processes: () => (heard.isAlive ? 1 : 0),
    provide: say,
    send: (line: HostLine) => say(line),
    get unreadBytes() {
      return stream.writableLength
    },
    destroy: async () => {
      heard.isDestroyed ||= heard.isAlive
      // Where the engine does not do it, the machine does, without its stdin (P8.2).
      if (heard.isAlive) await remove().catch(() => stream.destroy())
      await ended
    },
  }
}

/** Why a container ended, as a word that tells an operator what to do. */
export function reasonOf(end: ContainerEnd | null): string {
  if (end === null) return 'removed'
  if (end.oom && end.exitCode !== 0) return 'oom'
  const reason = EXIT_REASONS[end.exitCode]
  if (reason !== undefined) return reason
  return end.exitCode > 128 ? `signal ${end.exitCode - 128}` : `exit code ${end.exitCode}`
}

/** Carries what the container writes to where it belongs; resolves at the end of it, with what was wrong with it. */
async function read(
  stream: Duplex,
  output: PassThrough,
  complain: (text: string) => void,
): Promise<PlatformError | undefined> {
  const frames = new StreamFrames()
  const decoder = new TextDecoder()
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      for (const { stream: which, bytes } of frames.push(chunk)) {
        if (which === 'err') complain(decoder.decode(bytes, { stream: true }))
        else if (!output.write(bytes)) await drained(output)
      }
    }
    return undefined
  } catch (error) {
    // A connection that breaks off is an end like any other.
    return error instanceof PlatformError ? error : undefined
  } finally {
    output.end()
  }
}

async function drained(stream: PassThrough): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.once('drain', resolve).once('close', resolve)
  await promise
  stream.off('drain', resolve).off('close', resolve)
}

async function* linesFrom(output: Readable): AsyncGenerator<MachineLine> {
  for await (const text of linesOf(output, LINE_BYTES_MAX)) {
    const line = isLineFault(text) ? text : parseMachineLine(text)
    if (isLineFault(line)) throw new PlatformError('protocol_breach', `The machine broke P2.6: ${line.message}`)
    yield line
  }
}

/** Reads until the machine is primed or somebody reads on, and gives every line once. */
function openingOf(lines: AsyncGenerator<MachineLine>): {
  readonly primed: Promise<string | undefined>
  readonly lines: AsyncIterable<MachineLine>
} {
  const read: MachineLine[] = []
  const primed = (async () => {
    let bootId: string | undefined
    for (;;) {
      const found = await lines.next()
      if (found.done === true) return undefined
      read.push(found.value)
      if (found.value.type === 'ready') bootId = found.value.bootId
      if (found.value.type === 'alive') return bootId
    }
  })()
  const settled = primed.catch(() => undefined)
  async function* all(): AsyncGenerator<MachineLine> {
    await settled
    yield* read.splice(0)
    await primed
    yield* lines
  }
  return { primed: settled, lines: all() }
}
