/**
 * A job, shown while it runs: until it has finished, or waits for an answer that nobody here can give.
 * One interrupt detaches and leaves the job running; a second within DETACH_MS cancels it.
 */
import { KINDS, CATALOGUE, isErrorCode, isRefusal, PlatformError } from '../../schema/error.ts'
import type { JsonObject } from '../../schema/json.ts'
import { toShownJob, JOB_FIELDS, type Api, type ShownEvent, type ShownJob, type ShownQuestion } from './api.ts'
import { optionsOf, parseAnswer, promptFor } from './answer-value.ts'
import { printCost, printHowToRaise } from './budget.ts'
import { exitCodeOf, type Call } from './command.ts'
import { advance, noProgress, type Line } from './progress.ts'
import { shown, shownLine, styled, type Terminal } from './terminal.ts'

const DETACH_MS = 2_000
/** Between two looks at a job whose stream ended although the job goes on. */
const RETRY_MS = 500
/** What shells give a program that SIGINT ended. */
const EXIT_INTERRUPTED = 130

const CONTINUE = `mutation ($input: ContinueJobInput!) { continueJob(input: $input) {
  __typename ... on Job { ${JOB_FIELDS} } ... on Refusal { code sentence: message } } }`
const CANCEL = `mutation ($input: CancelJobInput!) { cancelJob(input: $input) {
  __typename ... on Job { ${JOB_FIELDS} } ... on Refusal { code sentence: message } } }`

/** Sends an answer, a query or more steps. Throws what the API refuses. */
export async function continueJob(api: Api, input: JsonObject): Promise<ShownJob> {
  return toShownJob(await api.mutate('continueJob', CONTINUE, { input }))
}

export async function cancelJob(api: Api, jobId: string): Promise<ShownJob> {
  return toShownJob(await api.mutate('cancelJob', CANCEL, { input: { jobId } }))
}

/** Shows everything after `after`; resolves to the exit code. */
export async function follow(call: Call, api: Api, jobId: string, after: number): Promise<number> {
  const { terminal, clock } = call
  const stop = new AbortController()
  let interrupts = 0
  let canceling: Promise<unknown> = Promise.resolve()
  const stopListening = terminal.onInterrupt(() => {
    interrupts += 1
    if (interrupts === 1) {
      terminal.note(
        `\nDetaching: ${jobId} goes on; \`senmon log ${jobId} --follow\` shows it. ` +
          `Interrupt again within ${DETACH_MS / 1000} s to cancel it.\n`,
      )
      void clock.sleep(DETACH_MS).then(() => stop.abort())
    } else if (interrupts === 2) {
      canceling = cancelJob(api, jobId).then(
        () => terminal.note(`Canceled ${jobId}.\n`),
        (error: unknown) => terminal.note(`${error instanceof Error ? shown(error.message) : 'no answer'}\n`),
      )
      void canceling.finally(() => stop.abort())
    }
  })
  try {
    const code = await watch(call, api, jobId, after, stop.signal)
    await canceling
    return code ?? EXIT_INTERRUPTED
  } finally {
    stopListening()
  }
}

/** undefined when the signal ended it. */
async function watch(
  call: Call,
  api: Api,
  jobId: string,
  after: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  const show = call.json ? showJson(call.terminal) : showText(call.terminal, after)
  // What a call was, and who asked, stands before what is shown.
  let cursor = call.json ? after : 0
  for (;;) {
    let rested = false
    for await (const event of api.events(jobId, cursor, signal)) {
      if (event.type !== 'delta') cursor = event.seq
      show(event)
      rested = event.type === 'jobRested' && event.seq > after
      if (rested) break
    }
    if (signal.aborted) return undefined
    const job = await api.job(jobId)
    // The stream ended while the job goes on (a server that restarts), or a late watcher met an old rest.
    if (job.revision > cursor) continue
    if (job.status === 'finished') {
      if (!call.json) call.terminal.note(`${printHint(job)}${styled(call.terminal, 'dim', printCost(job))}\n`)
      return exitCodeOfJob(job)
    }
    if (job.status !== 'waiting') {
      await call.clock.sleep(RETRY_MS, signal).catch(() => undefined)
      continue
    }
    if (!(await answerHere(call, api, job))) return exitCodeOf('job_waiting')
  }
}

/** Puts the open questions to the person; false when nobody here can answer them. */
async function answerHere(call: Call, api: Api, job: ShownJob): Promise<boolean> {
  const open = openQuestions(job)
  if (!call.terminal.isInteractive || call.json) {
    if (!call.json) for (const question of open) call.terminal.note(printHowToAnswer(job.id, question))
    return false
  }
  for (const question of open) {
    call.terminal.note(printQuestion(question))
    for (;;) {
      const typed = await call.terminal.ask(promptFor(question))
      if (typed === undefined) {
        call.terminal.note(printHowToAnswer(job.id, question))
        return false
      }
      const answer = parseAnswer(question, typed, false)
      if (isRefusal(answer)) {
        call.terminal.note(`${shown(answer.message)}\n`)
        continue
      }
      const { id: questionId, argsHash } = question
      await continueJob(api, { jobId: job.id, answer: { questionId, value: answer.value, argsHash } })
      break
    }
  }
  return open.length > 0
}

