/** Published experts, without a registry. */
import { refuse } from '../../schema/error.ts'
import { parseExpertKey, printExpertKey } from '../../schema/expert-key.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import type { ExpertSource } from '../../src/expert/expert-source.ts'

/** A locked expert with nothing special about it. */
export function lockedExpert(name: string, given: Partial<LockedExpert> = {}): LockedExpert {
  return {
    key: printExpertKey(name, '1.0.0'),
    name,
    version: '1.0.0',
    package: { name, version: '1.0.0', integrity: `sha512-${name}` },
    description: `What ${name} does.`,
    instruction: 'Do it.',
    model: 'rehearsal/turns.json',
    maxSteps: null,
    delegates: {},
    skills: {},
    ...given,
  }
}

/** The lock of the first expert, with all others as its delegates. */
export function lockOf(coordinator: LockedExpert, ...others: readonly LockedExpert[]): Lock {
  const experts = Object.fromEntries([coordinator, ...others].map((expert) => [expert.key, expert]))
  return { version: 1, coordinator: coordinator.key, experts }
}

/** A source of these locks, each found by its coordinator's name, with or without the version. */
export function fakeExpertSource(...locks: readonly Lock[]): ExpertSource {
  const coordinatorOf = (lock: Lock): LockedExpert | undefined => lock.experts[lock.coordinator]
  const published = locks.flatMap((lock) => {
    const expert = coordinatorOf(lock)
    return expert === undefined ? [] : [{ expert, lock }]
  })
  const find = (key: string) => {
    const parsed = parseExpertKey(key)
    const named = published.filter(({ expert }) => expert.name === parsed?.name)
    const version = parsed?.spec
    return { parsed, named, found: named.find(({ expert }) => version === undefined || expert.version === version) }
  }
  const card = ({ expert }: { readonly expert: LockedExpert }) => ({
    key: expert.key,
    name: expert.name,
    version: expert.version,
    description: expert.description,
    packageName: expert.package.name,
    integrity: expert.package.integrity,
    owner: 'dev',
    model: expert.model,
    delegates: Object.values(expert.delegates),
    skills: Object.keys(expert.skills),
    tags: [],
    versions: [expert.version],
    publishedAt: 0,
  })
  return {
    async resolve(key) {
      const { parsed, named, found } = find(key)
      if (parsed === undefined) return refuse('expert_key_invalid', `${key} is not an expert key`)
      if (named.length === 0) return refuse('expert_not_found', `there is no expert ${key}`)
      return found?.lock ?? refuse('version_not_found', `expert ${parsed.name} has no version ${parsed.spec}`)
    },
    find: async (key) => {
      const { found } = find(key)
      return found === undefined ? undefined : card(found)
    },
    list: async (search, first, after) =>
      published
        .map(card)
        .filter((one) => search === null || `${one.name} ${one.description}`.includes(search))
        .filter((one) => after === null || one.name > after)
        .toSorted((a, b) => (a.name < b.name ? -1 : 1))
        .slice(0, first),
    readFile: async () => undefined,
  }
}
