/** The runner's own skill client in front of a real machine: what a run would get from `list` and `call`. */
import { openSkills, type OpenSkills } from '../../runner/skill/skills.ts'
import type { RunnerLine, StartLine, SupervisorLine } from '../../schema/control.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import type { Elicited } from '../../schema/elicitation.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolDefinition, ToolResultPart } from '../../schema/message.ts'
import { rootRunId } from '../../schema/question.ts'
import type { SkillFault, SkillQuestion } from '../../runner/run/perform.ts'
import { JOB_ID, type MachineDrive } from './machine-drive.ts'
import { HOUR_MS, leapClock } from './leap-clock.ts'
import { until } from './patience.ts'

const never = new AbortController().signal

export interface SkillDrive {
  readonly list: (skill: string) => Promise<readonly ToolDefinition[] | SkillFault>
  readonly call: (
    skill: string,
    tool: string,
    args?: Json,
    signal?: AbortSignal,
  ) => Promise<ToolResultPart | SkillFault>
  /** A call whose skill may ask, with what it asked before. */
  readonly callAsking: (
    skill: string,
    tool: string,
    elicited: readonly Elicited[],
  ) => Promise<ToolResultPart | SkillFault | SkillQuestion>
  /** Lets the time go by that a start, or a call without a word, may take; by default all of it. */
  readonly pass: (share?: number) => void
  /** Resolves when the client has sent so many lines that fit: from then on it waits for what they bring. */
  readonly untilSent: (fits: (line: RunnerLine) => boolean, count?: number) => Promise<void>
}

/** Starts the machine with `lock` and speaks for its coordinator; no deadline comes but by `pass`. */
export function driveSkills(drive: MachineDrive, lock: Lock, more: Partial<StartLine> = {}): SkillDrive {
  drive.start(lock, more)
  const clock = leapClock()
  const sent: RunnerLine[] = []
  const skills = openSkills({
    jobId: JOB_ID,
    lock,
    send: (line) => {
      sent.push(line)
      drive.say(line as unknown as JsonObject) // a line is JSON
    },
    clock,
    deadlines: { initializeMs: HOUR_MS, callMs: HOUR_MS },
    recorded: () => undefined,
  })
  void hear(drive, skills).catch(() => {}) // the machine has ended
  const expertKey: ExpertKey = lock.coordinator
  let calls = 0
  const make = (skill: string, tool: string, args: Json, signal: AbortSignal, elicited: readonly Elicited[]) => {
    const part = { type: 'toolCall', callId: `call_1_${calls++}`, name: `${skill}/${tool}`, args } as const
    return skills.call(expertKey, skill, tool, { ...part, runId: rootRunId(JOB_ID, 0) }, signal, elicited)
  }
  return {
    list: (skill) => skills.list(expertKey, skill, never),
    async call(skill, tool, args = {}, signal = never) {
      const answer = await make(skill, tool, args, signal, [])
      if ('asks' in answer) throw new Error(`${tool} asks: ${answer.asks[0]?.asked.message}`)
      return answer
    },
    callAsking: (skill, tool, elicited) => make(skill, tool, {}, never, elicited),
    pass: (share = 1) => clock.leap(share * HOUR_MS),
    untilSent: (fits, count = 1) => until(() => sent.filter(fits).length >= count),
  }
}

async function hear(drive: MachineDrive, skills: OpenSkills): Promise<never> {
  for (let at = 0; ; at++) {
    await drive.untilHeard(() => drive.heard.length > at)
    const line = drive.heard[at] ?? {}
    const { type } = line
    const isCompartments = type === 'opened' || type === 'closed' || type === 'frame'
    if (isCompartments) skills.receive(line as unknown as Extract<SupervisorLine, { type: 'opened' }>) // by its type
  }
}
