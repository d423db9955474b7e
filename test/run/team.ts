/** A team of experts for tests of the loop: a lead, a reader it delegates to, skills, and a human to ask. */
import type { InteractiveTool } from '../../schema/expert.ts'
import { printExpertKey } from '../../schema/expert-key.ts'
import { makeId } from '../../schema/id.ts'
import type { LockedExpert, LockedSkill, LockedStdioSkill, Lock } from '../../schema/lock.ts'
import type { ToolDefinition } from '../../schema/message.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'

export const JOB = makeId('job', 1, new Uint8Array(16))
export const LEAD = printExpertKey('lead', '1.0.0')
export const READER = printExpertKey('reader', '1.0.0')

export const files: LockedStdioSkill = {
  type: 'mcpStdioSkill',
  installHash: 'files',
  packages: [],
  entry: 'main.mjs',
  args: [],
  pick: null,
  omit: ['hidden'],
  rule: 'Read before you write.',
  requiredEnv: [],
  allowedDomains: [],
  lazyInit: true,
}

const input = { type: 'object', properties: { change: { type: 'string' } }, required: ['change'] } as const

export const human: LockedSkill & { readonly tools: Readonly<Record<string, InteractiveTool>> } = {
  type: 'interactiveSkill',
  rule: null,
  tools: {
    approve: { kind: 'confirm', description: 'May I change this?', inputSchema: input, answerSchema: null },
    choose: {
      kind: 'choose',
      description: 'Which one?',
      inputSchema: { type: 'object' },
      answerSchema: null,
      timeoutSeconds: 60,
    },
  },
}

/** A lead that may delegate to a reader and, so that depth is reached, to itself. */
export function team(given: Partial<LockedExpert> = {}): Lock {
  const skills = { files, human }
  const lead = lockedExpert('lead', { skills, delegates: { reader: READER, again: LEAD }, ...given })
  const reader = lockedExpert('reader', { skills, delegates: { lead: LEAD } })
  return lockOf(lead, reader)
}

export const TOOLS: readonly ToolDefinition[] = [
  {
    name: 'read',
    description: 'Reads.',
    inputSchema: { type: 'object', properties: { path: { type: 'string' } } },
  },
  { name: 'write', description: 'Writes.', inputSchema: { type: 'object' } },
  { name: 'ask', description: 'Asks a human, then does it.', inputSchema: { type: 'object' } },
]
