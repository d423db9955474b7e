/** Jobs on Fly from query to result: what is simulated is Fly, and nothing else. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { flyCampaignOn, flySettings, guestsLeft } from '../campaign/fly.ts'
import { openFlyPlatform, type FlyPlatform } from '../support/fly-platform.ts'
import { expertPackage, npmPublish, skillPackage, until, type Platform } from '../support/platform.ts'
import { probe, runJob, turns, type SeenEvent, type SeenResult } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const MACHINES_MAX = 4
const toml = `[experts."flyer"]
instruction = "Write it down."
model = "rehearsal/fly"
[experts."flyer".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
[experts."flyer".skills."probe"]
type = "mcpStdioSkill"
packageName = "probe"
`
/** What a skill sees of the job before, and of what Fly gives a machine. */
const LOOK = `const fs = await load('node:fs')
  const found = (path) => { try { return fs.statSync(path).mode } catch (error) { return error.code } }
  const before = fs.readdirSync('/workspace')
  fs.writeFileSync('/workspace/left.txt', 'left')
  const env = Object.keys(process.env).filter((name) => /^(FLY|AWS)_/.test(name))
  return { before, fly: ['/.fly', '/.fly/api', '/.fly/oidc_token'].map(found), env }`
const write = { tool: 'files/write_file', args: { path: 'report.md', content: 'It flew.' } }
const rehearsals = { 'rehearsals/fly.json': turns([[probe(LOOK)], [write]], 'It flew.') }
const NOTHING = { before: ['input'], fly: ['ENOENT', 'ENOENT', 'ENOENT'], env: [] }

const ms = (): unknown => expect.any(Number)

interface Started {
  readonly host: string
  readonly resume: string
  readonly bootId: string
}

describe.skipIf(missing !== undefined)('a job on Fly', () => {
  let fly: FlyPlatform
  let platform: Platform
  beforeAll(async () => {
    fly = await openFlyPlatform({ seed: 1, profile: 'fast', limits: 1 })
    platform = await fly.start(flySettings({ machinesMax: MACHINES_MAX }))
    // To know what a skill offers, it is started once: in a machine.
    await npmPublish(platform, await skillPackage('probe', 'probe'))
    await npmPublish(platform, await expertPackage('flyer', toml, rehearsals))
  })
  afterAll(async () => {
    await fly?.close()
    expect(guestsLeft()).toEqual([])
  })

  const startedIn = (events: readonly SeenEvent[]): Started =>
    events.find(({ type }) => type === 'machineStarted')?.data as unknown as Started // the log's own
  const lookedIn = (results: readonly SeenResult[]): unknown => JSON.parse(results[0]?.text ?? '')
  const boots = new Set<string>()

  it('is done in a machine that says by Fly’s word who it is, with the skills of its lock, and sees nothing of Fly', async () => {
    const { job, events, results } = await runJob(platform, { expertKey: 'flyer', query: 'Fly.' })
    expect(job).toMatchObject({ outcome: 'completed', result: 'It flew.' })
    expect(startedIn(events)).toMatchObject({ host: 'fly', bootId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string })
    boots.add(startedIn(events).bootId)
    expect(lookedIn(results)).toEqual(NOTHING)
    expect(results[1]).toMatchObject({ name: 'files/write_file', isError: false })
    const items = await platform.fetch(`/expert_jobs/${job.id}/workspace_instance/items?path=report.md`)
    expect(JSON.stringify(await items.json())).toContain('report.md')
    for (const { config } of fly.sim.machines())
      expect(Object.keys(config?.env ?? {}).toSorted()).toEqual(['SENMON_MACHINE_ID', 'SENMON_MACHINE_URL'])
  })

  it('resumes a machine that was suspended, in the boot in which it was', async () => {
    const [suspended] = await until(async () => {
      const found = fly.sim.machines().filter(({ state }) => state === 'suspended')
      return found.length > 0 ? found : undefined
    })
    // They stand still, and are there: what is counted at the end can be counted.
    expect(guestsLeft().length).toBeGreaterThan(0)
    const { events, results } = await runJob(platform, { expertKey: 'flyer', query: 'Fly.' })
    expect(startedIn(events)).toMatchObject({ resume: 'resumed' })
    boots.add(startedIn(events).bootId)
    expect(fly.sim.machines().find(({ id }) => id === suspended?.id)?.boot).toBe(suspended?.boot)
    expect(lookedIn(results)).toEqual(NOTHING)
  })

  it('finds nothing of the one before where its machine had another: it was stopped, and boots anew', async () => {
    for (let jobs = 0; jobs < 2; jobs++) {
      const { events, results } = await runJob(platform, { expertKey: 'flyer', query: 'Fly.' })
      boots.add(startedIn(events).bootId)
      expect(lookedIn(results)).toEqual(NOTHING)
    }
    expect(fly.sim.machines().length).toBeLessThanOrEqual(MACHINES_MAX)
    expect(boots.size).toBe(4)
  })

  const ofProbe = () =>
    fly.sim
      .machines()
      .filter(({ config, state }) => config?.metadata?.['pool'] === 'probe' && !state.startsWith('destroy'))

  it('is preceded by a probe, which boots, suspends and resumes a machine, begins a job in it, and leaves nothing (TR1)', async () => {
    const { code, said } = await fly.probe()
    expect(said).toEqual({
      name: 'fly',
      ok: true,
      resumed: true,
      ms: { boot: ms(), suspend: ms(), resume: ms(), job: ms(), destroy: ms() },
    })
    expect([code, ofProbe()]).toEqual([0, []])
  })

  it('is preceded by a probe that says where it cannot try a machine', async () => {
    const { port } = new URL(platform.url)
    const { code, said } = await fly.probe({ SENMON_PORT: port })
    expect([code, said]).toEqual([
      1,
      { name: 'fly', ok: false, reason: expect.stringMatching(/Port \d+ is taken/), fix: expect.any(String) },
    ])
    expect(ofProbe()).toEqual([])
  })

  // A sample of `npm run campaign -- fly`.
  it('ends once, whatever the API does and whoever is killed, and none sees what another left (I7, I8, I11, I12)', async () => {
    const verdict = await flyCampaignOn(fly, {
      jobs: 6,
      seed: 1,
      servers: 3,
      machinesMax: MACHINES_MAX,
      jobsAtOnce: 6,
      serverKillsMax: 2,
      isPatient: false,
      straysMs: 660_000,
      say: () => {},
    })
    expect(verdict.failures).toEqual([])
    expect(Math.min(verdict.kills.servers, verdict.kills.machines)).toBeGreaterThan(0)
    expect([verdict.orphans, verdict.tooFast.machine, verdict.tooFast.app]).toEqual([0, 0, 0])
  }, 900_000)
})
