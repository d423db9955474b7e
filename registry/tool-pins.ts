/**
 * Pins the tools of a publication's skills: each skill's own program says what it offers, once for a version of it.
 *
 * TP1 A publication never fails, and never waits longer than a limit, because a skill could not be asked.
 * TP2 A skill that could not be asked is unpinned, and its lock says why.
 * TP3 `pick` and `omit` name tools that are there, or the publication is refused.
 */
import type { Clock } from '../schema/clock.ts'
import { refuse, type Refusal } from '../schema/error.ts'
import { hashOf, type Sha256 } from '../schema/hash.ts'
import type { LockedSkill } from '../schema/lock.ts'
import { onOffer, type ServedSkill } from '../schema/tool-pin.ts'
import type { SkillLister } from './ports.ts'

/** How long a publication waits for its skills, all of them together. */
export const PINNING_MS_MAX = 20_000
const KEPT_MAX = 1000
/** What the lock of one skill may grow by: a lock is read with every job. */
const PIN_BYTES_MAX = 256 * 1024

/** A skill to pin, with who names it, and whether its author wants it pinned. */
export interface Pinnable {
  readonly subject: string
  readonly skill: LockedSkill
  readonly pin: boolean
}

export interface ToolPins {
  /** The same skills, in order, those with a program pinned or unpinned. Refuses with tool_not_found (TP3). */
  pin(skills: readonly Pinnable[]): Promise<readonly LockedSkill[] | Refusal>
}

type Listing = Awaited<ReturnType<SkillLister['list']>>

export function openToolPins(lister: SkillLister, clock: Clock): ToolPins {
  const kept = new Map<Sha256, Promise<Listing>>()

  /** What is listed is kept, what failed is tried again by the next publication. */
  const list = (skill: ServedSkill): Promise<Listing> => {
    // What a server on the network offers may be another thing the next time.
    if (skill.type !== 'mcpStdioSkill') return lister.list(skill).catch(notAsked)
    const key = hashOf([skill.installHash, skill.entry, skill.args])
    const known = kept.get(key)
    if (known !== undefined) return known
    const listing = lister.list(skill).catch(notAsked)
    const oldest = kept.keys().next().value
    if (kept.size >= KEPT_MAX && oldest !== undefined) kept.delete(oldest)
    kept.set(key, listing)
    void listing.then((found) => ('unlisted' in found ? kept.delete(key) : undefined))
    return listing
  }

  return {
    async pin(skills) {
      const over = new AbortController()
      const late = clock.sleep(PINNING_MS_MAX, over.signal).then(
        () => ({ unlisted: `it did not tell its tools within ${PINNING_MS_MAX / 1000} seconds` }),
        () => ({ unlisted: 'nobody waited for it' }),
      )
      try {
        const pinned = await Promise.all(
          skills.map(async ({ subject, skill, pin }) => {
            if (skill.type === 'interactiveSkill') return skill
            if (!pin) return { ...skill, unpinned: 'its author wants it so' }
            return pinTo(subject, skill, await Promise.race([list(skill), late]))
          }),
        )
        const refused = pinned.find((one) => 'refused' in one)
        return refused ?? pinned.flatMap((one) => ('refused' in one ? [] : [one]))
      } finally {
        over.abort()
      }
    },
  }
}

const notAsked = (): Listing => ({ unlisted: 'the platform failed to ask it' })

function pinTo(subject: string, skill: ServedSkill, listing: Listing): ServedSkill | Refusal {
  if ('unlisted' in listing) {
    const isAsked = skill.type === 'mcpStdioSkill' && skill.requiredEnv.length > 0
    const without = isAsked ? `; it was asked without ${skill.requiredEnv.join(', ')}` : ''
    return { ...skill, unpinned: `${listing.unlisted}${without}` }
  }
  const names = new Set(listing.map((tool) => tool.name))
  const missing = [...(skill.pick ?? []), ...skill.omit].find((name) => !names.has(name))
  if (missing !== undefined) return refuse('tool_not_found', missingTool(subject, skill, missing, [...names]))
  const tools = onOffer(skill, listing)
  if (Buffer.byteLength(JSON.stringify(tools)) > PIN_BYTES_MAX)
    return { ...skill, unpinned: `the definitions of its tools are above ${PIN_BYTES_MAX} bytes` }
  return { ...skill, tools }
}

const NAMED_MAX = 30

function missingTool(subject: string, skill: ServedSkill, missing: string, there: readonly string[]): string {
  const key = skill.pick?.includes(missing) === true ? 'picks' : 'omits'
  const more = there.length > NAMED_MAX ? ` and ${there.length - NAMED_MAX} more` : ''
  const named = there.slice(0, NAMED_MAX).join(', ')
  const offers = there.length === 0 ? 'it offers no tool' : `it offers ${named}${more}`
  return `${subject} ${key} the tool "${missing}", which is not there; ${offers}.`
}
