/** The system prompt of an expert: its instruction, the rules of its skills, and who it may delegate to. */
import { BASE, type BaseToolName } from '../../schema/base-tool.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import { outputInstruction } from '../../schema/output.ts'
import { DELEGATE } from './catalog.ts'

const WORKSPACE = `Your working directory is the workspace of this job. Files that came with the request are in its \
directory input, which is read-only. Everything that you write elsewhere in it is kept for the reader.`

/** What a model is told of the tools that come with the platform, one sentence for each that it has. */
const HABITS: readonly (readonly [BaseToolName, string])[] = [
  ['todo', `Work of several parts goes on a list: write it with ${BASE}/todo, and mark what is done.`],
  ['attemptCompletion', `When all is done, call ${BASE}/attemptCompletion with the result, or answer without a call.`],
]

/** Text that stays the same from step to step, so that providers can cache it. */
export function instructionOf(lock: Lock, expert: LockedExpert): string {
  const sections = [expert.instruction.trim(), `# Workspace\n\n${WORKSPACE}`]
  const habits = HABITS.filter(([tool]) => expert.base?.tools.includes(tool)).map(([, habit]) => habit)
  if (habits.length > 0) sections.push(`# How you work\n\n${habits.join(' ')}`)
  const ruled = [...Object.entries(expert.skills), ...(expert.base === undefined ? [] : [[BASE, expert.base] as const])]
  const rules = ruled
    .filter(([, skill]) => skill.rule !== null && skill.rule.trim() !== '')
    .map(([name, skill]) => `## ${name}\n\n${skill.rule?.trim()}`)
  if (rules.length > 0) sections.push(['# Rules of your skills', ...rules].join('\n\n'))
  const delegates = Object.entries(expert.delegates).map(
    ([alias, key]) => `- ${DELEGATE}/${alias}: ${lock.experts[key]?.description ?? ''}`,
  )
  if (delegates.length > 0)
    sections.push(
      [
        '# Experts you may delegate to',
        'A delegate sees nothing of this conversation: write everything that it must know into the query. ' +
          'Its answer comes back as the result of the call. It works in the same workspace.',
        delegates.join('\n'),
      ].join('\n\n'),
    )
  if (expert.output !== undefined) sections.push(outputInstruction(expert.output))
  return sections.join('\n\n')
}
