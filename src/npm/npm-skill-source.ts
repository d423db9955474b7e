/** Published skills, read from the records that the registry keeps. */
import { parseExpertKey } from '../../schema/expert-key.ts'
import { saysSkill } from '../../schema/expert-package.ts'
import { isJsonObject, type JsonObject } from '../../schema/json.ts'
import type { PackageStore } from '../../schema/package-store.ts'
import { newestFirst, pickVersion } from '../../schema/version-spec.ts'
import type { PublishedSkill, SkillSource } from '../expert/skill-source.ts'

export function openNpmSkillSource(packages: Pick<PackageStore, 'find' | 'listSkills'>): SkillSource {
  async function find(key: string): Promise<PublishedSkill | undefined> {
    // A skill is a whole package, so its key is one of an expert that is no member of another's file.
    const parsed = parseExpertKey(key)
    if (parsed === undefined || parsed.member !== undefined) return undefined
    const record = await packages.find(parsed.packageName)
    if (record === undefined) return undefined
    const version = pickVersion(record, parsed.spec)
    const published = record.versions.find((known) => known.version === version)
    if (published === undefined || !isSkill(published.manifest)) return undefined
    const { description } = published.manifest
    return {
      key: `${record.name}@${published.version}`,
      name: record.name,
      version: published.version,
      description: typeof description === 'string' ? description : '',
      integrity: published.integrity,
      owner: record.owner,
      versions: newestFirst(record.versions.map((known) => known.version)),
      deprecated: published.deprecated,
      publishedAt: published.publishedAt,
    }
  }

  return {
    find,
    async list(search, first, after) {
      const names = await packages.listSkills(search, first, after)
      return (await Promise.all(names.map(find))).filter((skill) => skill !== undefined)
    },
  }
}

/** An expert's file may also name a package that says nothing and has a program to start. */
function isSkill(manifest: JsonObject): boolean {
  const { bin } = manifest
  const starts = typeof bin === 'string' || (bin !== undefined && isJsonObject(bin) && Object.keys(bin).length > 0)
  return starts || saysSkill(manifest)
}
