/** What a compaction asks of the model, and what it keeps. Pure. */
import { COMPACTION, type CompactionRule } from '../../schema/compaction-rule.ts'
import { REPLACED_MIN } from '../../schema/context.ts'
import { queryMessage } from '../../schema/conversation.ts'
import { unreachable } from '../../schema/decider.ts'
import type { ImagePart, Message, TextPart } from '../../schema/message.ts'

const REQUEST = `Stop here. The conversation has become too long for your context, and will be replaced by a summary that \
you write now; after it only the latest messages follow. Do not call any tool and do not go on with the work: answer \
with the summary alone. Write down everything that is needed to go on without this conversation:
- what the user asked for, in every query, with all conditions and wishes;
- what was done so far and what came of it: decisions with their reasons, facts and figures that were found, errors \
that occurred and how they were dealt with;
- files of the workspace that matter, by their paths, with what is in them and what was changed;
- what remains to be done, in order, and what you were about to do next.
Be exact with names, paths, numbers and quotations. Leave out what no longer matters.`

/** Text of one part, when the provider has refused the messages as they are. */
const CUT_CHARS = 2000

/** The messages of the run, and the request for the summary. `isExceeded`: long parts are cut, and images left out. */
export function compactionMessages(messages: readonly Message[], isExceeded: boolean): readonly Message[] {
  return [...(isExceeded ? messages.map(cut) : messages), queryMessage(REQUEST)]
}

/**
 * How many of the last messages stay as they are: the last steps that the rule asks for, with all that came after them;
 * fewer steps where they would leave nothing to replace, but never less than the last.
 */
export function keptOf(
  messages: readonly Message[],
  { keepSteps = COMPACTION.keepSteps }: CompactionRule = {},
): number {
  const begins = messages.flatMap(({ role }, index) => (role === 'expert' && index > 0 ? [index] : []))
  const worthIt = begins.slice(-keepSteps).find((index) => index > REPLACED_MIN)
  return messages.length - (worthIt ?? begins.at(-1) ?? 1)
}

function cut(message: Message): Message {
  switch (message.role) {
    case 'user':
      return { ...message, content: message.content.map(cutPart) }
    case 'tool':
      return { ...message, content: message.content.map((part) => ({ ...part, content: part.content.map(cutPart) })) }
    case 'expert':
      // What a model wrote itself is what the summary is about, and providers check its thoughts as a whole.
      return message
    default:
      return unreachable(message)
  }
}

function cutPart(part: TextPart | ImagePart): TextPart {
  if (part.type === 'image') return { type: 'text', text: '[an image]' }
  const { text } = part
  if (text.length <= CUT_CHARS) return part
  const half = CUT_CHARS / 2
  const shown = `${text.slice(0, half)}\n[… ${text.length - CUT_CHARS} characters …]\n${text.slice(-half)}`
  return { type: 'text', text: shown.toWellFormed() }
}
