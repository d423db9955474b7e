/** The skills that every expert has without declaring them, as if its file declared them. */
import { BASE_SKILLS, chosenOf } from './base-choice.ts'
import { effectOf, type CallEffect, type EffectTable } from './effect.ts'
import type { Expert, ExpertFile, StdioSkill } from './expert.ts'

/** What an expert's choice leaves of the platform's skills, by name; those that the file declares itself are not here. */
export function implicitSkills(expert: Expert): Readonly<Record<string, StdioSkill>> {
  const skills = Object.entries(BASE_SKILLS).flatMap(([name, { packageName, tools }]): [string, StdioSkill][] => {
    const chosen = chosenOf(expert.base, name)
    if (chosen.length === 0 || Object.hasOwn(expert.skills, name)) return []
    const whole = skillOf(packageName, chosen.length === tools.length ? null : chosen)
    const skill = { ...whole, effects: effectsOf(expert, name, chosen) }
    const { requiredEnv, allowedDomains } = expert.base
    return [[name, name === 'shell' ? { ...skill, requiredEnv, allowedDomains } : skill]]
  })
  return Object.fromEntries(skills)
}

/** The file with these skills in it, after those that it declares. */
export function withImplicitSkills(file: ExpertFile): ExpertFile {
  const experts = Object.entries(file.experts).map(([name, expert]) => [
    name,
    { ...expert, skills: { ...expert.skills, ...implicitSkills(expert) } },
  ])
  return { experts: Object.fromEntries(experts) as ExpertFile['experts'] } // the same experts with more skills
}

function effectsOf(expert: Expert, name: string, tools: readonly string[]): EffectTable {
  return Object.fromEntries(
    tools.flatMap((tool): [string, CallEffect][] => {
      const effect = effectOf(expert.effects, `${name}/${tool}`)
      return effect === null ? [] : [[tool, effect]]
    }),
  )
}

function skillOf(packageName: string, pick: readonly string[] | null): StdioSkill {
  return {
    type: 'mcpStdioSkill',
    packageName,
    spec: 'latest',
    args: [],
    pick,
    omit: [],
    rule: null,
    requiredEnv: [],
    allowedDomains: [],
    lazyInit: true,
    pin: true,
    required: false,
    effects: {},
  }
}
