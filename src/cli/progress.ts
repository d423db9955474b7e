/** What a person reads while a job runs: events in, lines out. Pure; the same for a live job and for its log. */
import { editedArgs } from '../../schema/approval.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { ShownEvent } from './api.ts'
import { shown, shownLine } from './terminal.ts'

export interface Line {
  readonly tone: 'plain' | 'step' | 'event' | 'question' | 'warning' | 'result' | 'failure'
  readonly text: string
}

interface RunProgress {
  readonly depth: number
  /** When the step now running began; epoch ms. */
  readonly since: number
  readonly calls: readonly ShownCall[]
}

interface ShownCall {
  readonly id: string
  readonly name: string
  readonly args: Json
  /** The human who approved it gave other arguments than the model, which are these. */
  readonly isEdited: boolean
}

/** The call that waits for an answer, and whether it is a question of approval. */
interface Asked {
  readonly runId: string
  readonly callId: string
  readonly isApproval: boolean
}

export interface Progress {
  readonly runs: Readonly<Record<string, RunProgress>>
  readonly questions: Readonly<Record<string, Asked>>
}

export const noProgress: Progress = { runs: {}, questions: {} }

const CALL_WIDTH = 60
const QUESTION_WIDTH = 200

/** The lines that an event is worth, and the progress after it. */
export function advance(progress: Progress, event: ShownEvent): { progress: Progress; lines: readonly Line[] } {
  const at = Date.parse(event.at)
  const run = event.runId === null ? undefined : progress.runs[event.runId]
  const put = (next: RunProgress): Progress =>
    event.runId === null ? progress : { ...progress, runs: { ...progress.runs, [event.runId]: next } }
  const say = (tone: Line['tone'], text: string, after = progress) => ({ progress: after, lines: [{ tone, text }] })
  const margin = '  '.repeat((run?.depth ?? 0) + 1)
  const data = event.data

  switch (event.type) {
    case 'runStarted': {
      const depth = typeof data['depth'] === 'number' ? data['depth'] : 0
      const after = put({ depth, since: at, calls: [] })
      const query = shownLine(text(data['query']), 80)
      return say('event', `${'  '.repeat(depth)}→ ${expertOf(event)}: ${query}`, after)
    }
    case 'generated': {
      const calls = parts(data).flatMap((part) => (part['type'] === 'toolCall' ? [callOf(part)] : []))
      return { progress: put({ depth: run?.depth ?? 0, since: run?.since ?? at, calls }), lines: [] }
    }
    case 'stepFinished': {
      // The server's clock may be set back meanwhile.
      const seconds = `${(Math.max(0, at - (run?.since ?? at)) / 1000).toFixed(1)} s`
      const calls = run === undefined || run.calls.length === 0 ? 'answered' : run.calls.map(shortCall).join(' · ')
      const after = put({ depth: run?.depth ?? 0, since: at, calls: [] })
      return say('step', `${margin}step ${event.stepNumber} ${expertOf(event)} ${calls} (${seconds})`, after)
    }
    case 'runFinished':
      return (run?.depth ?? 0) === 0
        ? { progress, lines: [] }
        : say('event', `${'  '.repeat(run?.depth ?? 0)}← ${expertOf(event)} ${shownLine(text(data['outcome']))}`)
    case 'questionAsked': {
      const question = isJsonObject(data['question']) ? data['question'] : {}
      const isApproval = question['kind'] === 'confirm'
      const asked = { runId: event.runId ?? '', callId: text(question['callId']), isApproval }
      const after = { ...progress, questions: { ...progress.questions, [text(question['id'])]: asked } }
      const title = shownLine(text(question['title']), QUESTION_WIDTH)
      return say('question', `${margin}? ${expertOf(event)} asks: ${title}`, after)
    }
    case 'answered':
      return answered(progress, data)
    case 'outputRejected':
      return say('warning', `${margin}! ${expertOf(event)} ${shownLine(text(data['message']), QUESTION_WIDTH)}`)
    case 'questionExpired':
      return say('warning', `${margin}! no answer came in time`)
    case 'skillFailed':
      return say('warning', `${margin}! skill ${shownLine(text(data['skill']))}: ${shown(text(data['message']))}`)
    case 'generationFailed':
      return say('warning', `${margin}! model ${shownLine(text(data['model']))}: ${shown(text(data['message']))}`)
    case 'jobContinued': {
      const how = data['mode'] === 'interrupt' ? 'interrupts' : 'waits to be read'
      const query = shownLine(text(data['query']), QUESTION_WIDTH)
      return data['mode'] === undefined ? { progress, lines: [] } : say('event', `> ${how}: ${query}`)
    }
    case 'steered': {
      const queries = Array.isArray(data['queries']) ? (data['queries'] as readonly Json[]) : []
      const said = queries.map((query) => shownLine(text(query), QUESTION_WIDTH)).join(' · ')
      return say('event', `${margin}> ${expertOf(event)} reads: ${said}`)
    }
    case 'compacted':
      return say('event', `${margin}= ${expertOf(event)} goes on from a summary of its conversation`)
    case 'compactionFailed':
      return say(
        'warning',
        `${margin}! no summary from ${shownLine(text(data['model']))}: ${shown(text(data['message']))}`,
      )
    case 'leaseExpired':
      return say('warning', `! the machine is gone: ${shownLine(lastWords(data), QUESTION_WIDTH)}`)
    case 'machineStarted': {
      // What a step waited for without a machine is no time of its.
      const since = Object.entries(progress.runs).map(([id, one]) => [id, { ...one, since: at }] as const)
      const after = { ...progress, runs: Object.fromEntries(since) }
      return say('plain', `machine ${shownLine(text(data['host']))} ${shownLine(text(data['resume']))}`, after)
    }
    case 'cancelRequested':
      return say('warning', `! cancel: ${shownLine(text(data['reason']))}`)
    case 'jobFinished':
      return { progress, lines: lastLines(data) }
    default:
      return { progress, lines: [] }
  }
}

