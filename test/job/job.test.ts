/** A job's life: what holds over all histories, and that the properties would notice if it did not. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import { noSteering } from '../../schema/steering.ts'
import type { JobChange, JobCommand, Job } from '../../src/job/job.ts'
import { Breach, moves, play, realCore, type Core } from './job-world.ts'

const RUNS = 1000

describe('a job', () => {
  it('keeps J1, J2, J3, J4, J5, J6, J7, J8, J9, J10 and J13 over aimed histories', () => {
    fc.assert(
      fc.property(moves, (history) => {
        play(realCore, history)
      }),
      { numRuns: RUNS },
    )
  })

  it('reaches every status, outcome and event in those histories', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(moves, (history) => {
        const { job, changes } = play(realCore, history)
        seen.add(job.status).add(`${job.outcome}`)
        for (const change of changes) seen.add(change.type)
      }),
      { numRuns: RUNS, seed: 1 },
    )
    const wanted =
      'queued running waiting finished completed failed canceled jobCreated leaseGranted leaseExpired answered ' +
      'jobContinued cancelRequested jobRested jobFinished generated workspaceChanged runStarted toolReturned ' +
      'questionAsked stepFinished runFinished steered'
    expect(wanted.split(' ').filter((one) => !seen.has(one))).toEqual([])
  })
})

// ---- faults, planted one at a time

type Decide = Core['decide']

/** A core whose decisions on one kind of command are altered. */
function deciding<Type extends JobCommand['type']>(
  type: Type,
  alter: (job: Job, command: Extract<JobCommand, { type: Type }>, decide: Decide) => ReturnType<Decide>,
): Core {
  return {
    ...realCore,
    decide: (job, command) =>
      command.type === type
        ? alter(job, command as Extract<JobCommand, { type: Type }>, realCore.decide)
        : realCore.decide(job, command),
  }
}

/** A core that folds one kind of event differently. */
function folding(type: JobChange['type'], alter: (after: Job, before: Job, change: JobChange) => Job): Core {
  return {
    ...realCore,
    evolve: (job, change) => {
      const after = realCore.evolve(job, change)
      return change.type === type ? alter(after, job, change) : after
    },
  }
}

const only = (given: ReturnType<Decide>, keep: (change: JobChange) => boolean): ReturnType<Decide> =>
  isRefusal(given) ? given : given.filter(keep)

