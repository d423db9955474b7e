/** The packages of skills as they are sent to machines: each installed directory as one gzipped tar, named by its hash. */
import { create } from 'tar'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import type { PackagesLine } from '../../schema/machine-link.ts'
import { stdioSkills } from './image-plan.ts'

export interface SkillPackagesDependencies {
  /** A directory with the skill's packages, complete; the same for the same `installHash`. */
  readonly install: (skill: LockedStdioSkill) => Promise<string>
  /** Bytes of packages that are kept for the next job. */
  readonly bytesMax: number
}

export interface SkillPackages {
  /** The name of a skill's package: letters, digits, a path of none. */
  nameOf(skill: LockedStdioSkill): string
  /** Packs what is not packed yet. Throws what `install` throws. */
  of(lock: Lock): Promise<{ readonly line: PackagesLine; readonly bytes: ReadonlyMap<string, Uint8Array> }>
}

interface Packed {
  readonly bytes: Buffer
  readonly sha256: Sha256
}

export function openSkillPackages({ install, bytesMax }: SkillPackagesDependencies): SkillPackages {
  /** The least lately used first. */
  const kept = new Map<string, Promise<Packed>>()
  let keptBytes = 0

  const nameOf = (skill: LockedStdioSkill): string => sha256(skill.installHash).slice(0, 32)

  async function pack(skill: LockedStdioSkill): Promise<Packed> {
    const directory = await install(skill)
    const chunks: Buffer[] = []
    for await (const chunk of create({ cwd: directory, gzip: { level: 1 }, portable: true, noMtime: true }, ['.']))
      chunks.push(chunk)
    const bytes = Buffer.concat(chunks)
    return { bytes, sha256: sha256(bytes) }
  }

  async function packed(skill: LockedStdioSkill): Promise<Packed> {
    const name = nameOf(skill)
    const known = kept.get(name)
    if (known !== undefined) {
      kept.delete(name)
      kept.set(name, known)
      return await known
    }
    const packing = pack(skill)
    kept.set(name, packing)
    try {
      keptBytes += (await packing).bytes.length
    } catch (error) {
      kept.delete(name)
      throw error
    }
    for (const [oldest, one] of kept) {
      if (keptBytes <= bytesMax || oldest === name) break
      kept.delete(oldest)
      keptBytes -= (await one).bytes.length
    }
    return await packing
  }

  return {
    nameOf,
    async of(lock) {
      const skills = new Map(stdioSkills(lock).map(({ locked }) => [nameOf(locked), locked]))
      const all = await Promise.all([...skills].map(async ([name, skill]) => ({ name, ...(await packed(skill)) })))
      return {
        line: { type: 'packages', packages: all.map(({ name, sha256: hash }) => ({ name, sha256: hash })) },
        bytes: new Map(all.map(({ name, bytes }) => [name, bytes])),
      }
    },
  }
}
