/** Faults of queries that come while a job is open. */
import type { Fault } from './fault.ts'

const runs = ['test/run/steering.test.ts']
const pool = ['test/attempt/steering.test.ts']
const job = ['test/job/job.test.ts', 'test/job/continue-job.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a run ends though a query waits (R8)',
    file: 'runner/run/steered.ts',
    find: "(run.turn !== 'generate' && run.turn !== 'end')) return undefined\n  if (steering",
    replace: "run.turn !== 'generate') return undefined\n  if (steering",
    tests: [...runs, ...pool],
  },
  {
    name: 'a query is read while a delegate has still to end for it (R9)',
    file: 'runner/run/steered.ts',
    find: 'active.some((id) => id !== run.id) ? [] : ',
    replace: '',
    tests: runs,
  },
  {
    name: 'a run reads queries while it generates (A11)',
    file: 'runner/run/steered.ts',
    find: 'generates(effect.type) && effect.runId === fact.runId',
    replace: "effect.type === 'callTool' && effect.runId === fact.runId",
    tests: [...runs, ...pool],
  },
  {
    name: 'a delegate outlives a query that interrupts (R9)',
    file: 'runner/run/steered.ts',
    find: "(run.turn === 'generate' || run.turn === 'calls')\n}",
    replace: "run.turn === 'generate'\n}",
    tests: [...runs, ...pool],
  },
  {
    name: 'a call that a query interrupts is waited for (R9)',
    file: 'runner/run/steered.ts',
    find: '      return CUT_OFF\n',
    replace: '      return undefined\n',
    tests: [...runs, ...pool],
  },
  {
    name: 'the run that goes on with a query keeps its count of messages',
    file: 'runner/run/happened.ts',
    find: '...saying(run, ...queries.map(queryMessage)),',
    replace: '...saying(run, queryMessage(queries[0] ?? "")),',
    tests: runs,
  },
  {
    name: 'a query counts twice when its fact is taken twice (R2)',
    file: 'runner/run/happened.ts',
    find: "if (fact.type === 'steered' && !isNext(before.steering, fact.data.queries)) return state",
    replace: '',
    tests: runs,
  },
  {
    name: 'a machine may put words into the mouth of a user (A11)',
    file: 'schema/steering.ts',
    find: 'queries.every((query, i) => query === queued[i]?.query)',
    replace: 'queries.every((query, i) => query !== queued[i]?.mode)',
    tests: ['test/attempt/admission.test.ts', ...pool],
  },
  {
    name: 'a machine may read queries in the run of a delegate (A11)',
    file: 'src/attempt/admission.ts',
    find: "if (run !== this.#lastRoot() || runId === null) return `run ${runId} is not the coordinator's`",
    replace: 'if (runId === null) return `it is of no run`',
    tests: ['test/attempt/admission.test.ts'],
  },
  {
    name: 'a machine may end a delegate as interrupted when no query interrupts',
    file: 'src/attempt/admission.ts',
    find: "if (run.depth > 0 && this.interrupts && proposal.data.reason === 'interrupted') return undefined",
    replace: "if (run.depth > 0 && proposal.data.reason === 'interrupted') return undefined",
    tests: ['test/attempt/admission.test.ts'],
  },
  {
    name: 'a generation begins though a query was put before it',
    file: 'src/attempt/keeper.ts',
    find: '=> this.#admission.readsFirst(params.runId)',
    replace: '=> false && params !== null',
    tests: pool,
  },
  {
    name: 'a query that interrupts does not end the generation under way',
    file: 'src/attempt/keeper.ts',
    find: 'if (this.#admission.interrupts) this.#generations.interrupt()',
    replace: '',
    tests: pool,
  },
  {
    name: 'the machine does not hear of a query',
    file: 'src/attempt/keeper.ts',
    find: "event.type === 'questionExpired' || event.type === 'jobContinued'",
    replace: "event.type === 'questionExpired'",
    tests: pool,
  },
  {
    name: 'a job whose run ended with a query unread is given up as a breach',
    file: 'src/attempt/keeper.ts',
    find: "const goesOn = stop.why === 'done' && stop.reason === 'finished' && wantsNextRun(attempt.job)",
    replace: 'const goesOn = wantsNextRun(attempt.job) && attempt.job.cancelRequested',
    tests: pool,
  },
  {
    name: 'the end of the run ends the job though a query waits (J7, J13)',
    file: 'src/job/job.ts',
    find: 'if (steering.queued.length > 0) continue',
    replace: '',
    tests: [...job, ...pool],
  },
  {
    name: 'what the end of a job left unread is lost (J13)',
    file: 'src/job/job.ts',
    find: "[...(job.steering ?? noSteering).left, query].join('\\n\\n')",
    replace: 'query',
    tests: job,
  },
  {
    name: 'any number of queries may wait',
    file: 'src/job/job.ts',
    find: 'queued.length >= QUEUED_MAX',
    replace: 'queued.length > QUEUED_MAX',
    tests: job,
  },
  {
    name: 'a question that a query overtook can still be answered',
    file: 'src/job/job-fold.ts',
    find: '(isLeft(one) ? { ...one, withdrawnAt: event.at } : one)',
    replace: 'one',
    tests: [...job, ...pool],
  },
]
