/** How full the window of a run's model is, as the job's row has it: from the facts alone, without the messages. */
import {
  contextAfterCompaction,
  contextAfterGeneration,
  contextAfterMessage,
  noContext,
  type Context,
} from '../../schema/context.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import { queryMessage, summaryMessage } from '../../schema/conversation.ts'

export type RunContext = Pick<Context, 'tokens' | 'window'>

/**
 * After a fact of the run: as its checkpoints say, but that results of one step are estimated one by one, which may
 * round each up by a token. `before` is undefined before the run's first message.
 */
export function contextAfter(before: RunContext | undefined, fact: PlacedFact): RunContext | undefined {
  const context = { ...noContext, ...before }
  const after = change(context, fact)
  return after === context ? before : { tokens: after.tokens, window: after.window }
}

function change(context: Context, fact: PlacedFact): Context {
  switch (fact.type) {
    case 'runStarted':
      return contextAfterMessage(context, queryMessage(fact.data.query))
    case 'generated':
      return contextAfterGeneration(context, fact.data)
    case 'toolReturned':
      return contextAfterMessage(context, { role: 'tool', content: [fact.data.result] })
    case 'outputRejected':
      return contextAfterMessage(context, queryMessage(fact.data.message))
    case 'steered':
      return fact.data.queries.reduce((next, query) => contextAfterMessage(next, queryMessage(query)), context)
    case 'compacted':
      return contextAfterCompaction(context, summaryMessage(fact.data))
    default:
      return context
  }
}

/** Of the run of the coordinator that is open, or was the last; null before it began, or in rows of before. */
export function contextOf({
  runs,
}: {
  readonly runs: readonly { readonly parentRunId: string | null; readonly context?: RunContext }[]
}): RunContext | null {
  return runs.findLast((run) => run.parentRunId === null)?.context ?? null
}
