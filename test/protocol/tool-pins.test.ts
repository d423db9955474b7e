/** What pinning does to a publication: the lock holds what the skill offers, and no author waits for a skill that hangs. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Clock } from '../../schema/clock.ts'
import type { LockedStdioSkill } from '../../schema/lock.ts'
import type { ToolDefinition } from '../../schema/message.ts'
import type { SkillLister } from '../../registry/ports.ts'
import { PINNING_MS_MAX } from '../../registry/tool-pins.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { startRegistry, type TestRegistry } from '../support/npm-registry.ts'

const tool = (name: string): ToolDefinition => ({ name, description: `${name}s.`, inputSchema: { type: 'object' } })
const TOOLS = [tool('read'), { ...tool('write'), annotations: { destructiveHint: true } }, tool('send')]

let registry: TestRegistry | undefined
afterEach(() => registry?.close())

async function begin(list: SkillLister['list'], clock: Clock = fakeClock()) {
  registry = await startRegistry({ lister: { list }, clock })
  const started = registry
  const folder = await started.folder({
    'package.json': JSON.stringify({ name: 'files', version: '1.0.0', keywords: ['senmon-skill'], bin: 'skill.js' }),
    'skill.js': '#!/usr/bin/env node\n',
  })
  expect(await started.npm('acme-key', folder, 'publish')).toMatchObject({ code: 0 })
  let versions = 0
  const publish = async (...skills: readonly string[]) => {
    const version = `1.0.${versions++}`
    const toml = skills.map(
      (lines, i) => `[experts."user".skills."s${i}"]\ntype = "mcpStdioSkill"\npackageName = "files"\n${lines}\n`,
    )
    const manifest = JSON.stringify({ name: 'user', version, keywords: ['senmon-expert'], license: 'MIT' })
    const expert = ['[experts."user"]\ninstruction = "Do it."', ...toml].join('\n')
    const directory = await started.folder({ 'package.json': manifest, 'senmon.toml': expert })
    const { code, stderr } = await started.npm('acme-key', directory, 'publish')
    const lock = await started.packages.findLock('user', version, 'user')
    const locked = Object.values(lock?.experts[lock.coordinator]?.skills ?? {})
    return { code, stderr, skills: locked as readonly LockedStdioSkill[] }
  }
  return { publish }
}

describe('a publication', () => {
  it('pins what its skills offer, each version of a skill asked once, and as picked', async () => {
    const asked: LockedStdioSkill[] = []
    const { publish } = await begin(async (skill) => {
      if (skill.type === 'mcpStdioSkill') asked.push(skill)
      return TOOLS
    })
    const { code, skills, stderr } = await publish('pick = ["read", "write"]', 'omit = ["send"]', 'args = ["x"]')
    expect(code, stderr).toBe(0)
    expect(skills.map(({ tools }) => tools)).toEqual([TOOLS.slice(0, 2), TOOLS.slice(0, 2), TOOLS])
    expect(skills.map(({ unpinned }) => unpinned)).toEqual([undefined, undefined, undefined])
    expect(stderr).not.toContain('not pinned')
    await publish('')
    expect(asked.map(({ args }) => args)).toEqual([[], ['x']])
  })

  it('is refused when pick or omit name what is not there, and says what is (TP3)', async () => {
    const { publish } = await begin(async () => TOOLS)
    for (const [lines, sentence] of [
      [
        'pick = ["reed"]',
        'The skill "s0" of "user" picks the tool "reed", which is not there; it offers read, write, send.',
      ],
      ['omit = ["delete"]', 'The skill "s0" of "user" omits the tool "delete", which is not there'],
    ] as const) {
      const { code, stderr, skills } = await publish(lines)
      expect([code, skills]).toEqual([1, []])
      expect(stderr).toContain(sentence)
    }
  })

  it('is made though a skill cannot be asked, and both lock and npm say why (TP1, TP2)', async () => {
    const { publish } = await begin(async () => ({ unlisted: 'it did not start (exit code 1)' }))
    const { code, stderr, skills } = await publish('requiredEnv = ["TOKEN"]', 'pin = false\npick = ["x"]')
    expect(code).toBe(0)
    expect(skills.map(({ tools, unpinned }) => [tools, unpinned])).toEqual([
      [undefined, 'it did not start (exit code 1); it was asked without TOKEN'],
      [undefined, 'its author wants it so'],
    ])
    expect(stderr).toContain(
      'npm notice The tools of "s0" of user@1.0.0 are not pinned: it did not start (exit code 1)',
    )
  })

  it('is made though asking throws, or the tools are more than a lock should hold (TP1)', async () => {
    const answers = [
      () => Promise.reject(new Error('no machine')),
      async () => [{ ...tool('huge'), description: 'x'.repeat(300_000) }],
    ]
    const { publish } = await begin(
      (skill) => answers['args' in skill ? Number(skill.args[0]) : 0]?.() ?? Promise.resolve([]),
    )
    const { code, skills } = await publish('args = ["0"]', 'args = ["1"]')
    expect(code).toBe(0)
    expect(skills.map(({ unpinned }) => unpinned)).toEqual([
      'the platform failed to ask it',
      'the definitions of its tools are above 262144 bytes',
    ])
  })

  it('waits for its skills no longer than the limit, and asks again the next time (TP1)', async () => {
    const clock: FakeClock = fakeClock()
    const hanging = Promise.withResolvers<readonly ToolDefinition[]>()
    let asked = 0
    const { publish } = await begin(async () => {
      asked += 1
      if (asked > 1) return TOOLS
      void clock.advance(PINNING_MS_MAX)
      hanging.promise.catch(() => {})
      return hanging.promise
    }, clock)
    const first = await publish('')
    expect([first.code, first.skills[0]?.unpinned]).toEqual([0, 'it did not tell its tools within 20 seconds'])
    hanging.resolve([])
    const { skills } = await publish('args = ["other"]')
    expect(skills[0]?.tools).toEqual(TOOLS)
  })
})
