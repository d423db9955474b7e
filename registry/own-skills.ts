/**
 * Skills that come with the platform: their packages belong to an application of the platform's own. They alone may see
 * the programs of the system, every expert has those of schema/base-choice.ts, and they bring the list of their tools.
 */
import { refuse, type Refusal } from '../schema/error.ts'
import type { ApplicationId } from '../schema/id.ts'
import { isJsonObject, type Json } from '../schema/json.ts'
import type { ToolDefinition } from '../schema/message.ts'
import type { PackageRecord, PackageStore } from '../schema/package-store.ts'
import type { ServedSkill } from '../schema/tool-pin.ts'
import type { PackageManifest } from './package-manifest.ts'
import type { Content, SkillLister } from './ports.ts'
import { openTarball } from './tarball.ts'

/** Where such a package keeps its list of tools, written when it is built. */
const TOOLS_PATH = 'dist/tools.json'

/** Whether a package's skill sees the programs of the system; refused when it asks for them and is a stranger's. */
export function programsOf(
  subject: string,
  manifest: PackageManifest,
  isOwn: boolean,
): { readonly programs?: 'system' } | Refusal {
  const programs = memberOf(manifest.json['senmon'] ?? null, 'programs')
  if (programs === undefined) return {}
  if (programs !== 'system')
    return refuse('skill_unsupported', `${subject} wants ${manifest.name}, whose senmon.programs is not "system".`)
  if (isOwn) return { programs }
  return refuse(
    'skill_unsupported',
    `${subject} wants ${manifest.name}, which asks for the programs of the system; only skills that come with the platform have them.`,
  )
}

function memberOf(value: Json, name: string): Json | undefined {
  return isJsonObject(value) && Object.hasOwn(value, name) ? value[name] : undefined
}

export interface OwnGround {
  readonly packages: PackageStore
  readonly content: Pick<Content, 'get'>
  /** Undefined where no skills come with the platform. */
  readonly own: ApplicationId | undefined
}

/** Whether the package is the platform's. */
export function isOwned(ground: Pick<OwnGround, 'own'>, record: PackageRecord): boolean {
  return ground.own !== undefined && record.owner === ground.own
}

/** Asks nobody for the tools of a skill that brings their list; what it then offers is compared, as with any skill. */
export function ownLister(ground: OwnGround, lister: SkillLister): SkillLister {
  return { list: async (skill) => (await broughtBy(ground, skill)) ?? (await lister.list(skill)) }
}

async function broughtBy(ground: OwnGround, skill: ServedSkill): Promise<readonly ToolDefinition[] | undefined> {
  if (skill.type !== 'mcpStdioSkill') return undefined
  const [only, ...others] = skill.packages
  if (only === undefined || others.length > 0) return undefined
  const record = await ground.packages.find(only.name)
  if (record === undefined || !isOwned(ground, record)) return undefined
  const found = await ground.packages.findTarball(only.integrity)
  if (found === undefined) return undefined
  const opened = await openTarball(await ground.content.get(found.contentHash))
  const file = 'refused' in opened ? undefined : opened.files.get(TOOLS_PATH)
  // The platform built it.
  return file && (JSON.parse(new TextDecoder().decode(file.bytes)) as readonly ToolDefinition[])
}
