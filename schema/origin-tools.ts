/**
 * The base skill of the origin, as its expert files declare it: `@perstack/base`, with tools under other names than here.
 * Here it is no package: declaring it chooses among the base tools.
 */
import { namesWithout, type BaseChoice } from './base-choice.ts'
import type { EffectTable } from './effect.ts'
import type { Complaint } from './toml-file.ts'

export const ORIGIN_PACKAGE = '@perstack/base'

/** The tool that runs programs, which may want variables. */
const SHELL = 'shell/exec'

/** Its tools, and what does the same here; null for what a model does by itself. */
const TOOLS: Readonly<Record<string, string | null>> = {
  attemptCompletion: 'base/attemptCompletion',
  todo: 'base/todo',
  clearTodo: 'base/clearTodo',
  healthCheck: 'base/healthCheck',
  think: null,
  exec: SHELL,
  readTextFile: 'files/read_file',
  readImageFile: 'files/read_image',
  readPdfFile: 'files/read_pdf',
  writeTextFile: 'files/write_file',
  appendTextFile: 'files/append_file',
  editTextFile: 'files/edit_file',
  moveFile: 'files/move',
  deleteFile: 'files/delete',
  getFileInfo: 'files/file_info',
  listDirectory: 'files/list_directory',
  createDirectory: 'files/make_directory',
  deleteDirectory: 'files/delete',
}

/** What such a skill's table may say, as far as it matters here. */
export interface OriginSkill {
  readonly args?: readonly string[] | undefined
  readonly pick?: readonly string[] | undefined
  readonly omit?: readonly string[] | undefined
  readonly rule?: string | undefined
  readonly requiredEnv?: readonly string[] | undefined
  readonly allowedDomains?: readonly string[] | undefined
  readonly effects?: EffectTable | undefined
}

/** What such a table says that has no meaning here; `args` are those after the package. */
export function checkOrigin(
  skill: OriginSkill,
  args: readonly string[],
  path: readonly string[],
): readonly Complaint[] {
  const complaints: Complaint[] = []
  for (const key of ['pick', 'omit'] as const)
    for (const [index, name] of (skill[key] ?? []).entries())
      if (!Object.hasOwn(TOOLS, name))
        complaints.push({
          path: [...path, key, index],
          words: `is no tool of ${ORIGIN_PACKAGE}: ${JSON.stringify(name)}`,
        })
  if (args.length > 0)
    complaints.push({ path: [...path, 'args'], words: `has no meaning for ${ORIGIN_PACKAGE}; remove it` })
  if (skill.effects !== undefined)
    complaints.push({
      path: [...path, 'effects'],
      words: 'has no effect here; write the effects of base tools at the expert, such as "shell/exec" = "once"',
    })
  const hasShell = originChoice(skill, []).tools.includes(SHELL)
  for (const key of ['requiredEnv', 'allowedDomains'] as const)
    if (!hasShell && (skill[key] ?? []).length > 0)
      complaints.push({
        path: [...path, key],
        words: 'has no effect without exec, which alone would use it; remove it',
      })
  return complaints
}

/** The base tools that such a table leaves an expert; `declared` as in a choice of our own. */
export function originChoice(skill: OriginSkill, declared: readonly string[]): BaseChoice {
  const { pick, omit, rule = null, requiredEnv = [], allowedDomains = [] } = skill
  const picked = pick && new Set(pick.map((name) => TOOLS[name]))
  // Two tools there may be one here: it is gone when either is.
  const omitted = new Set((omit ?? []).map((name) => TOOLS[name]))
  const tools = namesWithout(declared).filter((name) => (picked?.has(name) ?? true) && !omitted.has(name))
  return { tools, rule, requiredEnv, allowedDomains }
}
