/** Jobs: one request each, from submission to outcome. */
import { isRefusal, PlatformError, type Refusal } from '../../schema/error.ts'
import { JOB_STATUSES, type MachineFacts, type SteerMode } from '../../schema/event.ts'
import { parseId } from '../../schema/id.ts'
import { budgetOf } from '../job/job-budget.ts'
import type { JobSummary } from '../job/job-summary.ts'
import { contextOf } from '../job/run-context.ts'
import { builder, firstSchema, PAGE_DEFAULT } from './builder.ts'
import { CheckpointConnection, ContextRef, listCheckpoints } from './checkpoint.ts'
import { CancellationRef } from './cancellation.ts'
import { parseContinueJob, parseCreateJob, parseForkJob, refuseJob } from '../job/job-request.ts'
import { LockRef } from './lock.ts'
import { OutcomeRef } from './outcome.ts'
import { pageOf, pageRef } from './page.ts'
import { parseSeq } from '../job/position.ts'
import { openFirst, QuestionRef } from './question.ts'
import { RefusalRef } from './refusal.ts'
import { RunRef } from './run.ts'
import { BudgetInputRef, JobBudgetRef, UsageRef } from './usage.ts'
import { WorkspaceRef } from './workspace.ts'

const JobStatusRef = builder.enumType('JobStatus', { values: JOB_STATUSES })
const SteerModeRef = builder.enumType('SteerMode', {
  values: {
    queue: { value: 'queue', description: 'It is read before the next generation of the coordinator.' },
    interrupt: { value: 'interrupt', description: 'What is under way is given up for it.' },
  } satisfies { readonly [Mode in SteerMode]: { readonly value: Mode; readonly description: string } },
})
export const ResumeRef = builder.enumType('Resume', { values: ['resumed', 'cold', 'reserve', 'created'] as const })

const PhasesRef = builder.objectRef<NonNullable<MachineFacts['phases']>>('MachinePhases').implement({
  description: 'How long each part of having a machine took, in ms.',
  fields: (t) => ({
    claim: t.exposeFloat('claim', { description: "Until a machine of the pool was this job's." }),
    start: t.exposeFloat('start', { description: 'Until its provider had been asked to start it.' }),
    wake: t.exposeFloat('wake', { description: 'Until the machine itself was there.' }),
  }),
})

const MachineRef = builder.objectRef<MachineFacts>('Machine').implement({
  description: 'The machine that holds the job, or held it last.',
  fields: (t) => ({
    host: t.exposeString('host'),
    resume: t.expose('resume', { type: ResumeRef, description: 'How the machine came to hold the job.' }),
    dispatchMs: t.exposeFloat('dispatchMs', { description: "From the lease to the machine's first line." }),
    bootId: t.exposeString('bootId', { description: 'Which boot answered: the proof of `resume`.' }),
    machineId: t.exposeID('machineId', { nullable: true, description: "The pool's name for it." }),
    phases: t.expose('phases', { type: PhasesRef, nullable: true }),
  }),
})

const ForkedFromRef = builder.objectRef<{ readonly jobId: string; readonly seq: number }>('ForkedFrom').implement({
  description: 'Where a fork goes on from: its log begins with the events of that job up to this seq.',
  fields: (t) => ({ jobId: t.exposeID('jobId'), seq: t.exposeInt('seq') }),
})

