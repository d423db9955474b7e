/** How compartments start in an image: what each sees of its machine, and that it is nothing else. */
import { expect, it } from 'vitest'
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import type { ImageFacts } from '../../schema/machine-link.ts'
import type { Launch } from '../../schema/machine-plan.ts'
import { imagePlan, imageSkills } from '../../src/fly/image-plan.ts'

const IMAGE: ImageFacts = {
  arch: 'x64',
  bwrap: '/usr/bin/bwrap',
  node: '/usr/local/bin/node',
  libraries: ['/lib/libc.so.6', '/opt/lib/libextra.so'],
  passwd: '/opt/senmon/passwd',
  preload: '/opt/senmon/preload.cjs',
  runner: '/opt/senmon/runner.mjs',
  roots: [
    { path: '/usr', link: null },
    { path: '/lib', link: 'usr/lib' },
  ],
  settings: ['/etc/alternatives'],
  place: '/var/lib/senmon-machine',
  workspace: '/var/lib/senmon-machine/own/workspace',
  input: '/var/lib/senmon-machine/own/input',
  packages: '/var/lib/senmon-machine/packages',
}
const OF_NODE = [IMAGE.node, IMAGE.passwd, IMAGE.preload]

const locked = (change: Partial<LockedStdioSkill> = {}) =>
  ({
    type: 'mcpStdioSkill',
    entry: 'main.js',
    args: [],
    requiredEnv: ['TOKEN', 'PATH', 'SENMON_WORKSPACE'],
    installHash: 'x',
    ...change,
  }) as unknown as LockedStdioSkill // as much of it as is looked at

function skillOf(change: Partial<LockedStdioSkill> = {}) {
  const experts = { 'e@1.0.0': { key: 'e@1.0.0', skills: { s: locked(change) } } }
  const [skill] = imageSkills(IMAGE, { experts } as unknown as Lock, () => 'abc').skills
  if (skill === undefined) throw new Error('there is no skill')
  return skill
}

/** Paths of the machine that a compartment can read, and those of them that it can write. */
function seenBy({ feeds }: Launch) {
  const fed = feeds.flatMap((feed) => (feed.type === 'options' ? feed.options : []))
  const sources = (option: string): readonly string[] =>
    fed.flatMap((word, i) => (word === option ? [fed[i + 1] ?? ''] : []))
  const known = ['--bind', '--ro-bind']
  expect(fed.filter((word) => /bind/.test(word) && !known.includes(word))).toEqual([])
  return { writes: sources('--bind'), reads: sources('--ro-bind').toSorted(), fed }
}

it('shows the runner its program and Node, and nothing that it could write', () => {
  const { writes, reads } = seenBy(imagePlan(IMAGE).runner)
  expect(writes).toEqual([])
  expect(reads).toEqual([...IMAGE.libraries, ...OF_NODE, IMAGE.runner].toSorted())
})

it('shows a skill its package and the workspace, and neither Fly’s socket nor what the machine keeps', () => {
  const { launch } = skillOf()
  const { writes, reads, fed } = seenBy(launch)
  expect(writes).toEqual([IMAGE.workspace])
  expect(reads).toEqual([...IMAGE.libraries, ...OF_NODE, IMAGE.input, `${IMAGE.packages}/abc`].toSorted())
  for (const namespace of ['user', 'pid', 'ipc', 'uts', 'cgroup', 'net'])
    expect(fed).toContain(`--unshare-${namespace}`)
  expect(fed.join(' ')).not.toMatch(/\.fly|FLY_|--share-net|--setenv/)
})

it('shows a skill that asks for them the programs of the system, and no library of theirs twice', () => {
  const { reads, fed } = seenBy(skillOf({ programs: 'system' }).launch)
  expect(reads).toEqual(
    ['/opt/lib/libextra.so', '/usr', '/etc/alternatives', ...OF_NODE, IMAGE.input, `${IMAGE.packages}/abc`].toSorted(),
  )
  expect(fed.join(' ')).toContain('--symlink usr/lib /lib')
})

it('gives a skill no secret under a name that is the compartment’s own', () => {
  expect(skillOf().requiredEnv).toEqual(['TOKEN'])
  expect(Object.keys(skillOf().launch.environment).toSorted()).toEqual(['PATH', 'SENMON_WORKSPACE'])
})
