/** Faults of budgets: of the ledger, of who decides, of prices. */
import type { Fault } from './fault.ts'

const ledger = ['test/schema/ledger.test.ts']
const pool = ['test/attempt/budgets.test.ts']
const gateway = ['test/gateway/price.test.ts', 'test/gateway/output-cap.test.ts']
const size = ['test/attempt/prompt-size.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'what is set aside is not counted as taken',
    file: 'schema/ledger.ts',
    find: '(account) => plus(account.used, account.reserved))',
    replace: '(account) => account.used)',
    tests: ledger,
  },
  {
    name: 'a delegate is charged to itself alone',
    file: 'schema/ledger.ts',
    find: 'return pathOf(ledger, runId).reduce((next, name) => alter(next, name, how), ledger)',
    replace: 'return alter(ledger, pathOf(ledger, runId)[0] ?? JOB, how)',
    tests: ledger,
  },
  {
    name: 'a generation that a crash left unsettled costs nothing',
    file: 'schema/ledger.ts',
    find: 'return charge(release(ledger, runId), runId, (account) => ({ ...account, used: plus(account.used, amount) }))\n}\n\nfunction loseAll',
    replace: 'return release(ledger, runId)\n}\n\nfunction loseAll',
    tests: ledger,
  },
  {
    name: 'a run asks while others hold the room that it lacks',
    file: 'schema/ledger.ts',
    find: 'const total = plus(used, least)',
    replace: 'const total = plus(plus(used, account.reserved), least)',
    tests: ledger,
  },
  {
    name: 'a limit that is met exactly has no room',
    file: 'schema/ledger.ts',
    find: '(sum === null || sum > limit)',
    replace: '(sum === null || sum >= limit)',
    tests: [...ledger, ...pool],
  },
  {
    name: 'a price that is not known counts as nothing',
    file: 'schema/ledger.ts',
    find: 'if (inputUsd === null || outputTokenUsd === null) return null',
    replace: 'if (inputUsd === null || outputTokenUsd === null) return 0',
    tests: ledger,
  },
  {
    name: 'time counts while humans have the job',
    file: 'schema/ledger.ts',
    find: 'return { ...lost, timeMs: lost.timeMs + Math.max(0, at - leasedAt), leasedAt: null }',
    replace: 'return { ...lost, timeMs: lost.timeMs + Math.max(0, at - leasedAt), leasedAt: at }',
    tests: ledger,
  },
  {
    name: 'a dead machine counts until someone sees that it is dead',
    file: 'schema/ledger.ts',
    find: 'return endLease(ledger, before.lastAt)',
    replace: 'return endLease(ledger, at)',
    tests: ledger,
  },
  {
    name: 'a raise raises every account',
    file: 'schema/ledger.ts',
    find: 'find((one) => ledger.accounts[one]?.asking?.id === id)',
    replace: 'find((one) => ledger.accounts[one]?.asking?.id !== id)',
    tests: ledger,
  },
  {
    name: 'a budget may be answered with less than is used',
    file: 'schema/budget-question.ts',
    find: 'minimum: limit, ...(spent === null ? {} : { exclusiveMinimum: spent }) }',
    replace: 'minimum: 0 }',
    tests: ledger,
  },
  {
    name: 'every run that lacks room asks a question of its own',
    file: 'src/attempt/budgets.ts',
    find: 'let questionId = asking?.id',
    replace: 'let questionId = [asking?.id].at(1)',
    tests: pool,
  },
  {
    name: 'a machine makes calls that nobody has counted',
    file: 'src/attempt/budgets.ts',
    find: 'if (!counts || this.#ledger.counted[runId] === this.#steps.get(runId)) return undefined',
    replace: 'if (counts || this.#ledger.counted[runId] === this.#steps.get(runId)) return undefined',
    tests: pool,
  },
  {
    name: 'a run that is held may ask again and again',
    file: 'src/attempt/budgets.ts',
    find: 'return questionId === undefined ? undefined : `run ${runId} is held by question ${questionId}`',
    replace: 'return questionId === undefined ? undefined : undefined',
    tests: pool,
  },
  {
    name: 'a machine ends its run as one that was stopped',
    file: 'src/attempt/budgets.ts',
    find: "fact.data.reason !== 'budget_exhausted' || isIt ?",
    replace: "fact.data.reason !== 'budget_exhausted' || !isIt ?",
    tests: pool,
  },
  {
    name: 'a generation goes on when its time is over',
    file: 'src/attempt/keeper.ts',
    find: 'const fact = await within(timeMs, clock, (cut) =>',
    replace: 'const fact = await within(timeMs === null ? null : null, clock, (cut) =>',
    tests: pool,
  },
  {
    name: 'a run makes its calls before they are counted',
    file: 'runner/run/owed.ts',
    find: 'if (!givesUp && owesCount(lock, state, run)) {',
    replace: 'if (!givesUp && owesCount(lock, state, run) && run.asks > 99) {',
    tests: pool,
  },
  {
    name: 'a stop is forgotten by who did not ask',
    file: 'runner/run/budget.ts',
    find: 'runs[id] = { ...run, hold: stopped ? { questionId, stopped } : null, turnSince: state.events }',
    replace: 'runs[id] = { ...run, hold: null, turnSince: state.events }',
    tests: pool,
  },
  {
    name: 'a raised budget lets no stopped job go on',
    file: 'runner/run/happened.ts',
    find: "(reason !== 'step_limit' && reason !== 'budget_exhausted')",
    replace: "reason !== 'step_limit'",
    tests: pool,
  },
  {
    name: 'a long prompt is paid for at the rates of a short one',
    file: 'src/gateway/price.ts',
    find: 'inputTokens > price.long.aboveInputTokens ? price.long : price',
    replace: 'inputTokens < 0 ? price.long : price',
    tests: gateway,
  },
  {
    name: 'what is written to a cache is set aside at the rate of fresh input',
    file: 'src/gateway/price.ts',
    find: 'Math.max(input, cachedInput, cacheWrite)',
    replace: 'Math.max(input, cachedInput)',
    tests: gateway,
  },
  {
    name: 'a thought comes on top of what was allowed',
    file: 'src/gateway/output-cap.ts',
    find: 'const budget = Math.min(wanted, Math.floor(outputTokensMax / 2))',
    replace: 'const budget = wanted',
    tests: gateway,
  },
  {
    name: 'a compaction leaves the prompt as long as it was',
    file: 'src/attempt/prompt-size.ts',
    find: 'return { tokens: 0, bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0), messages }',
    replace: 'return { ...size, messages }',
    tests: size,
  },
]
