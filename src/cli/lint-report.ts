/** What an expert file comes to, over all that it reaches: delegates, environment, domains, commands, worst case. Pure. */
import { matchesGlob } from '../../schema/approval.ts'
import { implicitSkills } from '../../schema/base-skill.ts'
import { COMPACTION, type CompactionRule } from '../../schema/compaction-rule.ts'
import { MEASURES, type Budget, type Measure } from '../../schema/budget.ts'
import { parseExpertKey } from '../../schema/expert-key.ts'
import { findCycle, localDelegate, skillPackage, wholeName } from '../../schema/expert-package.ts'
import type { Expert, ExpertFile } from '../../schema/expert.ts'
import { PROVIDERS, REHEARSAL } from '../../schema/model-settings.ts'
import { meant, sentence, type Complaint } from '../../schema/toml-file.ts'
import { satisfies } from '../../schema/version-spec.ts'

/** An expert that is published, with all that it reaches: what its lock says. */
export interface PublishedReach {
  /** Exact keys, its own among them. */
  readonly keys: readonly string[]
  readonly requiredEnv: readonly string[]
  readonly allowedDomains: readonly string[]
  readonly commands: readonly string[]
  /** Of skills on the network. */
  readonly endpoints: readonly string[]
  /** Sentences about skills whose tools its lock does not pin. */
  readonly unpinned: readonly string[]
}

/** An expert that the registry does not have: the versions that it has, none when it does not know the name. */
export interface Missing {
  readonly versions: readonly string[]
}

/** What the registry has; an absent key has not been looked up. */
export interface Published {
  /** By delegate key as written. */
  readonly experts: ReadonlyMap<string, PublishedReach | Missing>
  /** By `name@spec`: whether there is a skill that it means. */
  readonly skills: ReadonlyMap<string, boolean>
}

export interface ExpertReport {
  readonly name: string
  /** As others name it. */
  readonly key: string
  readonly model: string | null
  /** Every expert that a run may lead to, itself excepted: whole names here, exact keys of others, or keys as written. */
  readonly reaches: readonly string[]
  /** Delegates, and packages of skills, that nobody has looked up. */
  readonly unchecked: readonly string[]
  readonly requiredEnv: readonly string[]
  readonly allowedDomains: readonly string[]
  readonly commands: readonly string[]
  /** Of skills on the network. */
  readonly endpoints: readonly string[]
  /** The most that one run may take, its delegates included; null for no limit. */
  readonly worstCase: Readonly<Record<Measure, number | null>>
  /** When its conversation is compacted, as the file says or by default. */
  readonly compaction: Required<CompactionRule>
}

export interface LintReport {
  /** What the registry would refuse. */
  readonly faults: readonly Complaint[]
  /** Sentences: what is allowed and probably not meant. */
  readonly warnings: readonly string[]
  readonly experts: readonly ExpertReport[]
}

/** `own` is what package.json says. */
export function reportOn(
  file: ExpertFile,
  own: { readonly name: string; readonly version: string },
  published: Published,
): LintReport {
  const cycle = findCycle(own.name, file)
  const experts = Object.values(file.experts)
  if (cycle !== undefined) {
    const words = `form a cycle: ${cycle.join(' -> ')}; break it`
    return { faults: [{ path: ['experts', cycle[0] ?? '', 'delegates'], words }], warnings: [], experts: [] }
  }
  return {
    faults: experts.flatMap((expert) => [
      ...deadDelegates(file, own, published, expert),
      ...missingSkills(published, expert),
    ]),
    warnings: [
      ...unreachable(file, own.name),
      ...experts.flatMap((expert) => waysAround(expert)),
      ...experts.flatMap((expert) => [...vainBudgets(file, own.name, expert), ...vainCompaction(expert)]),
      ...experts.flatMap((expert) => unpinnedSkills(expert)),
      ...new Set(reachesOf(published).flatMap(({ unpinned }) => unpinned)),
      ...strangeModels(experts),
      ...experts.flatMap((expert) => [...uselessSkills(expert), ...(expert.model === null ? [modelless(expert)] : [])]),
    ],
    experts: experts.map((expert) => reportOnExpert(file, own.name, published, expert)),
  }
}

function reachesOf({ experts }: Published): readonly PublishedReach[] {
  return [...experts.values()].flatMap((found) => ('keys' in found ? [found] : []))
}

