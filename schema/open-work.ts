/** What a job's log leaves open, by one pass over it: what there is to end when the job is canceled. */
import { approvalFor, approvedArgs } from './approval.ts'
import type { CanceledCall, CanceledMachine, CanceledRun, Cancellation } from './cancellation.ts'
import { effectOf } from './effect.ts'
import type { JobEvent } from './event.ts'
import type { QuestionId, RunId } from './id.ts'
import type { Json } from './json.ts'
import type { Lock } from './lock.ts'
import type { ToolCallPart } from './message.ts'
import { servedSkill } from './tool-pin.ts'

/** What a keeper knows of the machine that it ended. */
export interface Stopped {
  readonly machine: CanceledMachine | null
  /** Runs that had a generation under way when the wish came. */
  readonly generating: ReadonlySet<RunId>
}

interface OpenCall {
  readonly part: ToolCallPart
  question: QuestionId | undefined
  isStarted: boolean
}

interface OpenRun extends CanceledRun {
  stepNumber: number
  calls: Map<string, OpenCall>
}

/** What a job's log leaves open, event by event. */
export class OpenWork {
  readonly #runs = new Map<RunId, OpenRun>()
  readonly #questions = new Set<QuestionId>()
  readonly #answers = new Map<QuestionId, Json>()
  #canceledAt: number | undefined

  /** When the job was to be canceled, epoch ms; undefined while nobody wants that. */
  get canceledAt(): number | undefined {
    return this.#canceledAt
  }

  take(event: JobEvent): void {
    switch (event.type) {
      case 'cancelRequested':
        this.#canceledAt = event.at
        return
      case 'answered':
        this.#answers.set(event.data.questionId, event.data.value)
        this.#questions.delete(event.data.questionId)
        return
      case 'questionExpired':
        this.#questions.delete(event.data.questionId)
        return
      case 'jobFinished':
        return this.#forget()
      case 'jobForked':
        this.#canceledAt = undefined
        // An approval of the parent is none in its fork.
        this.#answers.clear()
        if (event.data.query !== null) this.#forget()
        return
      default:
        if (event.runId !== null) this.#takeOfRun(event, event.runId)
    }
  }

  #forget(): void {
    this.#runs.clear()
    this.#questions.clear()
  }

  #takeOfRun(event: JobEvent, runId: RunId): void {
    const opens = event.type === 'runStarted' || event.type === 'generated'
    const blank = { runId, expertKey: event.expertKey ?? '', stepNumber: 0, calls: new Map() }
    // A run whose limit was raised generates again after its end.
    const run = this.#runs.get(runId) ?? (opens ? blank : undefined)
    if (run === undefined) return
    this.#runs.set(runId, run)
    if (event.type === 'questionAsked') this.#questions.add(event.data.question.id)
    if (event.type === 'runFinished') this.#runs.delete(runId)
    take(run, event, this.#canceledAt !== undefined)
  }

  /** The receipt of a job that ends after `durationMs`. */
  receipt(lock: Lock, durationMs: number, { machine, generating }: Stopped): Cancellation {
    const runs = [...this.#runs.values()]
    const calls = runs.flatMap((run) => callsOf(lock, run, this.#answers))
    return {
      durationMs,
      stopped: { runs: runs.map(printRun), questions: [...this.#questions], machine },
      inFlight: { generations: runs.filter(({ runId }) => generating.has(runId)).map(printRun), calls },
      unknown: { calls: calls.filter(({ outcome }) => outcome === 'unknown') },
    }
  }
}

/** Nothing held the job, or whoever did is gone without a word. */
export const NOTHING_STOPPED: Stopped = { machine: null, generating: new Set() }

function printRun({ runId, expertKey, stepNumber }: OpenRun): CanceledRun {
  return { runId, expertKey, stepNumber }
}

function take(run: OpenRun, fact: JobEvent, isCanceled: boolean): void {
  switch (fact.type) {
    case 'generated':
      run.stepNumber = fact.stepNumber ?? run.stepNumber
      run.calls = new Map(
        fact.data.parts.flatMap((part) =>
          part.type === 'toolCall' ? [[part.callId, { part, question: undefined, isStarted: false }]] : [],
        ),
      )
      return
    case 'toolReturned':
      run.calls.delete(fact.data.result.callId)
      return
    case 'questionAsked': {
      const call = run.calls.get(fact.data.question.callId)
      if (call !== undefined && fact.data.question.purpose !== 'outcome') call.question = fact.data.question.id
      return
    }
    case 'callStarted': {
      const call = run.calls.get(fact.data.callId)
      // One that was recorded after the wish was never let through.
      if (call !== undefined && !isCanceled) call.isStarted = true
      return
    }
    default:
  }
}

/** The calls of skills: a delegation is a run, and what asks a human is a question. */
function callsOf(lock: Lock, run: OpenRun, answers: ReadonlyMap<QuestionId, Json>): readonly CanceledCall[] {
  const experts: Readonly<Record<string, Lock['experts'][keyof Lock['experts']]>> = lock.experts
  const expert = Object.hasOwn(experts, run.expertKey) ? experts[run.expertKey] : undefined
  return [...run.calls.values()].flatMap(({ part, question, isStarted }): readonly CanceledCall[] => {
    const slash = part.name.indexOf('/')
    const skill = servedSkill(lock, run.expertKey, part.name.slice(0, Math.max(0, slash)))
    if (expert === undefined)
      return [{ runId: run.runId, callId: part.callId, toolName: part.name, effect: null, outcome: 'unknown' }]
    if (skill === undefined) return []
    const effect = 'effects' in skill ? effectOf(skill.effects, part.name.slice(slash + 1)) : null
    const approval = approvalFor(expert?.approvals, part.name, part.args)
    const answer = question === undefined ? undefined : answers.get(question)
    const isHeld =
      approval !== undefined && (answer === undefined || approvedArgs(approval, part.args, answer) === undefined)
    const outcome = isStarted
      ? 'unknown'
      : isHeld || effect === 'once'
        ? 'notStarted'
        : effect === 'pure'
          ? 'noEffect'
          : 'unknown'
    return [{ runId: run.runId, callId: part.callId, toolName: part.name, effect, outcome }]
  })
}