const JobRef = builder.objectRef<JobSummary>('Job').implement({
  description: 'One request, from submission to outcome.',
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'lockHash' in value,
  fields: (t) => ({
    id: t.exposeID('id'),
    status: t.expose('status', { type: JobStatusRef }),
    outcome: t.expose('outcome', { type: OutcomeRef, nullable: true }),
    reason: t.exposeString('reason', { nullable: true, description: 'The code that explains status or outcome.' }),
    explanation: t.exposeString('message', { nullable: true, description: 'One sentence that explains the reason.' }),
    expertKey: t.exposeString('expertKey', { description: "The coordinator's exact key." }),
    query: t.exposeString('query', { nullable: true }),
    model: t.exposeString('model', { nullable: true, description: "Overrides each expert's own." }),
    maxSteps: t.exposeInt('maxSteps', { nullable: true }),
    userId: t.exposeID('userId', { nullable: true }),
    steps: t.exposeInt('steps', { description: 'Steps taken by all runs together.' }),
    runs: t.field({ type: [RunRef], resolve: ({ id, runs }) => runs.map((run) => ({ ...run, jobId: id })) }),
    checkpoints: t.field({
      type: CheckpointConnection,
      description: '`after` is the seq of the last one seen.',
      args: {
        first: t.arg.int({ defaultValue: PAGE_DEFAULT, validate: firstSchema }),
        after: t.arg.id(),
      },
      complexity: ({ first }) => ({ field: 1, multiplier: first ?? PAGE_DEFAULT }),
      resolve: (job, { first, after }, context) =>
        listCheckpoints(context, job.id, { first: first ?? PAGE_DEFAULT, after: parseSeq(after), runId: null }),
    }),
    questions: t.field({
      type: [QuestionRef],
      description: 'Open ones first.',
      resolve: ({ questions }) => [...openFirst(questions)],
    }),
    queuedQueries: t.stringList({
      description: 'Queries that were put while the job is open and that no run has read yet.',
      resolve: ({ steering }) => steering?.queued.map(({ query }) => query) ?? [],
    }),
    result: t.exposeString('result', { nullable: true }),
    resultJson: t.field({
      type: 'JSON',
      nullable: true,
      description: 'The result as data, of an expert with an outputJsonSchema.',
      resolve: ({ structured }) => structured ?? null,
    }),
    usage: t.expose('usage', { type: UsageRef }),
    budget: t.field({
      type: JobBudgetRef,
      nullable: true,
      description: 'null for a job without a budget of its own; its experts may have theirs.',
      resolve: (job) => budgetOf(job),
    }),
    context: t.field({
      type: ContextRef,
      nullable: true,
      description: "How full the window of the coordinator's model is; null before its run has begun.",
      resolve: (job) => contextOf(job),
    }),
    machine: t.expose('machine', { type: MachineRef, nullable: true }),
    workspace: t.field({ type: WorkspaceRef, resolve: (job) => job }),
    lock: t.field({
      type: LockRef,
      nullable: true,
      resolve: async (job, _args, { jobs, caller }) => (await jobs.lock(caller.application.id, job.id)) ?? null,
    }),
    cancellation: t.field({
      type: CancellationRef,
      nullable: true,
      description: 'The receipt of a job that was canceled.',
      resolve: (job) => job.cancellation ?? null,
    }),
    forkedFrom: t.field({
      type: ForkedFromRef,
      nullable: true,
      description: 'The job that a fork was made of.',
      resolve: (job) => job.forkedFrom ?? null,
    }),
    imported: t.boolean({
      description: 'A bundle brought it: it can be read and forked, and nothing else.',
      resolve: (job) => job.imported === true,
    }),
    revision: t.exposeInt('revision', { description: 'How many events its log has.' }),
    createdAt: t.expose('createdAt', { type: 'DateTime' }),
    updatedAt: t.expose('updatedAt', { type: 'DateTime' }),
  }),
})

const JobConnection = pageRef('Job', JobRef)

const jobOrRefusal = (name: string) =>
  builder.unionType(name, {
    types: [JobRef, RefusalRef],
    resolveType: (value) => (isRefusal(value) ? RefusalRef : JobRef),
  })
const CreateJobResult = jobOrRefusal('CreateJobResult')
const ContinueJobResult = jobOrRefusal('ContinueJobResult')
const ForkJobResult = jobOrRefusal('ForkJobResult')
const CancelJobResult = jobOrRefusal('CancelJobResult')

const FileInputRef = builder.inputType('FileInput', {
  description: 'A read-only file for the job, under /workspace/input. Either text or base64.',
  fields: (t) => ({ path: t.string({ required: true }), text: t.string(), base64: t.string() }),
})
const AnswerInputRef = builder.inputType('AnswerInput', {
  fields: (t) => ({
    questionId: t.id({ required: true }),
    value: t.field({
      type: 'JSON',
      required: true,
      description: 'confirm: true or false; ask: a string; choose: one of the options; schema: what the schema allows.',
    }),
    argsHash: t.string({ description: "The question's argsHash, to answer exactly what you saw." }),
  }),
})
const CreateJobInput = builder.inputType('CreateJobInput', {
  fields: (t) => ({
    expertKey: t.string({ required: true, description: '`name`, `name@1.2.0`, `name@^1` or `name@tag`.' }),
    query: t.string(),
    files: t.field({ type: [FileInputRef] }),
    userId: t.string({ description: "The application's own name for its end user." }),
    model: t.string({ description: '`provider/model`.' }),
    maxSteps: t.int(),
    budget: t.field({ type: BudgetInputRef, description: 'For all runs together. When it is used up, the job asks.' }),
    idempotencyKey: t.string({ description: 'The same key and input give the same job again.' }),
  }),
})
const ContinueJobInput = builder.inputType('ContinueJobInput', {
  description: 'A new query, an answer, or a raised limit.',
  fields: (t) => ({
    jobId: t.id({ required: true }),
    query: t.string({
      description: 'An open job reads it before its next generation, a finished one goes on with it.',
    }),
    mode: t.field({ type: SteerModeRef, description: 'How an open job takes the query; `queue` by default.' }),
    answer: t.field({ type: AnswerInputRef }),
    maxSteps: t.int(),
    budget: t.field({
      type: BudgetInputRef,
      description: 'New totals: they answer every open question about a budget, or let a job go on that was stopped.',
    }),
    idempotencyKey: t.string(),
  }),
})
const ForkJobInput = builder.inputType('ForkJobInput', {
  description: 'A new job that goes on from a checkpoint of another, files included.',
  fields: (t) => ({
    jobId: t.id({ description: 'The job, with `seq` for one of its checkpoints; without it the last one.' }),
    checkpointId: t.id({ description: 'The checkpoint, in place of `jobId` and `seq`.' }),
    seq: t.int(),
    query: t.string({ description: 'Asked in place of what was open at the checkpoint; left out, that goes on.' }),
    model: t.string({ description: '`provider/model` for what is still to be generated.' }),
    maxSteps: t.int({ description: 'Steps that were taken before the checkpoint count.' }),
    budget: t.field({
      type: BudgetInputRef,
      description: 'New totals for all runs together; what was used before the checkpoint counts.',
    }),
    instruction: t.string({ description: 'Another instruction for the expert, recorded in the lock of the fork.' }),
    expertKey: t.string({ description: 'Whose instruction that is, by its exact key; the coordinator by default.' }),
    idempotencyKey: t.string(),
  }),
})
const CancelJobInput = builder.inputType('CancelJobInput', { fields: (t) => ({ jobId: t.id({ required: true }) }) })

