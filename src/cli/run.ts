/** `senmon run`: creates a job and shows it. */
import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { toShownJob, JOB_FIELDS } from './api.ts'
import { BUDGET_OPTIONS, parseBudget } from './budget.ts'
import { parseCount, type Call, type Command } from './command.ts'
import { follow } from './follow.ts'
import { styled } from './terminal.ts'

const CREATE = `mutation ($input: CreateJobInput!) { createJob(input: $input) {
  __typename ... on Job { ${JOB_FIELDS} } ... on Refusal { code sentence: message } } }`

export const run: Command = {
  name: 'run',
  usage: '<expert> "<query>"',
  summary: 'Creates a job and shows it: a line for every step, and the result at the end.',
  details: `Files are read-only for the job, under /workspace/input. At a terminal, questions are asked here; elsewhere
the command says how to answer and exits with 5. Ctrl-C detaches, twice cancels.`,
  options: {
    file: { type: 'string', multiple: true, value: 'path[=name]', help: 'A file for the job; may be repeated.' },
    model: { type: 'string', value: 'provider/model', help: "The model, in place of the expert's own." },
    'max-steps': { type: 'string', value: 'n', help: 'The most steps that all runs may take together.' },
    ...BUDGET_OPTIONS,
    user: { type: 'string', value: 'id', help: 'The end user on whose behalf this is.' },
    detach: { type: 'boolean', help: "Print the job's id and leave." },
  },
  arity: [1, 2],
  async perform(call) {
    const [expertKey = '', query = null] = call.positionals
    const api = await call.api()
    const maxSteps = parseCount('max-steps', call.text('max-steps'))
    const input = {
      expertKey,
      query,
      files: await readFiles(call),
      idempotencyKey: call.makeIdempotencyKey(),
      ...(call.text('user') === undefined ? {} : { userId: call.text('user') ?? null }),
      ...(call.text('model') === undefined ? {} : { model: call.text('model') ?? null }),
      ...(maxSteps === undefined ? {} : { maxSteps }),
      ...parseBudget(call.text('budget-usd'), call.texts('budget')),
    }
    const job = toShownJob(await api.mutate('createJob', CREATE, { input }))
    if (call.flag('detach')) {
      call.terminal.write(call.json ? `${JSON.stringify(job)}\n` : `${job.id}\n`)
      return 0
    }
    if (!call.json) call.terminal.note(`${styled(call.terminal, 'dim', `${job.id} ${job.expertKey}`)}\n`)
    return follow(call, api, job.id, 0)
  },
}

/** `path=name`, or `path`, whose name is then its last part. */
async function readFiles(call: Call): Promise<readonly { path: string; base64: string }[]> {
  const files: { path: string; base64: string }[] = []
  for (const text of call.texts('file')) {
    const at = text.lastIndexOf('=')
    const from = at > 0 ? text.slice(0, at) : text
    const path = at > 0 ? text.slice(at + 1) : basename(text)
    let bytes
    try {
      bytes = await readFile(resolve(call.directory, from))
    } catch (cause) {
      throw new PlatformError('input_invalid', `The file ${from} cannot be read.`, { cause })
    }
    files.push({ path, base64: bytes.toString('base64') })
  }
  return files
}
