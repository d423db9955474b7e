/** `senmon fork`: a new job that goes on from a checkpoint of another, as it was or with something changed. */
import { PlatformError } from '../../schema/error.ts'
import type { JsonObject } from '../../schema/json.ts'
import { JOB_FIELDS, toShownJob } from './api.ts'
import { BUDGET_OPTIONS, parseBudget } from './budget.ts'
import { parseCount, type Call, type Command } from './command.ts'
import { follow, parseJobId } from './follow.ts'
import { readInstruction } from './instruction.ts'
import { shown, styled } from './terminal.ts'
import { compareFork, printComparison } from './what-if.ts'

const FORK = `mutation ($input: ForkJobInput!) { forkJob(input: $input) {
  __typename ... on Job { ${JOB_FIELDS} } ... on Refusal { code sentence: message } } }`

export const fork: Command = {
  name: 'fork',
  usage: '<job> ["<query>"]',
  summary: 'Makes a new job that goes on from a checkpoint of another, files included; the other stays as it is.',
  details: `Without a query the fork does what was open at the checkpoint; with one, that is dropped and the coordinator
is asked anew. A budget is given in new totals, which count what was used before the checkpoint. --what-if makes sure
that something is changed, an instruction or a model, follows the fork to its end and shows step by step where it parts
from the other job.`,
  options: {
    at: { type: 'string', value: 'checkpoint|seq', help: 'The checkpoint to go on from (default: the last).' },
    'what-if': { type: 'boolean', help: 'With another instruction or model: show where the two jobs part.' },
    instruction: { type: 'string', value: 'text|@file', help: 'Another instruction for the expert.' },
    expert: { type: 'string', value: 'key', help: 'Whose instruction, by its exact key (default: the coordinator).' },
    model: { type: 'string', value: 'provider/model', help: 'Another model for what is still to be generated.' },
    'max-steps': { type: 'string', value: 'n', help: 'Another limit; steps before the checkpoint count.' },
    ...BUDGET_OPTIONS,
    detach: { type: 'boolean', help: "Print the fork's id and leave." },
  },
  arity: [1, 2],
  async perform(call) {
    const jobId = parseJobId(call.positionals[0])
    const input = { jobId, ...readPlace(call.text('at')), ...(await readChanges(call)) }
    const api = await call.api()
    const made = await api.mutate('forkJob', FORK, {
      input: { ...input, idempotencyKey: call.makeIdempotencyKey() },
    })
    const job = toShownJob(made)
    if (call.flag('detach')) {
      call.terminal.write(call.json ? `${JSON.stringify(job)}\n` : `${job.id}\n`)
      return 0
    }
    if (!call.json) call.terminal.note(`${styled(call.terminal, 'dim', `${job.id} forked from ${jobId}`)}\n`)
    // What was copied is the other job's to show.
    const code = await follow(call, api, job.id, job.revision)
    if (call.flag('what-if')) {
      const comparison = await compareFork(api, job.id)
      call.terminal.write(
        call.json ? `${JSON.stringify(comparison)}\n` : `\n${printComparison(comparison).map(shown).join('\n')}\n`,
      )
    }
    return code
  },
}

function readPlace(at: string | undefined): { readonly seq?: number; readonly checkpointId?: string } {
  if (at === undefined) return {}
  return at.startsWith('chk_') ? { checkpointId: at } : { seq: parseCount('at', at) ?? 0 }
}

async function readChanges(call: Call): Promise<JsonObject> {
  const instruction = call.text('instruction')
  const model = call.text('model')
  const expertKey = call.text('expert')
  const maxSteps = parseCount('max-steps', call.text('max-steps'))
  if (call.flag('what-if') && instruction === undefined && model === undefined)
    throw new PlatformError('input_invalid', '--what-if needs --instruction or --model: what is to be otherwise.')
  return {
    ...(call.positionals[1] === undefined ? {} : { query: call.positionals[1] }),
    ...(instruction === undefined ? {} : { instruction: await readInstruction(call, instruction) }),
    ...(expertKey === undefined ? {} : { expertKey }),
    ...(model === undefined ? {} : { model }),
    ...(maxSteps === undefined ? {} : { maxSteps }),
    ...parseBudget(call.text('budget-usd'), call.texts('budget')),
  }
}
