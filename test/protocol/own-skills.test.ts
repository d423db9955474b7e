/** Skills that come with the platform: in every lock, with the tools that they bring, and with what no other may have. */
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { BASE_SKILLS } from '../../schema/base-choice.ts'
import type { LockedExpert, LockedStdioSkill } from '../../schema/lock.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { buildSkills } from '../support/files-skill.ts'
import { acme, rival, startRegistry, type TestRegistry } from '../support/npm-registry.ts'
import { ROOT } from '../support/source.ts'

let registry: TestRegistry | undefined
beforeAll(buildSkills)
afterEach(() => registry?.close())

/** A registry whose own skills belong to acme, and the skills that were asked for their tools. */
async function begin(own: typeof acme | undefined, publisher = 'acme-key') {
  const asked: LockedStdioSkill[] = []
  const list = async (skill: LockedStdioSkill) => {
    asked.push(skill)
    return { unlisted: 'this registry asks no skill' }
  }
  const started = await startRegistry({ lister: { list }, clock: fakeClock(), ...(own === undefined ? {} : { own }) })
  registry = started
  for (const name of ['files', 'shell']) {
    const made = await started.npm(publisher, join(ROOT, 'plugins', name), 'publish', '--access', 'public')
    expect(made.code, made.stderr).toBe(0)
  }
  let versions = 0
  const publish = async (lines = '', key = 'rival-key') => {
    const version = `1.0.${versions++}`
    const manifest = JSON.stringify({ name: 'user', version, keywords: ['senmon-expert'], license: 'MIT' })
    const toml = `[experts."user"]\ninstruction = "Do it."\n${lines}`
    const directory = await started.folder({ 'package.json': manifest, 'senmon.toml': toml })
    const { code, stderr } = await started.npm(key, directory, 'publish')
    const lock = await started.packages.findLock('user', version, 'user')
    const locked: LockedExpert | undefined = lock?.experts[lock.coordinator]
    const skills = (locked?.skills ?? {}) as Readonly<Record<string, LockedStdioSkill>>
    return { code, stderr, skills, base: locked?.base }
  }
  return { started, publish, asked }
}

describe('a skill that comes with the platform', () => {
  it('is in the lock of an expert that declares nothing, with the tools that it brings, and nobody is asked', async () => {
    const { publish, asked } = await begin(acme)
    const { code, stderr, skills } = await publish()
    expect(code, stderr).toBe(0)
    expect(Object.keys(skills)).toEqual(['files', 'shell'])
    for (const [name, { tools, pick, unpinned, packages }] of Object.entries(skills)) {
      const known = BASE_SKILLS[name as keyof typeof BASE_SKILLS]
      expect(tools?.map((tool) => tool.name)).toEqual(known.tools)
      expect({ pick, unpinned }).toEqual({ pick: null, unpinned: undefined })
      expect(packages).toMatchObject([{ name: known.packageName, integrity: expect.stringMatching(/^sha512-/) }])
    }
    expect(skills['files']?.tools?.[0]).toMatchObject({ annotations: { readOnlyHint: true } })
    expect(asked).toEqual([])
  })

  it('has the programs of the system when its package asks for them', async () => {
    const { publish } = await begin(acme)
    const { skills } = await publish()
    expect(Object.values(skills).map(({ programs }) => programs)).toEqual([undefined, 'system'])
  })

  it('is in no lock of an expert that gave it up, and only with the tools that were kept', async () => {
    const { publish } = await begin(acme)
    expect(await publish('base = []')).toMatchObject({ code: 0, skills: {}, base: undefined })
    const { skills, base } = await publish('base = ["files/read_file", "base/todo"]')
    expect(Object.keys(skills)).toEqual(['files'])
    expect(skills['files']).toMatchObject({ pick: ['read_file'], tools: [{ name: 'read_file' }] })
    expect(base).toEqual({ tools: ['todo'], rule: null })
  })

  it('is in no lock where none come with the platform', async () => {
    const { publish } = await begin(undefined)
    expect(await publish()).toMatchObject({ code: 0, skills: {} })
  })

  it('is not taken from a stranger who has its name', async () => {
    const { publish } = await begin(acme, 'rival-key')
    const { code, stderr } = await publish()
    expect(code).toBe(1)
    expect(stderr).toContain('@senmon/files, which is not the platform')
  })
})

describe('a skill of others', () => {
  it('may not ask for the programs of the system', async () => {
    const { started, publish } = await begin(acme)
    const folder = await started.folder({
      'package.json': JSON.stringify({
        name: 'shady',
        version: '1.0.0',
        keywords: ['senmon-skill'],
        bin: 'skill.js',
        senmon: { programs: 'system' },
      }),
      'skill.js': '#!/usr/bin/env node\n',
      'dist/tools.json': '[]',
    })
    expect(await started.npm('rival-key', folder, 'publish')).toMatchObject({ code: 0 })
    const skill = '[experts."user".skills."s"]\ntype = "mcpStdioSkill"\npackageName = "shady"\n'
    const { code, stderr } = await publish(`base = []\n${skill}`)
    expect(code).toBe(1)
    expect(stderr).toContain('asks for the programs of the system; only skills that come with the platform have them')
  })

  it('is asked for its tools, whatever list it brings', async () => {
    const { started, publish, asked } = await begin(rival)
    const folder = await started.folder({
      'package.json': JSON.stringify({ name: 'plain', version: '1.0.0', keywords: ['senmon-skill'], bin: 'skill.js' }),
      'skill.js': '#!/usr/bin/env node\n',
      'dist/tools.json': '[{"name":"lie","description":"","inputSchema":{"type":"object"}}]',
    })
    expect(await started.npm('acme-key', folder, 'publish')).toMatchObject({ code: 0 })
    const skill = '[experts."user".skills."s"]\ntype = "mcpStdioSkill"\npackageName = "plain"\n'
    const { skills } = await publish(`base = []\n${skill}`)
    expect(skills['s']).toMatchObject({ unpinned: 'this registry asks no skill' })
    expect(asked).toHaveLength(1)
  })
})
