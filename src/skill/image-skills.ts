/**
 * The skills of a lock for machines of the image, which see none of this computer's files: how each starts, and its
 * packages as content that the machine asks for by hash (PROTOCOL.md P7.15).
 */
import type { HostLine, MachineLine } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import { imagePaths, type ImageFacts } from '../../schema/machine-image.ts'
import type { SkillsLine } from '../../schema/machine-plan.ts'
import { imageSkill, secretsOf } from '../sandbox/machine-image.ts'
import { openInstalledContent } from './installed-content.ts'

export interface ImageSkills {
  /** The same packages once, whoever names them. Throws `machine_failed` when a skill is not to be had. */
  of(image: ImageFacts, lock: Lock): Promise<SkillsLine>
  /** A machine's lines but those that ask for packages: these are answered here. */
  answer(lines: AsyncIterable<MachineLine>, send: (line: HostLine) => void): AsyncGenerator<MachineLine>
}

/** `install` gives a directory with the skill's packages, complete; the same for the same `installHash`. */
export function openImageSkills(install: (skill: LockedStdioSkill) => Promise<string>): ImageSkills {
  const content = openInstalledContent()
  return {
    async of(image, lock) {
      const wanted = Object.values(lock.experts).flatMap((expert) =>
        Object.entries(expert.skills).flatMap(([skill, locked]) =>
          locked.type === 'mcpStdioSkill' ? [{ expertKey: expert.key, skill, locked }] : [],
        ),
      )
      const { packages } = imagePaths(image)
      const skills = await Promise.all(
        wanted.map(async ({ expertKey, skill, locked }) => {
          const treeHash = await content.treeOf(await install(locked))
          const directory = `${packages}/${treeHash.slice(0, 32)}`
          return {
            expertKey,
            skill,
            requiredEnv: secretsOf(locked),
            launch: imageSkill(image, locked, directory),
            packages: { treeHash, directory },
          }
        }),
      ).catch((cause: unknown) => {
        throw new PlatformError('machine_failed', `A skill of ${lock.coordinator} could not be installed.`, { cause })
      })
      return { type: 'skills', skills }
    },
    async *answer(lines, send) {
      for await (const line of lines) {
        const isAsking = line.type === 'request' && line.method === 'blob'
        const value = isAsking ? await content.chunk(line.params.hash, line.params.offset) : undefined
        if (isAsking && value !== undefined) send({ type: 'reply', id: line.id, ok: true, value: { ...value } })
        else yield line
      }
    },
  }
}