export function openQuestions(job: ShownJob): readonly ShownQuestion[] {
  return job.questions.filter((question) => question.answeredAt === null && (question.withdrawnAt ?? null) === null)
}

/** The title has the arguments in it already; what an answer must look like it does not. */
function printQuestion(question: ShownQuestion): string {
  return `\n${shown(question.title)}\n${printSchema(question)}${printOptions(question)}`
}

function printOptions({ schema }: ShownQuestion): string {
  return optionsOf(schema)
    .map((option, i) => `  ${i + 1}. ${shownLine(option)}\n`)
    .join('')
}

/** What an answer must look like that no kind says; a form may be declined. */
function printSchema({ kind, schema, purpose }: ShownQuestion): string {
  if (kind !== 'schema' || purpose === 'budget') return ''
  const [form] = Array.isArray(schema['anyOf']) ? schema['anyOf'] : []
  if (purpose !== 'elicitation' || form === undefined) return `${shown(JSON.stringify(schema, undefined, 2))}\n`
  return `${shown(JSON.stringify(form, undefined, 2))}\nor false to decline\n`
}

const VALUES: Readonly<Record<string, string>> = { confirm: 'yes', choose: '<option>', schema: "'<JSON>'" }

/** What the job waits for, and the command that answers it. */
export function printHowToAnswer(jobId: string, question: ShownQuestion): string {
  if (question.purpose === 'budget')
    return `${jobId} waits: ${shown(question.title)}\n${printHowToRaise(jobId, question)}`
  const value = VALUES[question.kind] ?? '"<answer>"'
  const what = `${shown(question.title)}\n${printSchema(question)}${printOptions(question)}`
  const command = `senmon answer ${jobId} ${question.id}`
  // Only an approval that may be given for other arguments has a schema of several forms.
  const isEditable = question.kind === 'confirm' && 'anyOf' in question.schema
  const edited = isEditable ? `Or with: ${command} --json-value '{"approved":true,"args":{…}}'\n` : ''
  return `${jobId} waits: ${what}Answer with: ${command} ${value}\n${edited}`
}

/** What to do about a job that failed, on a line. */
function printHint({ outcome, reason }: ShownJob): string {
  return outcome === 'failed' && reason !== null && isErrorCode(reason) ? `${CATALOGUE[reason].hint}\n` : ''
}

/** 0 for completed; else what the reason's kind says. */
export function exitCodeOfJob(job: ShownJob): number {
  if (job.outcome === 'completed') return 0
  if (job.outcome === 'canceled') return KINDS.canceled.exitCode
  return job.reason !== null && isErrorCode(job.reason) ? KINDS[CATALOGUE[job.reason].kind].exitCode : 1
}

/** Each event as one line of JSON, as it came. */
export function showJson(terminal: Terminal): (event: ShownEvent) => void {
  return (event) => terminal.write(`${JSON.stringify(event)}\n`)
}

/** Progress to standard error, streamed text dimmed, the result to standard output; of what is after `after`. */
export function showText(terminal: Terminal, after = 0): (event: ShownEvent) => void {
  let progress = noProgress
  let isMidLine = false
  return (event) => {
    if (event.type === 'delta') {
      if (!terminal.isColourful || event.data['kind'] !== 'text') return
      const text = shown(typeof event.data['text'] === 'string' ? event.data['text'] : '')
      terminal.note(styled(terminal, 'dim', text))
      isMidLine = text === '' ? isMidLine : !text.endsWith('\n')
      return
    }
    const { progress: next, lines } = advance(progress, event)
    progress = next
    if (event.seq <= after) return
    if (lines.length > 0 && isMidLine) {
      terminal.note('\n')
      isMidLine = false
    }
    for (const line of lines) writeLine(terminal, line)
  }
}

function writeLine(terminal: Terminal, line: Line): void {
  switch (line.tone) {
    case 'result':
      terminal.write(`${line.text}\n`)
      return
    case 'failure':
      terminal.note(`${styled(terminal, 'red', line.text)}\n`)
      return
    case 'warning':
      terminal.note(`${styled(terminal, 'yellow', line.text)}\n`)
      return
    case 'question':
      terminal.note(`${styled(terminal, 'bold', line.text)}\n`)
      return
    case 'plain':
      terminal.note(`${styled(terminal, 'dim', line.text)}\n`)
      return
    default:
      terminal.note(`${line.text}\n`)
  }
}

/** Refuses what is not the id of a job before it is sent. */
export function parseJobId(text: string | undefined): string {
  if (text !== undefined && /^job_[0-9a-z]{16,40}$/.test(text)) return text
  throw new PlatformError('input_invalid', `"${text ?? ''}" is not the id of a job (job_…).`)
}
