/**
 * Which calls a human must approve before they are made, and what an answer lets through. Runner, supervisor and
 * control plane ask here, each for itself; what is unclear needs an approval, and an unclear answer is a no.
 */
import { isJsonObject, type Json, type JsonObject } from './json.ts'

/** Covers each call whose tool and arguments match its globs; `*` is any text, `?` one character. */
export interface ApprovalRule {
  /** Over `skill/tool`, or `delegate/<alias>`. */
  readonly tool: string
  /** Argument to the glob over its text; {} covers every call of the tool. */
  readonly args: Readonly<Record<string, string>>
  /** The human may approve other arguments than the model wrote. */
  readonly edits: boolean
  /** How long the human may take; after that it is a no. Left out for no limit. */
  readonly timeoutSeconds?: number
}

/** What the rules ask of one call. */
export interface Approval {
  readonly edits: boolean
  readonly timeoutSeconds?: number
}

/**
 * What a call of these rules' expert needs; undefined when no rule covers it. Edits must be allowed by all that do, and
 * the shortest of their times counts.
 */
export function approvalFor(
  rules: readonly ApprovalRule[] | undefined,
  toolName: string,
  args: Json,
): Approval | undefined {
  const covering = (rules ?? []).filter((rule) => covers(rule, toolName, args))
  if (covering.length === 0) return undefined
  const times = covering.flatMap(({ timeoutSeconds }) => timeoutSeconds ?? [])
  const timeout = times.length === 0 ? {} : { timeoutSeconds: Math.min(...times) }
  return { edits: covering.every((rule) => rule.edits), ...timeout }
}

/** An argument that is missing, or is no plain value, is covered: nobody can say what the tool makes of it. */
function covers(rule: ApprovalRule, toolName: string, args: Json): boolean {
  if (!matchesGlob(rule.tool, toolName)) return false
  return Object.entries(rule.args).every(([name, glob]) => {
    const value = isJsonObject(args) && Object.hasOwn(args, name) ? args[name] : undefined
    if (value === undefined || value === null || typeof value === 'object') return true
    return matchesGlob(glob, typeof value === 'string' ? value : JSON.stringify(value))
  })
}

/** The arguments that an answer lets through: the call's, or others where edits are allowed; undefined for a no. */
export function approvedArgs(approval: Approval, args: Json, answer: Json): Json | undefined {
  if (answer === true) return args
  return approval.edits ? editedArgs(answer) : undefined
}

/** The arguments that an answer puts in place of the call's; undefined for a plain yes or no, and for any other answer. */
export function editedArgs(answer: Json): JsonObject | undefined {
  if (!isJsonObject(answer) || answer['approved'] !== true) return undefined
  const edited = answer['args']
  return isJsonObject(edited) ? edited : undefined
}

/** JSON Schema of the answers to an approval. */
export function approvalSchema({ edits }: Approval): JsonObject {
  if (!edits) return { type: 'boolean' }
  const edited = {
    type: 'object',
    properties: { approved: { const: true }, args: { type: 'object' } },
    required: ['approved', 'args'],
    additionalProperties: false,
  }
  return { anyOf: [{ type: 'boolean' }, edited] }
}

/** Whether `glob` matches all of `text`, in time that is at most the product of their lengths. */
export function matchesGlob(glob: string, text: string): boolean {
  let at = 0
  let star = -1
  let resume = 0
  let i = 0
  while (i < text.length) {
    if (glob[at] === '*') {
      star = at++
      resume = i
    } else if (at < glob.length && (glob[at] === '?' || glob[at] === text[i])) {
      at++
      i++
    } else if (star === -1) return false
    else {
      at = star + 1
      i = ++resume
    }
  }
  while (glob[at] === '*') at++
  return at === glob.length
}
