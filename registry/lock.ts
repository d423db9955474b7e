/**
 * Makes locks: an expert, its delegates and its skills at exact versions, from a parsed file and what its names
 * were resolved to. Pure: whoever calls it has looked everything up.
 */
import { chosenOf } from '../schema/base-choice.ts'
import { BASE, BASE_TOOL_NAMES, type BaseTools } from '../schema/base-tool.ts'
import { parseExpertKey, printExpertKey, type ExpertKey } from '../schema/expert-key.ts'
import { refuse, type Refusal } from '../schema/error.ts'
import { findCycle, localDelegate, wholeName } from '../schema/expert-package.ts'
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
    ...(expert.budget === undefined ? {} : { budget: expert.budget }),
    ...(expert.compaction === undefined ? {} : { compaction: expert.compaction }),
    ...(expert.approvals.length === 0 ? {} : { approvals: expert.approvals }),
    ...(expert.output === null ? {} : { output: expert.output }),
    ...(expert.modelSettings === null ? {} : { modelSettings: expert.modelSettings }),
    ...baseOf(expert),
  }
  return { version: 1, coordinator: key, experts: { ...experts, [key]: locked } }
}

function baseOf(expert: Expert): { readonly base?: BaseTools } {
  const chosen = chosenOf(expert.base, BASE)
  const tools = BASE_TOOL_NAMES.filter((name) => chosen.includes(name))
  return tools.length === 0 ? {} : { base: { tools, rule: expert.base.rule } }
}

function keyOf(own: LockedPackage, expert: Expert): ExpertKey {
  return printExpertKey(wholeName(own.name, expert.name) ?? expert.name, own.version)
}

/** The packages that a file's skills name, with who names them. */
export function skillsOf(
  file: ExpertFile,
): readonly { readonly expert: string; readonly name: string; readonly skill: Skill }[] {
  return Object.values(file.experts).flatMap((expert) =>
    Object.entries(expert.skills).map(([name, skill]) => ({ expert: expert.name, name, skill })),
  )
}
