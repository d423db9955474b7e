/**
 * Makes locks: an expert, its delegates and its skills at exact versions, from a parsed file and what its names
 * were resolved to. Pure: whoever calls it has looked everything up.
 */
import { parseExpertKey, printExpertKey, type ExpertKey } from '../schema/expert-key.ts'
import { refuse, type Refusal } from '../schema/error.ts'
import type { Expert, ExpertFile, Skill } from '../schema/expert.ts'
import type { Lock, LockedExpert, LockedPackage, LockedSkill } from '../schema/lock.ts'
import { satisfies } from '../schema/version-spec.ts'

/** What the names in a file mean: of delegates by the key as written, of skills by `<expert>\n<skill>`. */
export interface Resolved {
  readonly delegates: ReadonlyMap<string, Lock>
  readonly skills: ReadonlyMap<string, LockedSkill>
}

/** Where a skill stands in `Resolved.skills`. */
export function skillPlace(expert: string, skill: string): string {
  return `${expert}\n${skill}`
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

/** The file's own expert that a delegate key means; undefined when it means another package's. */
function localDelegate(packageName: string, file: ExpertFile, key: string): Expert | undefined {
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

/** One lock for each expert of the file, by whole name, or the first refusal. */
export function makeLocks(
  own: LockedPackage,
  file: ExpertFile,
  resolved: Resolved,
): ReadonlyMap<string, Lock> | Refusal {
  const cycle = findCycle(own.name, file)
  if (cycle !== undefined) return refuse('delegate_cycle', `The delegates form a cycle: ${cycle.join(' -> ')}.`)
  const locks = new Map<string, Lock>()
  for (const expert of Object.values(file.experts)) {
    const lock = lockOf(own, file, resolved, expert)
    if ('refused' in lock) return lock
    locks.set(wholeName(own.name, expert.name) ?? expert.name, lock)
  }
  return locks
}

function lockOf(own: LockedPackage, file: ExpertFile, resolved: Resolved, expert: Expert): Lock | Refusal {
  const key = keyOf(own, expert)
  const delegates: Record<string, ExpertKey> = {}
  let experts: Record<ExpertKey, LockedExpert> = {}
  for (const written of expert.delegates) {
    const parsed = parseExpertKey(written)
    const local = localDelegate(own.name, file, written)
    const lock = local === undefined ? resolved.delegates.get(written) : lockOf(own, file, resolved, local)
    if (parsed === undefined || lock === undefined)
      return refuse('delegate_not_found', `"${expert.name}" delegates to ${written}, which is not published here.`)
    if ('refused' in lock) return lock
    if (local !== undefined && parsed.spec !== undefined && !satisfies(own.version, parsed.spec))
      return refuse(
        'delegate_not_found',
        `"${expert.name}" delegates to ${written}, but that expert of the same file has version ${own.version}.`,
      )
    delegates[parsed.name] = lock.coordinator
    experts = { ...experts, ...lock.experts }
  }
  const skills: Record<string, LockedSkill> = {}
  for (const name of Object.keys(expert.skills)) {
    const skill = resolved.skills.get(skillPlace(expert.name, name))
    if (skill === undefined)
      return refuse('skill_not_found', `The skill "${name}" of "${expert.name}" was not resolved.`)
    skills[name] = skill
  }
  const locked: LockedExpert = {
    key,
    name: wholeName(own.name, expert.name) ?? expert.name,
    version: own.version,
    package: own,
    description: expert.description,
    instruction: expert.instruction,
    model: expert.model,
    maxSteps: expert.maxSteps,
    delegates,
    skills,
  }
  return { version: 1, coordinator: key, experts: { ...experts, [key]: locked } }
}

function keyOf(own: LockedPackage, expert: Expert): ExpertKey {
  return printExpertKey(wholeName(own.name, expert.name) ?? expert.name, own.version)
}

/** The experts of a cycle within the file, first and last the same; across packages versions are already frozen. */
function findCycle(packageName: string, file: ExpertFile): readonly string[] | undefined {
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

/** The packages that a file's skills name, with who names them. */
export function skillsOf(
  file: ExpertFile,
): readonly { readonly expert: string; readonly name: string; readonly skill: Skill }[] {
  return Object.values(file.experts).flatMap((expert) =>
    Object.entries(expert.skills).map(([name, skill]) => ({ expert: expert.name, name, skill })),
  )
}
