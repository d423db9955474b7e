/** Parses `skill.toml`, the file of a package that brings interactive tools rather than a program. */
import * as z from 'zod'
import type { InteractiveTool } from './expert.ts'
import { isFaults, readToml, type Complaint, type Fault } from './toml-file.ts'
import { checkTools, printTools, toolShape, toolsSchema } from './interactive-tool.ts'

export const SKILL_FILE_NAME = 'skill.toml'

const fileSchema = z.strictObject({
  type: z.literal('interactiveSkill'),
  description: z.string().max(2048).optional(),
  tools: toolsSchema,
})

export interface SkillFile {
  readonly tools: Readonly<Record<string, InteractiveTool>>
}

/** The file, or all of its faults. */
export function parseSkillFile(text: string, fileName: string): SkillFile | readonly Fault[] {
  const file = readToml(text, fileName, {
    schema: fileSchema,
    keysAt: (path) => (path.length === 0 ? Object.keys(fileSchema.shape) : Object.keys(toolShape)),
    check: (root): readonly Complaint[] => {
      const file = fileSchema.safeParse(root).data
      if (file === undefined) return []
      if (Object.keys(file.tools).length === 0) return [{ path: ['tools'], words: 'must hold at least one tool' }]
      return checkTools(file.tools, ['tools'])
    },
  })
  return isFaults(file) ? file : { tools: printTools(file.tools) }
}
