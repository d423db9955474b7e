/** How the experts of a file and the package that holds them are named, and which of them mean one another. Pure. */
import { refuse, type Refusal } from './error.ts'
import { parseExpertKey } from './expert-key.ts'
import type { Expert, ExpertFile, Skill } from './expert.ts'
import type { JsonObject } from './json.ts'

/** Keywords by which a package says that it publishes experts, and that it is a skill. */
export const EXPERT_KEYWORD = 'senmon-expert'
export const SKILL_KEYWORD = 'senmon-skill'

/** Whether a package says that it is a skill: by our keyword, or by the name that MCP's own registry asks for. */
export function saysSkill({ keywords, mcpName }: JsonObject): boolean {
  return typeof mcpName === 'string' || (Array.isArray(keywords) && keywords.includes(SKILL_KEYWORD))
}

/**
 * The whole name of a file's expert: the package's own for the one that is named as the package or as its
 * unscoped part, `<package>/<member>` for others; undefined when its scope is not the package's name.
 */
export function wholeName(packageName: string, expertName: string): string | undefined {
  if (expertName === packageName || expertName === packageName.split('/').at(-1)) return packageName
  return expertName.includes('/') ? undefined : `${packageName}/${expertName}`
}

/** Delegates that the file itself does not hold: what must be looked up in the registry. */
export function foreignDelegates(packageName: string, file: ExpertFile): readonly string[] {
  const keys = Object.values(file.experts).flatMap((expert) => expert.delegates)
  return [...new Set(keys)].filter((key) => localDelegate(packageName, file, key) === undefined)
}

/** Packages that the file's skills are, as `name@spec`: what must be looked up in the registry. */
export function skillPackages(file: ExpertFile): readonly string[] {
  const skills = Object.values(file.experts).flatMap((expert) => Object.values(expert.skills))
  return [...new Set(skills.flatMap((skill) => skillPackage(skill) ?? []))]
}

/** The package that a skill is; undefined for one that is none. */
export function skillPackage(skill: Skill): string | undefined {
  return 'endpoint' in skill || skill.packageName === null ? undefined : `${skill.packageName}@${skill.spec}`
}

/** The file's own expert that a delegate key means; undefined when it means another package's. */
export function localDelegate(packageName: string, file: ExpertFile, key: string): Expert | undefined {
  const parsed = parseExpertKey(key)
  if (parsed === undefined) return undefined
  return Object.values(file.experts).find(
    (expert) => expert.name === parsed.name || wholeName(packageName, expert.name) === parsed.name,
  )
}

/** Disagreements between a file and the package that it is in; undefined for none. */
export function checkAgainstPackage(
  file: ExpertFile,
  fileName: string,
  own: { name: string; version: string },
): Refusal | undefined {
  const main = Object.values(file.experts).find((expert) => wholeName(own.name, expert.name) === own.name)
  if (main === undefined) {
    const unscoped = own.name.split('/').at(-1) ?? own.name
    const names = Object.keys(file.experts).join(', ')
    return mismatch(`${fileName} has no expert named "${unscoped}" for the package ${own.name}; it has ${names}.`)
  }
  const seen = new Map<string, string>()
  for (const expert of Object.values(file.experts)) {
    const whole = wholeName(own.name, expert.name)
    if (whole === undefined || parseExpertKey(whole) === undefined)
      return mismatch(`[experts."${expert.name}"] in ${fileName} does not belong to the package ${own.name}.`)
    const twin = seen.get(whole)
    if (twin !== undefined)
      return mismatch(`"${twin}" and "${expert.name}" in ${fileName} are both the expert ${whole}.`)
    seen.set(whole, expert.name)
    if (expert.version !== null && expert.version !== own.version)
      return mismatch(
        `version of [experts."${expert.name}"] in ${fileName} is ${expert.version}, but package.json says ${own.version}.`,
      )
  }
  return undefined
}

function mismatch(message: string): Refusal {
  return refuse('package_mismatch', message)
}

/** The experts of a cycle within the file, first and last the same; across packages versions are already frozen. */
export function findCycle(packageName: string, file: ExpertFile): readonly string[] | undefined {
  const done = new Set<string>()
  const visit = (expert: Expert, above: readonly string[]): readonly string[] | undefined => {
    const at = above.indexOf(expert.name)
    if (at !== -1) return [...above.slice(at), expert.name]
    if (done.has(expert.name)) return undefined
    for (const key of expert.delegates) {
      const local = localDelegate(packageName, file, key)
      const cycle = local === undefined ? undefined : visit(local, [...above, expert.name])
      if (cycle !== undefined) return cycle
    }
    done.add(expert.name)
    return undefined
  }
  for (const expert of Object.values(file.experts)) {
    const cycle = visit(expert, [])
    if (cycle !== undefined) return cycle
  }
  return undefined
}
