/** Runs: one expert working through one query, within a job. */
import type { JobId } from '../../schema/id.ts'
import type { RunSummary } from '../job/job-summary.ts'
import { builder, firstSchema, PAGE_DEFAULT } from './builder.ts'
import { CheckpointConnection, ContextRef, listCheckpoints } from './checkpoint.ts'
import { OutcomeRef } from './outcome.ts'
import { parseSeq } from '../job/position.ts'
import { UsageRef } from './usage.ts'

/** A run with the job that it belongs to. */
export interface RunOfJob extends RunSummary {
  readonly jobId: JobId
}

const RunStatusRef = builder.enumType('RunStatus', { values: ['running', 'waiting', 'finished'] as const })

export const RunRef = builder.objectRef<RunOfJob>('Run').implement({
  description: 'One expert working through one query. A delegation opens a run; the coordinator has the first.',
  fields: (t) => ({
    id: t.exposeID('id'),
    expertKey: t.exposeString('expertKey'),
    parentRunId: t.exposeID('parentRunId', { nullable: true }),
    query: t.exposeString('query'),
    status: t.expose('status', { type: RunStatusRef }),
    outcome: t.expose('outcome', { type: OutcomeRef, nullable: true }),
    reason: t.exposeString('reason', { nullable: true }),
    result: t.exposeString('result', { nullable: true }),
    resultJson: t.field({
      type: 'JSON',
      nullable: true,
      description: 'The result as data, of an expert with an outputJsonSchema.',
      resolve: ({ structured }) => structured ?? null,
    }),
    steps: t.exposeInt('steps', { description: 'Steps taken so far.' }),
    usage: t.field({
      type: UsageRef,
      nullable: true,
      description: "What its own generations took, without its delegates'.",
      resolve: (run) => run.usage ?? null,
    }),
    context: t.field({
      type: ContextRef,
      nullable: true,
      description: "How full its model's window is.",
      resolve: (run) => run.context ?? null,
    }),
    checkpoints: t.field({
      type: CheckpointConnection,
      args: {
        first: t.arg.int({ defaultValue: PAGE_DEFAULT, validate: firstSchema }),
        after: t.arg.id(),
      },
      complexity: ({ first }) => ({ field: 1, multiplier: first ?? PAGE_DEFAULT }),
      resolve: (run, { first, after }, context) =>
        listCheckpoints(context, run.jobId, { first: first ?? PAGE_DEFAULT, after: parseSeq(after), runId: run.id }),
    }),
  }),
})
