/** Forks and bundles on real parts: the files of a moment, byte for byte, here and on another platform. */
import { createHash } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, skillPackage, startLightly, type Platform } from '../support/platform.ts'
import { finishJob, probe, readEvents, resultsOf, runJob, type SeenEvent } from '../support/platform-job.ts'
import { runProgram } from '../support/program.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()

/** What the delegate writes first, over several directories: bytes of every value, an empty file, one to be run. */
const WRITE = `const fs = await load('node:fs')
  fs.mkdirSync('/workspace/deep/er', { recursive: true })
  fs.writeFileSync('/workspace/deep/er/all.bin', Buffer.from(Array.from({ length: 70000 }, (_, i) => (i * 7 + (i >> 8)) & 255)))
  fs.writeFileSync('/workspace/empty', '')
  fs.writeFileSync('/workspace/deep/名前.txt', 'ünïcode')
  fs.writeFileSync('/workspace/run.sh', 'echo hi'); fs.chmodSync('/workspace/run.sh', 0o755)`
const SPOIL = `const fs = await load('node:fs')
  fs.rmSync('/workspace/deep', { recursive: true }); fs.writeFileSync('/workspace/empty', 'no longer'); fs.chmodSync('/workspace/run.sh', 0o644)`
const LIST = `const fs = await load('node:fs'); const { createHash } = await load('node:crypto')
  return fs.readdirSync('/workspace', { recursive: true }).filter((path) => fs.statSync('/workspace/' + path).isFile()).sort()
    .map((path) => path + ' ' + createHash('sha256').update(fs.readFileSync('/workspace/' + path)).digest('hex') + ' ' + !!(fs.statSync('/workspace/' + path).mode & 64))`

const hashOf = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex')
const WRITTEN = [
  `deep/er/all.bin ${hashOf(Uint8Array.from({ length: 70_000 }, (_, i) => (i * 7 + (i >> 8)) & 255))} false`,
  `deep/名前.txt ${hashOf('ünïcode')} false`,
  `empty ${hashOf('')} false`,
  `input/given.txt ${hashOf('given')} false`,
  `run.sh ${hashOf('echo hi')} true`,
]

const toml = `model = "rehearsal/spoil"
[experts."lead"]
instruction = "Have it dug."
delegates = ["digger"]
[experts."digger"]
description = "Digs."
instruction = "Dig."
[experts."digger".skills."probe"]
type = "mcpStdioSkill"
packageName = "probe"
`
const rehearsal = (second: string) =>
  JSON.stringify({
    turns: [
      { expert: 'lead', step: 1, calls: [{ tool: 'delegate/digger', args: { query: 'dig' } }] },
      { expert: 'lead', step: 2, text: 'It was dug.' },
      { expert: 'digger', step: 1, text: 'I write.', calls: [probe(WRITE)] },
      { expert: 'digger', step: 2, text: 'I go on.', calls: [probe(second)] },
      { expert: 'digger', step: 3, text: 'I look.', calls: [probe(LIST)] },
      { expert: 'digger', text: 'Dug.' },
    ],
  })

async function publishTeam(platform: Platform): Promise<void> {
  await npmPublish(platform, await skillPackage('probe', 'probe'))
  const files = { 'rehearsals/spoil.json': rehearsal(SPOIL), 'rehearsals/list.json': rehearsal(LIST) }
  await npmPublish(platform, await expertPackage('lead', toml, files))
}

const listings = (events: readonly SeenEvent[]): readonly unknown[] =>
  resultsOf(events).flatMap(({ name, text }) => {
    if (!name.startsWith('probe/')) return []
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) ? [value] : []
  })

