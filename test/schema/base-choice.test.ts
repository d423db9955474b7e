/** Which base tools an expert has: by its own key, or as files of the origin say it. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BASE_SKILLS, namesWithout } from '../../schema/base-choice.ts'
import { implicitSkills } from '../../schema/base-skill.ts'
import { parseExpertFile } from '../../schema/expert-file.ts'
import type { Expert } from '../../schema/expert.ts'
import { isFaults } from '../../schema/toml-file.ts'

const head = '[experts."a"]\ninstruction = "Do it."\n'
const skill = (name: string, lines: string): string =>
  `[experts."a".skills."${name}"]\ntype = "mcpStdioSkill"\n${lines}\n`
const origin = (lines = ''): string =>
  skill('@perstack/base', `command = "npx"\npackageName = "@perstack/base"\n${lines}`)

function parsed(text: string): Expert {
  const file = parseExpertFile(`${head}${text}`, 'senmon.toml')
  if (isFaults(file)) throw new Error(file.map((fault) => fault.message).join('\n'))
  return file.experts['a'] ?? fail()
}
function fail(): never {
  throw new Error('no expert a')
}
function refused(text: string): readonly string[] {
  const file = parseExpertFile(`${head}${text}`, 'senmon.toml')
  return isFaults(file) ? file.map((fault) => fault.message) : []
}
const toolsOf = (text: string): readonly string[] => parsed(text).base.tools
const all = namesWithout([])

describe('the key base', () => {
  it('left out is every base tool; [] is none', () => {
    expect(toolsOf('')).toEqual(all)
    expect(toolsOf('base = []')).toEqual([])
    expect(all).toContain('shell/exec')
    expect(implicitSkills(parsed('base = []'))).toEqual({})
  })

  it('names what the expert keeps, by name or glob, and nothing else', () => {
    expect(toolsOf('base = ["files/read_*", "base/todo"]')).toEqual([
      'base/todo',
      'files/read_file',
      'files/read_image',
      'files/read_pdf',
    ])
    const names = fc.subarray([...all])
    fc.assert(
      fc.property(names, (kept) => {
        const expert = parsed(`base = ${JSON.stringify(kept)}`)
        expect([...expert.base.tools].toSorted()).toEqual([...kept].toSorted())
        const skills = Object.entries(implicitSkills(expert))
        const offered = skills.flatMap(([name, { pick }]) =>
          (pick ?? BASE_SKILLS[name as keyof typeof BASE_SKILLS].tools).map((tool) => `${name}/${tool}`),
        )
        expect(offered.toSorted()).toEqual(kept.filter((name) => !name.startsWith('base/')).toSorted())
      }),
    )
  })

  it('refuses what is no base tool, and tools of a skill that the file declares itself', () => {
    expect(refused('base = ["todo"]')).toEqual([
      'senmon.toml:3:9: base[0] in [experts."a"] is no base tool: "todo"; there are base/*, files/*, shell/*.',
    ])
    const files = skill('files', 'packageName = "@acme/files"')
    expect(refused(`base = ["files/read_file"]\n${files}`)).toEqual([
      'senmon.toml:3:9: base[0] in [experts."a"] names tools of the skill "files" that this expert declares itself; use its pick.',
    ])
  })
})

describe('a skill of the file', () => {
  it.each(['base', 'files', 'shell'])(
    'that is named %s takes the place of the one that comes with the platform',
    (name) => {
      const expert = parsed(skill(name, 'packageName = "@acme/own"'))
      expect(expert.base.tools).toEqual(all.filter((tool) => !tool.startsWith(`${name}/`)))
      expect(Object.keys(implicitSkills(expert))).toEqual(['files', 'shell'].filter((implicit) => implicit !== name))
      expect(expert.skills[name]).toMatchObject({ packageName: '@acme/own' })
    },
  )
})

describe('approvals', () => {
  const rule = (tool: string): string => `[[experts."a".approvals]]\ntool = "${tool}"\n`

  it('cover base tools that run in a compartment', () => {
    for (const tool of ['shell/exec', 'files/write_*', '*/exec']) expect(parsed(rule(tool)).approvals).toHaveLength(1)
  })

  it('are refused for base tools that the expert does not have, and for those that act on nothing', () => {
    for (const text of [`base = ["base/*"]\n${rule('shell/exec')}`, rule('base/todo'), rule('base/*')])
      expect(refused(text)).toEqual([expect.stringContaining('covers no tool of the skills and delegates')])
  })
})

describe('the base skill of the origin', () => {
  it('is no skill here, and by itself leaves all base tools', () => {
    expect(parsed(origin()).skills).toEqual({})
    expect(toolsOf(origin())).toEqual(all)
    const byArgs = skill('base', 'command = "npx"\nargs = ["-y", "@perstack/base@0.0.34"]\nlazyInit = false')
    expect(parsed(byArgs).skills).toEqual({})
    expect(toolsOf(byArgs)).toEqual(all)
  })

  it('picks among its tools, each under the name that it has here', () => {
    expect(toolsOf(origin('pick = ["readTextFile", "think", "attemptCompletion", "exec"]'))).toEqual([
      'base/attemptCompletion',
      'files/read_file',
      'shell/exec',
    ])
    expect(toolsOf(origin('pick = ["think"]'))).toEqual([])
  })

  it('omits among its tools; a tool that is two there is gone when either is', () => {
    expect(toolsOf(origin('omit = ["exec", "deleteFile"]'))).toEqual(
      all.filter((tool) => tool !== 'shell/exec' && tool !== 'files/delete'),
    )
    expect(toolsOf(origin('pick = ["deleteFile", "todo"]\nomit = ["deleteDirectory"]'))).toEqual(['base/todo'])
  })

  it('gives what it names of the environment to the shell, and to nothing else', () => {
    const { files, shell } = implicitSkills(
      parsed(origin('requiredEnv = ["GH_TOKEN"]\nallowedDomains = ["api.github.com"]')),
    )
    expect(shell).toMatchObject({ requiredEnv: ['GH_TOKEN'], allowedDomains: ['api.github.com'] })
    expect(files).toMatchObject({ requiredEnv: [], allowedDomains: [] })
    expect(implicitSkills(parsed(''))['shell']).toMatchObject({ requiredEnv: [], allowedDomains: [] })
  })

  it('keeps its rule', () => {
    expect(parsed(origin('rule = "Read first."')).base.rule).toBe('Read first.')
  })

  it('is refused, with the reason, for what has no meaning here', () => {
    expect(refused(origin('pick = ["readFile"]'))).toEqual([
      expect.stringContaining('is no tool of @perstack/base: "readFile"'),
    ])
    for (const key of ['requiredEnv = ["GH_TOKEN"]', 'allowedDomains = ["api.example.com"]'])
      expect(refused(origin(`omit = ["exec"]\n${key}`))).toEqual([expect.stringContaining('no effect without exec')])
    expect(refused(origin('args = ["--fast"]'))).toEqual([expect.stringContaining('has no meaning for @perstack/base')])
    expect(refused(`base = ["base/*"]\n${origin()}`)).toEqual([expect.stringContaining('remove one of the two')])
    expect(refused(`${origin()}${skill('again', 'packageName = "@perstack/base"')}`)).toEqual([
      expect.stringContaining('a second time'),
    ])
  })
})
