/** Checkpoints: what a run knew at the end of each step, as a query's page and as a stream. */
import { shareOf } from '../../schema/context.ts'
import type { Prompt } from '../../schema/message.ts'
import type { SentPrompt } from '../../schema/sent-prompt.ts'
import type { RunContext } from '../job/run-context.ts'
import { openCheckpoints, parseCheckpointId, type Checkpoint } from '../job/checkpoint.ts'
import { afterSchema, builder } from './builder.ts'
import type { Call } from '../pool/call.ts'
import { pageOf, pageRef, type Page } from './page.ts'
import { UsageRef } from './usage.ts'
import { getJobId, watchCheckpoints } from '../job/subscription.ts'

const PromptRef = builder.objectRef<SentPrompt & Prompt>('Prompt').implement({
  description: 'What a generation was asked with: all of it.',
  fields: (t) => ({
    hash: t.exposeString('hash', { description: 'Over the instruction and the tools; the log has it.' }),
    instruction: t.exposeString('instruction', { description: 'The system prompt.' }),
    tools: t.expose('tools', { type: 'JSON' }),
    messages: t.expose('messages', { type: 'JSON', description: 'The messages that followed, in order.' }),
  }),
})

export const ContextRef = builder.objectRef<RunContext>('Context').implement({
  description: 'Tokens that the next generation reads, and how many its model reads at most.',
  fields: (t) => ({
    tokens: t.exposeInt('tokens', { description: 'As the provider counted; of what came since then an estimate.' }),
    window: t.exposeInt('window', { nullable: true, description: 'Null when it is not known.' }),
    share: t.float({
      nullable: true,
      description: 'Of the window that is full: 0.25 is a quarter. Null when the window is not known.',
      resolve: (context) => shareOf(context),
    }),
  }),
})

export const CheckpointRef = builder.objectRef<Checkpoint>('Checkpoint').implement({
  description: "The state of a run at a step's end.",
  fields: (t) => ({
    id: t.exposeID('id'),
    seq: t.exposeInt('seq', { description: 'The position in the log of the job: the cursor of the stream.' }),
    jobId: t.exposeID('jobId'),
    runId: t.exposeID('runId'),
    expertKey: t.exposeString('expertKey'),
    stepNumber: t.exposeInt('stepNumber'),
    status: t.exposeString('status'),
    messages: t.expose('messages', { type: 'JSON', description: 'All messages of the run so far.' }),
    newMessages: t.expose('newMessages', { type: 'JSON', description: 'The messages that this step added.' }),
    toolCalls: t.expose('toolCalls', { type: 'JSON' }),
    toolResults: t.expose('toolResults', { type: 'JSON' }),
    prompt: t.field({
      type: PromptRef,
      nullable: true,
      description: 'What the generation of this step was asked with.',
      complexity: 5,
      resolve: async ({ prompt }, _args, { prompts }) =>
        prompt === null ? null : { ...prompt, ...(await prompts.read(prompt.hash)) },
    }),
    context: t.expose('context', {
      type: ContextRef,
      description: "How full the model's window is for the next step.",
    }),
    compactions: t.exposeInt('compactions', {
      description: 'How often messages of the run were replaced by a summary, up to here.',
    }),
    usage: t.expose('usage', { type: UsageRef, description: 'What this step used.' }),
    treeHash: t.exposeString('treeHash', { nullable: true, description: 'The workspace at that moment.' }),
    stateHash: t.exposeString('stateHash', { description: 'Equal hashes mean equal messages.' }),
    createdAt: t.expose('createdAt', { type: 'DateTime' }),
  }),
})

export const CheckpointConnection = pageRef('Checkpoint', CheckpointRef)

/** How many events are asked for at once when a log is read whole. */
const READ_EVENTS = 1000

/** A job's checkpoints in order, read from its log. */
async function* readCheckpoints({ jobs, caller }: Call, jobId: Checkpoint['jobId']): AsyncGenerator<Checkpoint> {
  const checkpoints = openCheckpoints(jobId)
  for (let after = 0; ;) {
    const events = await jobs.events(caller.application.id, jobId, after, READ_EVENTS)
    for (const event of events) {
      const checkpoint = checkpoints.add(event)
      if (checkpoint !== undefined) yield checkpoint
    }
    after = events.at(-1)?.seq ?? after
    if (events.length < READ_EVENTS) return
  }
}

/** A page of a job's checkpoints, or of one of its runs. `after` is a checkpoint's seq. */
export async function listCheckpoints(
  context: Call,
  jobId: Checkpoint['jobId'],
  page: { readonly first: number; readonly after: number; readonly runId: string | null },
): Promise<Page<Checkpoint>> {
  const found: Checkpoint[] = []
  for await (const checkpoint of readCheckpoints(context, jobId)) {
    if (checkpoint.seq <= page.after || (page.runId !== null && checkpoint.runId !== page.runId)) continue
    found.push(checkpoint)
    if (found.length > page.first) break
  }
  return pageOf(found, page.first, ({ seq }) => String(seq))
}

builder.queryField('checkpoint', (t) =>
  t.field({
    type: CheckpointRef,
    nullable: true,
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, context) => {
      const parsed = parseCheckpointId(id)
      if (parsed === undefined) return null
      if ((await context.jobs.find(context.caller.application.id, parsed.jobId)) === undefined) return null
      for await (const checkpoint of readCheckpoints(context, parsed.jobId))
        if (checkpoint.seq >= parsed.seq) return checkpoint.id === id ? checkpoint : null
      return null
    },
  }),
)

builder.subscriptionField('checkpoints', (t) =>
  t.field({
    type: CheckpointRef,
    description:
      'One per finished step of any run, from the beginning or after a seq; completes when the job has finished.',
    args: {
      jobId: t.arg.id({ required: true }),
      after: t.arg.int({ defaultValue: 0, validate: afterSchema }),
    },
    subscribe: async (_root, { jobId, after }, context) =>
      watchCheckpoints(context, await getJobId(context, jobId), Math.max(after ?? 0, context.lastEventId)),
    resolve: (checkpoint, _args, { cursor }) => {
      cursor.seq = checkpoint.seq
      return checkpoint
    },
  }),
)
