/** The program inside a machine's runner compartment: lines in on stdin, lines out on stdout, and nothing else. */
import { parseSupervisorLine, printLine } from '../schema/control-line.ts'
import type { RunnerLine, SupervisorLine } from '../schema/control.ts'
import type { Clock } from '../schema/clock.ts'
import { eachLine, isLineFault, LineQueue, type LineFault } from '../schema/lines.ts'
import { deadlines } from './config.ts'
import { collectGarbage, forgetBeginning } from './garbage.ts'
import { begin, timeless } from './heap.ts'
import { prime } from './prime.ts'
import { runJob, type RunnerPorts } from './run/runner.ts'
import { openSkills } from './skill/skills.ts'
import { setTimeout as sleep } from 'node:timers/promises'

/** Says that a job waits already: making ready for it would only keep it waiting. */
const UNPRIMED = '--unprimed'

const clock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
}

function supervisorLines(): LineQueue<SupervisorLine> {
  const lines = new LineQueue<SupervisorLine>()
  const take = (text: string | LineFault): Promise<void> | undefined => {
    const line = isLineFault(text) ? text : parseSupervisorLine(text)
    if (!isLineFault(line)) return lines.push(line)
    if (line.fault !== 'unknown_type') throw new Error(line.message)
    return undefined
  }
  eachLine(process.stdin, take).then(
    () => lines.end(),
    (error: unknown) => lines.fail(error),
  )
  return lines
}

/** Lines that are said in one turn go out as one write: each costs a system call here and a wake-up there. */
function openOutput(): { readonly send: (line: RunnerLine) => void; readonly flush: () => void } {
  let waiting = ''
  const flush = (): void => {
    const text = waiting
    waiting = ''
    if (text !== '') process.stdout.write(text)
  }
  return {
    send(line) {
      if (waiting === '') queueMicrotask(flush)
      waiting += printLine(line)
    },
    flush,
  }
}

const skillsBy =
  (by: Clock) =>
  (say: (line: RunnerLine) => void): RunnerPorts['openSkills'] =>
  ({ jobId, lock }, state) =>
    openSkills({
      jobId,
      lock,
      send: say,
      clock: by,
      deadlines,
      recorded: (expertKey, skill) => state.listed[expertKey]?.[skill],
    })

/** Exit codes: 0 after `done`, 1 otherwise, with the reason on stderr, which the supervisor keeps for operators. */
async function main(): Promise<number> {
  const { send, flush } = openOutput()
  try {
    if (!process.argv.includes(UNPRIMED)) {
      forgetBeginning()
      await prime(clock, skillsBy(clock))
      collectGarbage()
    }
    await runJob(supervisorLines(), { send, clock, openSkills: skillsBy(clock)(send) })
    flush()
    return 0
  } catch (error) {
    flush()
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    return 1
  }
}

// Whatever still waits, for a skill or a line, is of no interest any more; what was written must be out first.
const run = (): void => void main().then((code) => process.stdout.write('', () => process.exit(code)))
begin(run, () => prime(timeless, skillsBy(timeless)))
