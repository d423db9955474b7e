/** Which of the tools that every expert has without declaring them an expert has: the key `base` of the expert file. */
import * as z from 'zod'
import { matchesGlob } from './approval.ts'
import { BASE, BASE_TOOL_NAMES } from './base-tool.ts'
import type { Complaint } from './toml-file.ts'

/** Tools by their whole names, `base/todo`, in the order in which a model reads them. */
export interface BaseChoice {
  readonly tools: readonly string[]
  readonly rule: string | null
  /** What the shell gets, as any skill of a file does; [] unless a file of the origin says more. */
  readonly requiredEnv: readonly string[]
  readonly allowedDomains: readonly string[]
}

/** The skills that every expert has, by the name that prefixes their tools; a skill of the file may take the name. */
export const BASE_SKILLS = {
  files: {
    packageName: '@senmon/files',
    tools: [
      'read_file',
      'read_image',
      'read_pdf',
      'file_info',
      'list_directory',
      'find',
      'search',
      'write_file',
      'edit_file',
      'append_file',
      'make_directory',
      'move',
      'delete',
    ],
  },
  shell: { packageName: '@senmon/shell', tools: ['exec'] },
} as const satisfies Readonly<Record<string, { readonly packageName: string; readonly tools: readonly string[] }>>

/** Whether a package is one of those skills'. */
export function isBasePackage(name: string): boolean {
  return Object.values(BASE_SKILLS).some(({ packageName }) => packageName === name)
}

/** Every tool that an expert has by itself, by its owner. */
const OWNED: readonly (readonly [owner: string, tools: readonly string[]])[] = [
  [BASE, BASE_TOOL_NAMES],
  ...Object.entries(BASE_SKILLS).map(([owner, { tools }]) => [owner, tools] as const),
]

export const baseSchema = z
  .array(
    z
      .string()
      .max(200)
      .regex(/^[\w*?/]+$/, 'must be a base tool as the model reads it, such as "base/todo" or "files/*"'),
  )
  .max(64)

/** What is wrong with a choice; `declared` are the names of the skills that the file brings itself. */
export function checkChoice(
  globs: readonly string[] | undefined,
  declared: readonly string[],
  at: readonly string[],
): readonly Complaint[] {
  return (globs ?? []).flatMap((glob, index): Complaint[] => {
    const path = [...at, 'base', index]
    const met = namesWithout([]).filter((name) => matchesGlob(glob, name))
    if (met.length === 0) {
      const owners = OWNED.map(([owner]) => `${owner}/*`)
      return [{ path, words: `is no base tool: ${JSON.stringify(glob)}; there are ${owners.join(', ')}` }]
    }
    const kept = namesWithout(declared)
    if (met.some((name) => kept.includes(name))) return []
    const [owner] = met[0]?.split('/') ?? []
    return [{ path, words: `names tools of the skill "${owner}" that this expert declares itself; use its pick` }]
  })
}

/** The tools that a checked choice leaves an expert; without one, all of them. */
export function printChoice(globs: readonly string[] | undefined, declared: readonly string[]): BaseChoice {
  const tools = namesWithout(declared).filter((name) => globs?.some((glob) => matchesGlob(glob, name)) ?? true)
  return { tools, rule: null, requiredEnv: [], allowedDomains: [] }
}

/** All base tools but those of owners whose names the file's own skills bear. */
export function namesWithout(declared: readonly string[]): readonly string[] {
  return OWNED.flatMap(([owner, tools]) => (declared.includes(owner) ? [] : tools.map((tool) => `${owner}/${tool}`)))
}

/** The names of an owner's tools in a choice, without the owner. */
export function chosenOf(choice: BaseChoice, owner: string): readonly string[] {
  return choice.tools.filter((name) => name.startsWith(`${owner}/`)).map((name) => name.slice(owner.length + 1))
}