const FAULTS: Readonly<Record<string, Core>> = {
  'a fence is not raised': deciding('grant', (job, command, decide) => {
    const given = decide(job, command)
    if (isRefusal(given)) return given
    return given.map((change) =>
      change.type === 'leaseGranted' ? { ...change, data: { ...change.data, fence: job.fence } } : change,
    )
  }),
  'a lease is granted while one is live': deciding('grant', (job, command, decide) =>
    decide(job, { ...command, lease: null }),
  ),
  'a lease is granted a moment before the other has ended': deciding('grant', (job, command, decide) =>
    decide(job, { ...command, lease: command.lease && { ...command.lease, until: command.lease.until - 1 } }),
  ),
  'a lease is still held at its very end': deciding('grant', (job, command, decide) =>
    decide(job, { ...command, lease: command.lease && { ...command.lease, until: command.lease.until + 1 } }),
  ),
  'a live lease can be made to expire': deciding('expire', (job, command, decide) =>
    decide(job, { ...command, lease: null }),
  ),
  'a take-over does not say that the old lease has ended': deciding('grant', (job, command, decide) =>
    only(decide(job, command), (change) => change.type !== 'leaseExpired'),
  ),
  'an old fence may record': deciding('record', (job, command, decide) =>
    decide(job, { ...command, fence: Math.max(command.fence, job.fence) }),
  ),
  'a fence that was never granted may record': deciding('record', (job, command, decide) =>
    decide(job, { ...command, fence: Math.min(command.fence, job.fence) }),
  ),
  'an old fence may end the job': deciding('finish', (job, command, decide) =>
    decide(job, { ...command, fence: job.fence }),
  ),
  'a machine may write the facts of the job': deciding('record', (job, command, decide) => {
    const given = decide(job, { ...command, events: command.events.filter((event) => event.type !== 'jobFinished') })
    if (isRefusal(given)) return given
    const forged = command.events.filter((event) => event.type === 'jobFinished')
    return [...given, ...forged.map((event) => ({ ...event, at: command.now }))]
  }),
  'the end of the root run does not end the job': deciding('record', (job, command, decide) =>
    only(decide(job, command), (change) => change.type !== 'jobFinished'),
  ),
  'a question can be answered twice': deciding('answer', (job, command, decide) =>
    decide({ ...job, questions: job.questions.map((question) => ({ ...question, answeredAt: null })) }, command),
  ),
  'any value is an answer': deciding('answer', (job, command, decide) =>
    decide({ ...job, questions: job.questions.map((each) => ({ ...each, kind: 'schema', schema: {} })) }, command),
  ),
  'the hash of the arguments is ignored': deciding('answer', (job, command, decide) =>
    decide(job, { ...command, argsHash: null }),
  ),
  'an answer to any question goes to the first': deciding('answer', (job, command, decide) =>
    decide(job, { ...command, questionId: job.questions[0]?.id ?? command.questionId }),
  ),
  'a finished job takes answers': deciding('answer', (job, command, decide) =>
    decide({ ...job, status: job.status === 'finished' ? 'waiting' : job.status }, command),
  ),
  'an answer does not wake a waiting job': folding('answered', (after, before) => ({
    ...after,
    status: before.status,
  })),
  'a cancel of a waiting job is only noted': deciding('cancel', (job, command, decide) =>
    decide({ ...job, status: job.status === 'waiting' ? 'running' : job.status }, command),
  ),
  'a cancel is noted again and again': deciding('cancel', (job, command, decide) =>
    decide({ ...job, cancelRequested: false }, command),
  ),
  'a canceled job whose machine died is claimed again': deciding('grant', (job, command, decide) =>
    decide({ ...job, cancelRequested: false }, command),
  ),
  'a canceled job rests': deciding('rest', (job, command, decide) =>
    decide({ ...job, cancelRequested: false }, command),
  ),
  'a canceled job goes on': deciding('continue', (job, command, decide) =>
    decide({ ...job, outcome: job.outcome === 'canceled' ? 'failed' : job.outcome }, command),
  ),
  'a job that did not end at its step limit is given more steps': deciding('continue', (job, command, decide) =>
    decide({ ...job, reason: 'step_limit' }, command),
  ),
  'a limit that is used up already is taken': deciding('continue', (job, command, decide) =>
    decide({ ...job, steps: job.steps - 1 }, command),
  ),
  'a rested job waits though all is answered': folding('jobRested', (after) => ({ ...after, status: 'waiting' })),
  'a job with open questions is queued': folding('jobRested', (after) => ({ ...after, status: 'queued' })),
  'attempts never run out': folding('leaseExpired', (after) => ({ ...after, barrenAttempts: 0 })),
  'attempts run out though there was progress': folding('stepFinished', (after) => ({ ...after, progressed: false })),
  'a stopped server counts against the job': folding('leaseExpired', (after, before) => ({
    ...after,
    barrenAttempts: before.progressed ? 0 : before.barrenAttempts + 1,
  })),
  'a server that died counts as a machine that did': folding('leaseExpired', (after, before, change) => ({
    ...after,
    barrenAttempts: before.progressed
      ? 0
      : before.barrenAttempts + (change.type === 'leaseExpired' && change.data.reason === 'server_stopped' ? 0 : 1),
  })),
  'a server that died counts nothing': folding('leaseExpired', (after, before, change) => ({
    ...after,
    barrenAttempts:
      change.type === 'leaseExpired' && change.data.reason === 'lease_lost' && !before.progressed
        ? before.barrenAttempts
        : after.barrenAttempts,
  })),
  'progress of one lease counts for the next': folding('leaseGranted', (after) => ({ ...after, progressed: true })),
  'steps are counted twice': folding('stepFinished', (after) => ({ ...after, steps: after.steps + 1 })),
  'usage of the last generation replaces the rest': folding('generated', (after, before, change) =>
    change.type === 'generated' ? { ...after, usage: change.data.usage } : before,
  ),
  'a question asked again is kept twice': folding('questionAsked', (after, before, change) =>
    change.type === 'questionAsked'
      ? {
          ...after,
          questions: [...before.questions, { ...change.data.question, askedAt: 0, answeredAt: null, answer: null }],
        }
      : after,
  ),
  'a query of an open job is dropped': folding('jobContinued', (after, before) => ({
    ...after,
    steering: before.status === 'finished' ? (after.steering ?? noSteering) : (before.steering ?? noSteering),
  })),
  'the end of the run ends the job though a query waits': deciding('record', (job, command, decide) =>
    decide({ ...job, steering: noSteering }, command),
  ),
  'what the end left unread is lost': deciding('continue', (job, command, decide) =>
    decide({ ...job, steering: noSteering }, command),
  ),
  'a query that interrupts leaves the job waiting': folding('jobContinued', (after, before) => ({
    ...after,
    status: before.status === 'waiting' ? 'waiting' : after.status,
  })),
  'a job rests though a query interrupts': folding('jobRested', (after, before) => ({
    ...after,
    status: before.questions.some((one) => one.answeredAt === null) ? 'waiting' : after.status,
  })),
  'a query is read twice': folding('steered', (after, before) => ({
    ...after,
    steering: before.steering ?? noSteering,
  })),
  'a question outlives the run that asked': folding('runFinished', (after, before) => ({
    ...after,
    questions: before.questions,
  })),
  'a canceled job takes a query': deciding('continue', (job, command, decide) =>
    decide({ ...job, cancelRequested: false }, command),
  ),
  'runs stay open when the job ends': folding('jobFinished', (after, before) => ({ ...after, runs: before.runs })),
}

describe('the properties of a job', () => {
  it.each(Object.entries(FAULTS))('catch that %s', (_, core) => {
    const found = fc.check(
      fc.property(moves, (history) => {
        play(core, history)
      }),
      { numRuns: RUNS, endOnFailure: true, seed: 1 },
    )
    expect(found.failed).toBe(true)
    expect(found.errorInstance).toBeInstanceOf(Breach)
  })
})
