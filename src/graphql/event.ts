/** The log of a job, event by event, as a stream; fragments of output are mixed in while they are written. */
import { afterSchema, builder } from './builder.ts'
import { getJobId, watchEvents, type ShownEvent } from '../job/subscription.ts'

const JobEventRef = builder.objectRef<ShownEvent>('JobEvent').implement({
  description:
    'A fact that happened. One with the type `delta` is a fragment of output that was never recorded: it carries the seq and hash of the last event, and a resumed stream does not repeat it.',
  fields: (t) => ({
    seq: t.exposeInt('seq'),
    type: t.exposeString('type'),
    runId: t.exposeID('runId', { nullable: true }),
    expertKey: t.exposeString('expertKey', { nullable: true }),
    stepNumber: t.exposeInt('stepNumber', { nullable: true }),
    at: t.expose('at', { type: 'DateTime' }),
    data: t.expose('data', { type: 'JSON' }),
    hash: t.exposeString('hash'),
  }),
})

builder.subscriptionField('events', (t) =>
  t.field({
    type: JobEventRef,
    description: 'Every event, from the beginning or after a seq; completes when the job has finished.',
    args: {
      jobId: t.arg.id({ required: true }),
      after: t.arg.int({ defaultValue: 0, validate: afterSchema }),
    },
    subscribe: async (_root, { jobId, after }, context) =>
      watchEvents(context, await getJobId(context, jobId), Math.max(after ?? 0, context.lastEventId)),
    resolve: (event, _args, { cursor }) => {
      cursor.seq = event.seq
      return event
    },
  }),
)