function deadDelegates(
  file: ExpertFile,
  own: { readonly name: string; readonly version: string },
  published: Published,
  expert: Expert,
): readonly Complaint[] {
  return expert.delegates.flatMap((written, index): Complaint[] => {
    const path = ['experts', expert.name, 'delegates', index]
    const spec = parseExpertKey(written)?.spec
    const local = localDelegate(own.name, file, written)
    if (local === undefined) {
      const found = published.experts.get(written)
      if (found === undefined || 'keys' in found) return []
      const lacks =
        found.versions.length === 0
          ? 'which is neither in the file nor published; publish it first, or correct its name'
          : `which no version has; there are ${found.versions.join(', ')}`
      return [{ path, words: `names ${written}, ${lacks}` }]
    }
    if (spec === undefined || satisfies(own.version, spec)) return []
    return [{ path, words: `names ${written}, but that expert of the same file has version ${own.version}` }]
  })
}

function missingSkills({ skills }: Published, expert: Expert): readonly Complaint[] {
  return Object.entries(expert.skills).flatMap(([name, skill]): Complaint[] => {
    const wanted = skillPackage(skill)
    const path = ['experts', expert.name, 'skills', name]
    return wanted === undefined || skills.get(wanted) !== false
      ? []
      : [
          {
            path,
            words: `wants ${wanted}, which is not published as a skill; publish it first (\`senmon publish\` takes one from npm), or correct its name`,
          },
        ]
  })
}

/** Experts that no way of delegation leads to from the one that the package is named for. */
function unreachable(file: ExpertFile, packageName: string): readonly string[] {
  const main = Object.values(file.experts).find((expert) => wholeName(packageName, expert.name) === packageName)
  if (main === undefined) return []
  const reached = new Set(localReach(file, packageName, main).map((expert) => expert.name))
  return Object.values(file.experts)
    .filter((expert) => !reached.has(expert.name))
    .map((expert) => {
      const skills = Object.keys(expert.skills)
      const also = skills.length === 0 ? '' : `, and its skills ${skills.join(', ')} with it`
      const whole = wholeName(packageName, expert.name) ?? expert.name
      return `No delegation leads from "${main.name}" to "${expert.name}"${also}; it runs only when it is asked for as ${whole}.`
    })
}

function uselessSkills(expert: Expert): readonly string[] {
  return Object.entries(expert.skills).flatMap(([name, skill]) =>
    skill.type !== 'interactiveSkill' && skill.pick?.length === 0
      ? [`The skill "${name}" of "${expert.name}" offers no tool, because its pick is empty.`]
      : [],
  )
}

function unpinnedSkills(expert: Expert): readonly string[] {
  return Object.entries(expert.skills).flatMap(([name, skill]) =>
    skill.type !== 'interactiveSkill' && !skill.pin
      ? [`The skill "${name}" of "${expert.name}" is unpinned, because its pin is false: ${LISTED}.`]
      : [],
  )
}

/** What comes of a skill that is not pinned. */
export const LISTED = "its tools are listed at a job's start"

/** A rule over the writing of files means little where a command may write them unasked. */
function waysAround(expert: Expert): readonly string[] {
  if (!Object.hasOwn(implicitSkills(expert), 'shell')) return []
  const isCovered = expert.approvals.some(
    ({ tool, args }) => matchesGlob(tool, SHELL) && Object.keys(args).length === 0,
  )
  const writing = WRITING.find((tool) => expert.approvals.some((rule) => matchesGlob(rule.tool, tool)))
  if (isCovered || writing === undefined) return []
  return [
    `"${expert.name}" asks before ${writing} and may write files with ${SHELL} unasked; cover it, or leave it out of base.`,
  ]
}

const SHELL = 'shell/exec'
const WRITING = ['write_file', 'edit_file', 'append_file', 'move', 'delete'].map((tool) => `files/${tool}`)

/** A delegate's budget above its caller's: the caller's is used up first. */
function vainBudgets(file: ExpertFile, packageName: string, expert: Expert): readonly string[] {
  return localReach(file, packageName, expert)
    .filter((one) => one !== expert)
    .flatMap((one) =>
      MEASURES.flatMap((measure) => {
        const [own, callers] = [one.budget?.[measure], expert.budget?.[measure]]
        return own === undefined || callers === undefined || own <= callers
          ? []
          : [`The budget of "${one.name}" has ${measure} ${own}, but "${expert.name}", which it works for, ${callers}.`]
      }),
    )
}

