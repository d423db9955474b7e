/** A skill that nobody here wrote, from npm to a job: `senmon publish`, an expert that uses it, a rehearsal. */
import { rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/npm-registry.ts'
import { publishInstalled } from '../support/installed-packages.ts'
import { readEvents } from '../support/platform-job.ts'
import { expertPackage, npmPublish, startLightly, type Platform } from '../support/platform.ts'
import { runProgram, type Finished } from '../support/program.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()
const root = resolve(import.meta.dirname, '../..')

const toml = `model = "rehearsal/keep"
[experts."keeper"]
instruction = "Keep what you hear."
[experts."keeper".skills."memory"]
type = "mcpStdioSkill"
command = "npx"
args = ["-y", "@modelcontextprotocol/server-memory"]
requiredEnv = ["MEMORY_FILE_PATH"]
`
const entities = [{ name: 'senmon', entityType: 'platform', observations: ['runs experts'] }]
const rehearsal = {
  turns: [
    { step: 1, calls: [{ tool: 'memory/create_entities', args: { entities } }] },
    { step: 2, calls: [{ tool: 'memory/read_graph' }] },
    { when: { tool: 'memory/read_graph', resultContains: 'runs experts' }, text: 'Kept.' },
  ],
}

describe.skipIf(missing !== undefined)('a server from npm', () => {
  let upstream: TestRegistry
  let platform: Platform
  beforeAll(async () => {
    upstream = await startRegistry()
    await publishInstalled(upstream, 'acme-key', ['@modelcontextprotocol/server-memory'])
    platform = await startLightly()
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
    await upstream.close()
  })

  async function senmon(...args: readonly string[]): Promise<Finished> {
    const npmrc = join(upstream.directory, 'upstream-npmrc')
    const auth = `${upstream.url.replace('http:', '')}:_authToken=acme-key`
    await writeFile(npmrc, `registry=${upstream.url}\n${auth}\ncache=${join(upstream.directory, 'cache')}\n`)
    return runProgram(process.execPath, [join(root, 'src/cli/main.ts'), ...args], {
      env: { SENMON_URL: platform.url, SENMON_KEY: platform.key, npm_config_userconfig: npmrc },
      input: '/workspace/memory.jsonl',
    })
  }

  it('is published with all that it needs, once, and used by an expert', async () => {
    const first = await senmon('publish', '@modelcontextprotocol/server-memory', '--json')
    expect(first.code, first.stderr).toBe(0)
    const { version, published } = JSON.parse(first.stdout) as { version: string; published: { name: string }[] }
    expect(published.length).toBeGreaterThan(50)
    const again = await senmon('publish', `@modelcontextprotocol/server-memory@${version}`)
    expect(again.stdout).toContain(`server-memory@${version} is here: 0 packages published, ${published.length} were.`)

    await npmPublish(
      platform,
      await expertPackage('keeper', toml, { 'rehearsals/keep.json': JSON.stringify(rehearsal) }),
    )
    expect((await senmon('secret', 'set', 'MEMORY_FILE_PATH')).code).toBe(0)
    const ran = await senmon('run', 'keeper', 'Senmon runs experts.')
    expect(ran.stdout, ran.stderr).toContain('Kept.')

    // Its tools are in the lock: nothing was listed when the job ran, and the model saw them all the same.
    const query = '{ expert(key: "keeper") { lock { experts { skills { tools unpinned } } } } jobs { nodes { id } } }'
    const { expert, jobs } = await platform.graphql<{
      expert: { lock: { experts: [{ skills: [{ tools: readonly { name: string }[]; unpinned: null }] }] } }
      jobs: { nodes: [{ id: string }] }
    }>(query)
    const [skill] = expert.lock.experts[0].skills
    expect(skill.tools.map(({ name }) => name)).toEqual(expect.arrayContaining(['create_entities', 'read_graph']))
    expect(skill.unpinned).toBeNull()
    const types = (await readEvents(platform, jobs.nodes[0].id)).map(({ type }) => type)
    expect(types).toContain('toolReturned')
    expect(types).not.toContain('toolsListed')
  })

  it('is held to the tools that an author picks', async () => {
    const picking = toml.replaceAll('keeper', 'picker').replace('requiredEnv', 'pick = ["read_grapf"]\nrequiredEnv')
    const refused = npmPublish(platform, await expertPackage('picker', picking))
    await expect(refused).rejects.toThrow('picks the tool "read_grapf", which is not there; it offers create_entities')
  })

  it('is refused in a sentence when npm does not find it, or the name is none', async () => {
    const absent = await senmon('publish', 'there-is-no-such-package')
    expect([absent.code, absent.stderr]).toEqual([
      4,
      expect.stringContaining('[package_not_found] npm install failed:'),
    ])
    for (const spec of ['../here', 'git+ssh://x', '--registry=http://x', 'a b', 'https://x/y.tgz', 'file:.'])
      expect((await senmon('publish', '--', spec)).code, spec).toBe(2)
  })
})