/** The reason, and what the machine said last. */
function lastWords(data: JsonObject): string {
  return [text(data['reason']), text(data['detail'])].filter((part) => part !== '').join(': ')
}

function lastLines(data: JsonObject): readonly Line[] {
  if (data['outcome'] === 'completed') return [{ tone: 'result', text: shown(text(data['result'])) }]
  const why = [text(data['reason']), text(data['message'])].filter((part) => part !== '').join(': ')
  return [{ tone: 'failure', text: `${text(data['outcome'])}: ${shown(why)}` }]
}

function parts(data: JsonObject): readonly JsonObject[] {
  return Array.isArray(data['parts']) ? (data['parts'] as readonly Json[]).filter(isJsonObject) : []
}

/** An answer; a call that was approved with other arguments is shown with those from now on. */
function answered(progress: Progress, data: JsonObject): { progress: Progress; lines: readonly Line[] } {
  const asked = progress.questions[text(data['questionId'])]
  const { runId, callId } = asked ?? { runId: '', callId: '' }
  const run = progress.runs[runId]
  const call = asked?.isApproval === true ? run?.calls.find(({ id }) => id === callId) : undefined
  const margin = '  '.repeat((run?.depth ?? 0) + 1)
  const args = editedArgs(data['value'] ?? null)
  if (run === undefined || call === undefined || args === undefined)
    return {
      progress,
      lines: [{ tone: 'event', text: `${margin}! answered: ${shownLine(JSON.stringify(data['value']))}` }],
    }
  const edited = { ...call, args, isEdited: true }
  const calls = run.calls.map((one) => (one === call ? edited : one))
  return {
    progress: { ...progress, runs: { ...progress.runs, [runId]: { ...run, calls } } },
    lines: [{ tone: 'event', text: `${margin}! approved with other arguments: ${printCall(edited, QUESTION_WIDTH)}` }],
  }
}

function callOf(part: JsonObject): ShownCall {
  const { callId, name, args = null } = part
  return { id: text(callId), name: text(name), args, isEdited: false }
}

function shortCall(call: ShownCall): string {
  return `${printCall(call, CALL_WIDTH)}${call.isEdited ? ' as edited by a human' : ''}`
}

/** `files/read_file(input/payments.js)`: the name, and the arguments' values as far as they fit. */
function printCall({ name, args }: ShownCall, width: number): string {
  const values = isJsonObject(args) ? Object.values(args) : [args]
  const inside = values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(', ')
  return `${shownLine(name)}(${shownLine(inside, width)})`
}

function expertOf(event: ShownEvent): string {
  return shownLine(event.expertKey ?? '')
}

function text(value: Json | undefined): string {
  return typeof value === 'string' ? value : ''
}
