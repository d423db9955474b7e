/** How compartments start in an image: what each sees of its machine, and that it is nothing else. */
import { expect, it } from 'vitest'
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import { IMAGE as PLACES, imagePaths, type ImageFacts } from '../../schema/machine-image.ts'
import type { Launch } from '../../schema/machine-plan.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'
import { openImageSkills } from '../../src/skill/image-skills.ts'
import { fixtureSkill } from '../support/sandbox.ts'

const IMAGE: ImageFacts = { ...PLACES, arch: 'x64' }
const { directory, libraries, passwd, preload, workspace, input, packages } = imagePaths(IMAGE)
const OF_NODE = [IMAGE.node, passwd, preload]
const LIBRARIES = [`${libraries}/lib`, `${libraries}/lib64`]

const locked = (change: Partial<LockedStdioSkill> = {}) =>
  ({
    type: 'mcpStdioSkill',
    entry: 'main.js',
    args: [],
    requiredEnv: ['TOKEN', 'PATH', 'SENMON_WORKSPACE'],
    installHash: 'x',
    ...change,
  }) as unknown as LockedStdioSkill // as much of it as is looked at

async function skillOf(change: Partial<LockedStdioSkill> = {}) {
  const experts = { 'e@1.0.0': { key: 'e@1.0.0', skills: { s: locked(change) } } }
  const skills = openImageSkills(() => Promise.resolve(fixtureSkill('probe')))
  const [skill] = (await skills.of(IMAGE, { experts } as unknown as Lock)).skills
  if (skill?.packages === undefined) throw new Error('there is no skill')
  return { ...skill, packages: skill.packages }
}

/** Paths of the machine that a compartment can read, and those of them that it can write. */
function seenBy({ feeds }: Launch) {
  const fed = feeds.flatMap((feed) => (feed.type === 'options' ? feed.options : []))
  const sources = (option: RegExp): readonly string[] =>
    fed.flatMap((word, i) => (option.test(word) ? [fed[i + 1] ?? ''] : []))
  return { writes: sources(/^--bind/), reads: sources(/^--ro-bind/).toSorted(), fed }
}

it('shows the runner its program and Node, and nothing that it could write', () => {
  const { writes, reads } = seenBy(imagePlan(IMAGE).runner)
  expect(writes).toEqual([])
  expect(reads).toEqual([...LIBRARIES, ...OF_NODE, directory('runner')].toSorted())
})

it('shows a skill its package and the workspace, and neither Fly’s socket nor what the machine keeps', async () => {
  const { launch, packages: own } = await skillOf()
  const { writes, reads, fed } = seenBy(launch)
  expect(own.directory).toBe(`${packages}/${own.treeHash.slice(0, 32)}`)
  expect(writes).toEqual([workspace])
  expect(reads).toEqual([...LIBRARIES, ...OF_NODE, input, own.directory].toSorted())
  for (const namespace of ['user', 'pid', 'ipc', 'uts', 'cgroup', 'net'])
    expect(fed).toContain(`--unshare-${namespace}`)
  expect(fed.join(' ')).not.toMatch(/\.fly|FLY_|--share-net|--setenv/)
})

it('shows a skill that asks for them the programs of the system, and no library of theirs twice', async () => {
  const { launch, packages: own } = await skillOf({ programs: 'system' })
  const { reads, fed } = seenBy(launch)
  const settings = ['/etc/alternatives', '/etc/ld.so.cache']
  expect(reads).toEqual(['/usr', ...settings, ...OF_NODE, input, own.directory].toSorted())
  expect(fed.join(' ')).toContain('--symlink usr/lib /lib')
})

it('gives a skill no secret under a name that is the compartment’s own', async () => {
  const { requiredEnv, launch } = await skillOf()
  expect(requiredEnv).toEqual(['TOKEN'])
  expect(Object.keys(launch.environment).toSorted()).toEqual(['PATH', 'SENMON_WORKSPACE'])
})
