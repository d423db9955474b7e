/** All skills of a machine: routes what the supervisor says to their compartments. */
import type { Clock } from '../../schema/clock.ts'
import type { CompartmentName, RunnerLine, SupervisorLine } from '../../schema/control.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { callKeyOf, effectOf } from '../../schema/effect.ts'
import type { JobId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolDefinition } from '../../schema/message.ts'
import { onOffer, servedSkill } from '../../schema/tool-pin.ts'
import type { Skills } from '../run/perform.ts'
import { Compartment, type Deadlines } from './compartment.ts'
import { noticesOf } from './progress.ts'

export interface SkillsPorts {
  readonly jobId: JobId
  readonly lock: Lock
  readonly send: (line: RunnerLine) => void
  readonly clock: Clock
  readonly deadlines: Deadlines
  /** The tools in the log. */
  readonly recorded: (expertKey: ExpertKey, skill: string) => readonly ToolDefinition[] | undefined
}

export interface OpenSkills extends Skills {
  receive(line: Extract<SupervisorLine, CompartmentName>): void
}

export function openSkills(ports: SkillsPorts): OpenSkills {
  const compartments = new Map<string, Compartment>()

  const of = (expertKey: string, skill: string): Compartment => {
    const key = JSON.stringify([expertKey, skill])
    let compartment = compartments.get(key)
    if (compartment === undefined) {
      const locked = servedSkill(ports.lock, expertKey, skill)
      compartment = new Compartment(
        { expertKey, skill },
        {
          ...ports,
          // One that is in no lock is never opened.
          type: locked?.type ?? 'mcpStdioSkill',
          recorded: () => locked?.tools ?? ports.recorded(expertKey as ExpertKey, skill), // unknown keys find nothing
          offered: (tools) => (locked === undefined ? [] : onOffer(locked, tools)),
        },
      )
      compartments.set(key, compartment)
    }
    return compartment
  }

  return {
    list: (expertKey, skill, signal) => of(expertKey, skill).list(signal),
    call(expertKey, skill, tool, call, signal, elicited = []) {
      const effect = effectOf(servedSkill(ports.lock, expertKey, skill)?.effects, tool)
      // What changes nothing has nothing to recognise.
      const callKey = effect === 'pure' ? null : callKeyOf(ports.jobId, call.runId, call.callId)
      // A call that may be made once cannot be given up and made again: its skill may ask nobody.
      const known = effect === 'once' ? null : elicited
      const { runId, callId } = call
      const hear = noticesOf(ports.clock, (text) => ports.send({ type: 'progress', runId, callId, text }))
      return of(expertKey, skill).call(tool, call, callKey, known, hear, signal)
    },
    receive(line) {
      const compartment = compartments.get(JSON.stringify([line.expertKey, line.skill]))
      switch (line.type) {
        case 'opened':
          return compartment?.opened()
        case 'closed':
          return compartment?.closed(line.code, line.message)
        case 'frame':
          return compartment?.receive(line.frame)
      }
    },
  }
}