builder.queryFields((t) => ({
  job: t.field({
    type: JobRef,
    nullable: true,
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, { jobs, caller }) => {
      const jobId = parseId('job', id)
      return jobId === undefined ? null : ((await jobs.find(caller.application.id, jobId)) ?? null)
    },
  }),
  jobs: t.field({
    type: JobConnection,
    description: 'Newest first.',
    args: {
      first: t.arg.int({ defaultValue: PAGE_DEFAULT, validate: firstSchema }),
      after: t.arg.id(),
      status: t.arg({ type: JobStatusRef }),
      expertName: t.arg.string(),
      userId: t.arg.string(),
    },
    complexity: ({ first }) => ({ field: 1, multiplier: first ?? PAGE_DEFAULT }),
    resolve: async (_root, { first, after, status, expertName, userId }, { jobs, caller }) => {
      const size = first ?? PAGE_DEFAULT
      const filter = {
        ...(status ? { status } : {}),
        ...(expertName ? { expertName } : {}),
        ...(userId ? { userId } : {}),
      }
      const last = parseId('job', after)
      if (last === undefined && after !== null && after !== undefined)
        throw new PlatformError('input_invalid', 'after: a page of jobs goes on after the id of a job; pass endCursor.')
      const found = await jobs.list(caller.application.id, filter, size + 1, last ?? null)
      return pageOf(found, size, ({ id }) => id)
    },
  }),
}))

builder.mutationFields((t) => ({
  createJob: t.field({
    type: CreateJobResult,
    args: { input: t.arg({ type: CreateJobInput, required: true }) },
    resolve: (_root, { input }, { jobs, caller }): Promise<JobSummary | Refusal> | Refusal => {
      const parsed = parseCreateJob(input)
      return isRefusal(parsed) ? parsed : jobs.create(caller.application.id, parsed)
    },
  }),
  continueJob: t.field({
    type: ContinueJobResult,
    args: { input: t.arg({ type: ContinueJobInput, required: true }) },
    resolve: (_root, { input }, { jobs, caller }): Promise<JobSummary | Refusal> | Refusal => {
      const answer = input.answer && { ...input.answer, value: input.answer.value ?? null }
      const parsed = parseContinueJob({ ...input, answer })
      return isRefusal(parsed) ? parsed : jobs.continue(caller.application.id, parsed)
    },
  }),
  forkJob: t.field({
    type: ForkJobResult,
    args: { input: t.arg({ type: ForkJobInput, required: true }) },
    resolve: (_root, { input }, { forks, caller }): Promise<JobSummary | Refusal> | Refusal => {
      const parsed = parseForkJob(input)
      return isRefusal(parsed) ? parsed : forks.fork(caller.application.id, parsed)
    },
  }),
  cancelJob: t.field({
    type: CancelJobResult,
    args: { input: t.arg({ type: CancelJobInput, required: true }) },
    resolve: (_root, { input }, { jobs, caller }): Promise<JobSummary | Refusal> | Refusal => {
      const jobId = parseId('job', input.jobId)
      return jobId === undefined ? refuseJob(input.jobId) : jobs.cancel(caller.application.id, jobId)
    },
  }),
}))