/** A run that may not take more steps than stay is never compacted; one that goes on after it may be. */
function vainCompaction({ name, compaction, maxSteps }: Expert): readonly string[] {
  const { keepSteps } = { ...COMPACTION, ...compaction }
  if (compaction === undefined || maxSteps === null || maxSteps > keepSteps + 1) return []
  return [
    `"${name}" keeps its last ${keepSteps} steps when it is compacted and may take ${maxSteps}, so that there is nothing to compact before its job is continued.`,
  ]
}

/** Models of providers that this version does not know; the server may be of another. */
function strangeModels(experts: readonly Expert[]): readonly string[] {
  const known = [...PROVIDERS, REHEARSAL]
  return [...new Set(experts.flatMap(({ model }) => model ?? []))].flatMap((model) => {
    const provider = model.split('/')[0] ?? ''
    return known.some((one) => one === provider)
      ? []
      : [sentence(`The model ${model} has a provider that is not known here, ${provider}${meant(provider, known)}`)]
  })
}

function modelless(expert: Expert): string {
  return `"${expert.name}" names no model: every job of it must.`
}

/** An expert and all experts of the same file that it may lead to, each once. The file has no cycle. */
function localReach(file: ExpertFile, packageName: string, expert: Expert): readonly Expert[] {
  const reached = new Map<string, Expert>()
  const visit = (one: Expert): void => {
    if (reached.has(one.name)) return
    reached.set(one.name, one)
    for (const key of one.delegates) {
      const local = localDelegate(packageName, file, key)
      if (local !== undefined) visit(local)
    }
  }
  visit(expert)
  return [...reached.values()]
}

function reportOnExpert(file: ExpertFile, packageName: string, published: Published, expert: Expert): ExpertReport {
  const here = localReach(file, packageName, expert)
  const foreign = here.flatMap((one) =>
    one.delegates.filter((key) => localDelegate(packageName, file, key) === undefined),
  )
  const found = foreign.flatMap((key) => {
    const one = published.experts.get(key)
    return one === undefined || !('keys' in one) ? [] : [one]
  })
  const skills = here.flatMap((one) => [...Object.values(one.skills), ...Object.values(implicitSkills(one))])
  const stdio = skills.flatMap((skill) => (skill.type === 'mcpStdioSkill' ? [skill] : []))
  const served = skills.flatMap((skill) => (skill.type === 'interactiveSkill' ? [] : [skill]))
  return {
    name: expert.name,
    key: wholeName(packageName, expert.name) ?? expert.name,
    model: expert.model,
    reaches: sorted([
      ...here.filter((one) => one !== expert).map((one) => wholeName(packageName, one.name) ?? one.name),
      ...found.flatMap(({ keys }) => keys),
    ]),
    unchecked: sorted([
      ...foreign.filter((key) => !published.experts.has(key)),
      ...here
        .flatMap((one) => Object.values(one.skills).flatMap((skill) => skillPackage(skill) ?? []))
        .filter((wanted) => !published.skills.has(wanted)),
    ]),
    requiredEnv: sorted([...served.flatMap((skill) => skill.requiredEnv), ...found.flatMap((one) => one.requiredEnv)]),
    allowedDomains: sorted([
      ...stdio.flatMap((skill) => skill.allowedDomains),
      ...found.flatMap((one) => one.allowedDomains),
    ]),
    commands: sorted([
      ...stdio.map(({ packageName: name, spec, args }) => [`${name}@${spec}`, ...args].join(' ')),
      ...found.flatMap((one) => one.commands),
    ]),
    endpoints: sorted([
      ...served.flatMap((skill) => ('endpoint' in skill ? [skill.endpoint] : [])),
      ...found.flatMap((one) => one.endpoints),
    ]),
    worstCase: worstCase(expert),
    compaction: { ...COMPACTION, ...expert.compaction },
  }
}

/**
 * A budget bounds a run with all that it delegates. A limit of steps bounds the run alone, which may start as many others
 * as its model asks for.
 */
function worstCase(expert: Expert): ExpertReport['worstCase'] {
  const { budget = {}, maxSteps, delegates } = expert
  const own = delegates.length === 0 ? (maxSteps ?? Infinity) : Infinity
  const steps = Math.min(budget.steps ?? Infinity, own)
  const limits: Budget = steps === Infinity ? budget : { ...budget, steps }
  const all = MEASURES.map((measure) => [measure, limits[measure] ?? null] as const)
  return Object.fromEntries(all) as ExpertReport['worstCase'] // one for each measure
}

function sorted(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)].toSorted()
}
