/**
 * MCP servers that nobody here wrote, published with all that they need and run in real compartments: the older
 * protocol, dependencies by the dozen, and no idea of where they are.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { fakeClock } from '../fake/fake-clock.ts'
import { openInstaller } from '../../registry/installer.ts'
import { elicitationQuestionOf } from '../../schema/elicitation.ts'
import type { Lock } from '../../schema/lock.ts'
import { rootRunId } from '../../schema/question.ts'
import { refuseAnswer } from '../../src/job/answer.ts'
import { startRegistry, type TestRegistry } from '../support/npm-registry.ts'
import { publishInstalled } from '../support/installed-packages.ts'
import { JOB_ID, MachineDrive } from '../support/machine-drive.ts'
import { openHost, openSandboxes, sandboxMissing, type OpenLocalHost } from '../support/sandbox.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { driveSkills, type SkillDrive } from '../support/skill-drive.ts'

const missing = await sandboxMissing()

const SERVERS = ['everything', 'filesystem', 'memory', 'sequential-thinking'].map(
  (name) => `@modelcontextprotocol/server-${name}`,
)
const TOML = `[experts."tester"]
instruction = "Try the tools."
[experts."tester".skills."all"]
type = "mcpStdioSkill"
command = "npx"
args = ["-y", "@modelcontextprotocol/server-everything"]
[experts."tester".skills."disk"]
type = "mcpStdioSkill"
packageName = "@modelcontextprotocol/server-filesystem"
args = ["/workspace", "~"]
[experts."tester".skills."memory"]
type = "mcpStdioSkill"
packageName = "@modelcontextprotocol/server-memory"
requiredEnv = ["MEMORY_FILE_PATH"]
[experts."tester".skills."thinking"]
type = "mcpStdioSkill"
packageName = "@modelcontextprotocol/server-sequential-thinking@2026.8.31"
`

describe.skipIf(missing !== undefined)(
  `servers that others wrote${missing === undefined ? '' : ` (${missing})`}`,
  () => {
    let registry: TestRegistry
    let opened: OpenLocalHost
    let lock: Lock
    const drives: MachineDrive[] = []
    beforeAll(async () => {
      registry = await startRegistry()
      await publishInstalled(registry, 'acme-key', SERVERS)
      const manifest = { name: 'tester', version: '1.0.0', keywords: ['senmon-expert'], files: ['senmon.toml'] }
      const folder = await registry.folder({ 'package.json': JSON.stringify(manifest), 'senmon.toml': TOML })
      const published = await registry.npm('acme-key', folder, 'publish')
      expect(published.code, published.stderr).toBe(0)
      lock = (await registry.packages.findLock('tester', '1.0.0', 'tester')) as Lock
      const { packages, content } = registry
      const installer = openInstaller({
        directory: scratchDirectory('skills', '/var/tmp'),
        content,
        packages,
        clock: fakeClock(0),
      })
      opened = await openHost(openSandboxes, { install: (skill) => installer.install(skill) })
    })
    afterEach(async () => {
      await Promise.all(drives.splice(0).map((drive) => drive.destroy()))
    })
    afterAll(async () => {
      await opened.close()
      await registry.close()
    })

    async function start(): Promise<SkillDrive & { readonly drive: MachineDrive }> {
      const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock))
      drives.push(drive)
      drive.secrets['MEMORY_FILE_PATH'] = '/workspace/memory.jsonl'
      return { ...driveSkills(drive, lock), drive }
    }

    it.each([
      ['all', 'echo', 'get-tiny-image', 'trigger-long-running-operation'],
      ['disk', 'read_text_file', 'write_file', 'directory_tree'],
      ['memory', 'create_entities', 'read_graph', 'search_nodes'],
      ['thinking', 'sequentialthinking'],
    ])('lists the tools of %s', async (skill, ...tools) => {
      const { list } = await start()
      const listed = await list(skill)
      expect(Array.isArray(listed) && listed.map((tool) => tool.name)).toEqual(expect.arrayContaining(tools))
    })

    it('gets text, data, images and resources from server-everything', async () => {
      const { call } = await start()
      expect(await call('all', 'echo', { message: 'hi' })).toMatchObject({
        content: [{ text: 'Echo: hi' }],
        isError: false,
      })
      expect(await call('all', 'get-structured-content', { location: 'Chicago' })).toMatchObject({
        structured: { temperature: expect.any(Number), conditions: expect.any(String) },
      })
      expect(await call('all', 'get-tiny-image')).toMatchObject({
        content: [{ type: 'text' }, { type: 'image', mediaType: 'image/png' }, { type: 'text' }],
      })
      expect(await call('all', 'get-resource-reference', { resourceType: 'Text', resourceId: 1 })).toMatchObject({
        content: [{}, { text: expect.stringContaining('[resource demo://resource/dynamic/text/1]\nResource 1') }, {}],
      })
      expect(await call('all', 'get-resource-links', { count: 1 })).toMatchObject({
        content: [{}, { text: expect.stringMatching(/^\[resource demo:.*: .*\]$/) }],
      })
      const blob = { name: 'x.gz', data: 'data:text/plain,hello', outputType: 'resource' }
      expect(await call('all', 'gzip-file-as-resource', blob)).toMatchObject({
        content: [{ text: expect.stringContaining('of type application/gzip') }],
      })
    })

    it('lets server-everything ask a human, and hears what it makes of the answer', async () => {
      const { callAsking } = await start()
      const first = await callAsking('all', 'trigger-elicitation-request', [])
      if (!('asks' in first)) throw new Error(JSON.stringify(first))
      const [{ asked } = { asked: { message: '', url: '' } }] = first.asks
      expect(asked.message).toBe('Please provide inputs for the following fields:')
      const part = { type: 'toolCall', callId: 'call_1_0', name: 'all/trigger-elicitation-request', args: {} } as const
      const question = elicitationQuestionOf(JOB_ID, rootRunId(JOB_ID, 0), part, asked, 0)
      const reply = { action: 'accept', content: { name: 'Ann', check: true, integer: 7 } } as const
      expect(refuseAnswer(question, reply.content)).toBeUndefined()
      expect(refuseAnswer(question, { name: 'Ann', integer: 700 })).toBeDefined()
      const known = [{ question, reply, resumption: null }]
      expect(await callAsking('all', 'trigger-elicitation-request', known)).toMatchObject({
        isError: false,
        content: expect.arrayContaining([{ type: 'text', text: expect.stringContaining('Ann') }]),
      })
    })

    it('reads resources of server-everything, those that a result links to among them', async () => {
      const { call } = await start()
      expect(await call('all', 'readResource')).toMatchObject({
        content: [{ text: expect.stringMatching(/^demo:\/\/\S+ /) }],
      })
      const uri = 'demo://resource/dynamic/text/1'
      expect(await call('all', 'readResource', { uri })).toMatchObject({
        content: [{ text: expect.stringContaining(`[resource ${uri}]\nResource 1`) }],
        isError: false,
      })
      expect(await call('all', 'readResource', { uri: 'file:///etc/passwd' })).toMatchObject({ isError: true })
    })

    it('shows them nothing of the host, and no variable but those of P7.3', async () => {
      const { call } = await start()
      const environment = { PATH: '/opt:/usr/bin:/bin', SENMON_WORKSPACE: '/workspace' }
      expect(await call('all', 'get-env')).toMatchObject({ content: [{ text: JSON.stringify(environment, null, 2) }] })
      expect(await call('disk', 'list_allowed_directories')).toMatchObject({
        content: [{ text: 'Allowed directories:\n/workspace\n/tmp' }],
      })
      expect(await call('disk', 'read_text_file', { path: '/etc/passwd' })).toMatchObject({ isError: true })
    })

    it('gives errors back as what the model reads, and the server goes on', async () => {
      const { call } = await start()
      expect(await call('all', 'get-sum', { a: 'x' })).toMatchObject({
        isError: true,
        content: [{ text: expect.stringContaining('expected number') }],
      })
      expect(await call('all', 'no-such-tool')).toMatchObject({
        isError: true,
        content: [{ text: expect.stringContaining('no-such-tool not found') }],
      })
      expect(await call('all', 'get-sum', { a: 1, b: 2 })).toMatchObject({ isError: false })
    })

    it('lets a call that tells of progress take longer than a silent one may', async () => {
      const { call, drive, pass, untilSent } = await start()
      const telling = call('all', 'trigger-long-running-operation', { duration: 1, steps: 5 })
      for (let told = 1; told <= 3; told++) {
        const isTold = () => drive.heard.filter((line) => JSON.stringify(line).includes('notifications/progress'))
        await drive.untilHeard(() => isTold().length >= told)
        // Heard by whoever drives the machine, it is heard by the client at the latest now.
        await new Promise((next) => setImmediate(next))
        pass(0.9)
      }
      expect(await telling).toMatchObject({ isError: false })
      const silent = call('all', 'trigger-long-running-operation', { duration: 600, steps: 1 })
      await untilSent((line) => JSON.stringify(line).includes('"duration":600'))
      pass()
      expect(await silent).toMatchObject({ code: 'skill_hung' })
      expect(await call('all', 'echo', { message: 'again' })).toMatchObject({ content: [{ text: 'Echo: again' }] })
    })

    it('tells a server that a call is canceled, and the server goes on', async () => {
      const { call, drive } = await start()
      await call('all', 'echo', { message: 'warm' })
      const stop = new AbortController()
      const calling = call('all', 'trigger-long-running-operation', { duration: 60, steps: 600 }, stop.signal)
      await drive.untilHeard((line) => JSON.stringify(line).includes('notifications/progress'))
      stop.abort(new Error('canceled here'))
      await expect(calling).rejects.toThrow('canceled here')
      expect(await call('all', 'echo', { message: 'on' })).toMatchObject({ content: [{ text: 'Echo: on' }] })
      expect(drive.said.filter((line) => line.type === 'log' && line.text.includes('Starting default'))).toHaveLength(1)
    })

    it('keeps what they write in the workspace', async () => {
      const { call, drive } = await start()
      await call('disk', 'write_file', { path: 'notes/../a.txt', content: 'from disk' })
      await call('memory', 'create_entities', {
        entities: [{ name: 'senmon', entityType: 'platform', observations: ['runs experts'] }],
      })
      expect(await call('memory', 'read_graph')).toMatchObject({ structured: { entities: [{ name: 'senmon' }] } })
      expect(await call('disk', 'read_text_file', { path: '/workspace/memory.jsonl' })).toMatchObject({
        content: [{ text: expect.stringContaining('runs experts') }],
      })
      const last = drive.said.findLast((line) => line.type === 'workspace')
      expect(drive.content.read(last?.treeHash ?? '')).toMatchObject({ 'a.txt': 'from disk' })
    })

    it('holds the state of a server between its calls', async () => {
      const { call } = await start()
      const thought = (thoughtNumber: number) =>
        call('thinking', 'sequentialthinking', {
          thought: 'hm',
          nextThoughtNeeded: true,
          thoughtNumber,
          totalThoughts: 2,
        })
      await thought(1)
      expect(await thought(2)).toMatchObject({ structured: { thoughtHistoryLength: 2 } })
    })
  },
)