describe.skipIf(missing !== undefined)('a job with files', { timeout: 180_000 }, () => {
  let here: Platform
  let there: Platform
  let directory: string
  let jobId: string
  let events: readonly SeenEvent[]
  /** The checkpoint of the delegate's first step. */
  let early: { readonly id: string; readonly treeHash: string }

  beforeAll(async () => {
    directory = scratchDirectory('bundle')
    here = await startLightly()
    there = await startLightly()
    await publishTeam(here)
    const files = [{ path: 'given.txt', text: 'given' }]
    const ran = await runJob(here, { expertKey: 'lead', query: 'Dig.', files })
    expect(ran.job, JSON.stringify(ran.results)).toMatchObject({ outcome: 'completed' })
    jobId = ran.job.id
    events = ran.events
    const { job } = await here.graphql<{
      job: { checkpoints: { nodes: { id: string; expertKey: string; stepNumber: number; treeHash: string }[] } }
    }>('query ($id: ID!) { job(id: $id) { checkpoints { nodes { id expertKey stepNumber treeHash } } } }', {
      id: jobId,
    })
    const found = job.checkpoints.nodes.find((one) => one.expertKey.includes('digger') && one.stepNumber === 1)
    if (found === undefined) throw new Error('the delegate took no step')
    early = found
  })
  afterAll(async () => {
    for (const platform of [here, there]) {
      await platform?.stop()
      if (platform !== undefined) await rm(platform.dataDirectory, { recursive: true, force: true })
    }
    await rm(directory, { recursive: true, force: true })
  })

  const senmon = (platform: Platform | null, ...args: readonly string[]) =>
    runProgram(process.execPath, [join(ROOT, 'src/cli/main.ts'), ...args], {
      cwd: directory,
      // Without a platform there is no server and no key: what works then works offline.
      env:
        platform === null
          ? { SENMON_URL: 'http://127.0.0.1:9' }
          : { SENMON_URL: platform.url, SENMON_KEY: platform.key },
    })
  const bundle = () => `${jobId}.senmon-job`

  it('has the files of its end, not of a moment before', () => {
    expect(listings(events)).toEqual([
      [`empty ${hashOf('no longer')} false`, WRITTEN[3], `run.sh ${hashOf('echo hi')} false`],
    ])
  })

  it("is forked from a delegate's checkpoint with the files of that moment, byte for byte (FK3)", async () => {
    const forked = await senmon(
      here,
      'fork',
      jobId,
      '--at',
      early.id,
      '--model',
      'rehearsal/list',
      '--json',
      '--detach',
    )
    expect(forked.code, forked.stderr).toBe(0)
    const { id } = JSON.parse(forked.stdout) as { id: string }
    const fork = await finishJob(here, id)
    expect(fork.job, JSON.stringify(fork.results)).toMatchObject({ outcome: 'completed', result: 'It was dug.' })
    expect(listings(fork.events)).toEqual([WRITTEN, WRITTEN])
    const { job } = await here.graphql<{ job: { workspace: { treeHash: string }; forkedFrom: object } }>(
      'query ($id: ID!) { job(id: $id) { workspace { treeHash } forkedFrom { jobId seq } } }',
      { id },
    )
    expect(job.workspace.treeHash).toBe(early.treeHash)
    expect(await readEvents(here, jobId)).toEqual(events)
  })

  it('is asked what if another model went on from there, and shows where the two part', async () => {
    const asked = await senmon(here, 'fork', jobId, '--at', early.id, '--what-if', '--model', 'rehearsal/list')
    expect(asked.code, asked.stderr).toBe(0)
    expect(asked.stdout).toMatch(/^It was dug\.\n\n--- job_\w+ after event \d+\n\+\+\+ job_\w+\n/)
    expect(asked.stdout).toContain('  step 2 of lead/digger@1.0.0: another calls, results, tree\n')
    expect(asked.stdout).toContain('the first divergence is step 2 of lead/digger@1.0.0; 5 steps,')
    const unchanged = await senmon(here, 'fork', jobId, '--what-if')
    expect([unchanged.code, unchanged.stderr]).toEqual([2, expect.stringContaining('--what-if needs')])
  })

  it('is exported, verified without any server, and any damage to it is named', async () => {
    const exported = await senmon(here, 'export', jobId)
    expect(exported).toMatchObject({ code: 0, stdout: `${join(directory, bundle())}\n` })
    const verified = await senmon(null, 'verify', bundle())
    expect(verified.stderr).toBe('')
    expect(verified.stdout).toContain(`${jobId}: ${events.length} events, 6 steps; the chain holds, its head is`)
    expect(verified.stdout).toContain('1 lock, 2 prompts,')
    const text = await readFile(join(directory, bundle()), 'utf8')
    await writeFile(join(directory, 'bad.senmon-job'), text.replace('Dug.', 'Bug.'))
    const bad = await senmon(null, 'verify', 'bad.senmon-job')
    expect(bad).toMatchObject({ code: 2, stdout: '' })
    expect(bad.stderr).toMatch(/^\[bundle_invalid\] Event \d+ does not hash to what it says/)
    expect((await senmon(here, 'verify', jobId, '--files')).stdout).toBe(verified.stdout)
    expect((await senmon(here, 'verify', jobId)).stdout).toContain('the files were left out')
  })

  it('shows what each generation was asked with, once what stays the same', async () => {
    const { stdout, code } = await senmon(here, 'log', jobId, '--prompts')
    expect(code).toBe(0)
    expect(stdout.match(/^event \d+: step \d+ of /gm)).toHaveLength(6)
    expect(stdout.match(/^\[instruction\]$/gm)).toHaveLength(2)
    expect(stdout).toContain('[instruction]\nHave it dug.\n')
    expect(stdout).toContain('[user]\ndig\n')
    const lines = (await senmon(here, 'log', jobId, '--prompts', '--json')).stdout.trimEnd().split('\n')
    const asked = lines.map(
      (line) => JSON.parse(line) as { instruction: string; messages: unknown[]; promptHash: string },
    )
    const generated = events.filter(({ type }) => type === 'generated').map(({ data }) => data['promptHash'])
    expect(asked.map(({ promptHash }) => promptHash)).toEqual(generated)
    expect(asked.at(-1)?.messages).toHaveLength(3)
  })

  it('is replayed offline to every state it was in, and played again at no cost until something differs (MR1, MR2)', async () => {
    const replayed = await senmon(null, 'replay', bundle(), '--model')
    expect(replayed).toMatchObject({ code: 0, stderr: '' })
    expect(replayed.stdout).toBe(
      `${jobId}: ${events.length} events, 6 of 6 states are what their hashes say\n` +
        'played 6 generations and 4 tool results from the log, at no cost: no divergence\n',
    )
    expect((await senmon(here, 'replay', jobId, '--model')).stdout).toBe(replayed.stdout)
    const told = await senmon(null, 'replay', bundle(), '--model', '--instruction', 'Have it dug twice.')
    expect(told.code).toBe(1)
    expect(told.stdout).toContain(
      ': another prompt would be sent\n' +
        '  then: line 1 of the instruction: Have it dug.\n' +
        '  now:  line 1 of the instruction: Have it dug twice.\n',
    )
    const bad = await senmon(null, 'replay', 'bad.senmon-job')
    expect([bad.code, bad.stderr]).toEqual([2, expect.stringContaining('[bundle_invalid] Event')])
    const unmeant = await senmon(null, 'replay', bundle(), '--instruction', 'x')
    expect([unmeant.code, unmeant.stderr]).toEqual([2, expect.stringContaining('need --model')])
  })

  it('becomes history on another platform, where a fork of it goes on with its files (BE3, FK5)', async () => {
    expect((await senmon(there, 'import', bundle())).stdout).toBe(`${jobId}\n`)
    expect((await readEvents(there, jobId)).slice(0, -1)).toEqual(events)
    const again = await senmon(there, 'import', bundle())
    expect([again.code, again.stderr]).toEqual([5, expect.stringContaining('[job_exists]')])
    for (const [verb, code] of [['continue', 5] as const, ['cancel', 5] as const])
      expect((await senmon(there, verb, jobId, ...(verb === 'continue' ? ['more'] : []))).code).toBe(code)

    const fork = ['fork', jobId, '--at', String(seqOf(early.id)), '--model', 'rehearsal/list', '--json', '--detach']
    const unpublished = await senmon(there, ...fork)
    expect([unpublished.code, unpublished.stdout]).toEqual([5, expect.stringContaining('lock_unpublished')])
    await publishTeam(there)
    const forked = await senmon(there, ...fork)
    expect(forked.code, forked.stdout).toBe(0)
    const { id } = JSON.parse(forked.stdout) as { id: string }
    const ran = await finishJob(there, id)
    expect(ran.job, JSON.stringify(ran.results)).toMatchObject({ outcome: 'completed' })
    expect(listings(ran.events)).toEqual([WRITTEN, WRITTEN])
  })
})

const seqOf = (checkpointId: string): number => Number(checkpointId.split('_').at(-1))
